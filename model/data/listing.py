"""Which files belong together: folders of every supported layout, listed and paired by name."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from model.data.pictures import MAP_SUFFIXES, PHOTO_SUFFIXES
from model.errors import UserError, listed
from model.files import walk


class Item(NamedTuple):
    """Files that belong together; `image` is None where only label maps are given, `instance` where none are used.

    `name` is the path in the folder of label maps without suffix, "street/12", and names what is made of them.
    """

    name: str
    label: str
    image: str | None = None
    instance: str | None = None


class Listing(NamedTuple):
    """Where files were looked for, and what was found: {pairing key: path}; of `others`, the number by suffix."""

    folder: str
    files: dict[str, str]
    others: Counter[str] = Counter()


PORTRAIT = "portrait//"  # marks the pairing keys of COCO's portraits, whose names may be those of other pictures
# what files of each kind there are, and the suffixes that are read
KINDS = {"label": MAP_SUFFIXES, "image": PHOTO_SUFFIXES, "instance": MAP_SUFFIXES}


def natural_order(key: str) -> list:
    """A sort key for names in which numbers count as numbers: p2 before p10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", key) if part]


def list_folder(
    folder,
    suffixes,
    key: Callable[[str], str | None] = lambda path: os.path.splitext(path)[0],
    recursive: bool = False,
    without: Iterable[str] = (),
) -> Listing:
    """Picture files of one folder by pairing key in Unicode's form NFC; nothing hidden.

    Args:
        folder: where; need not be there.
        suffixes: of the files that are read.
        key: the pairing key of a file's path in `folder` (default: the path without suffix); None for other files.
        recursive: read the folders in it too.
        without: folders in it, by their whole real paths, that are not read.
    """
    found: dict[str, str] = {}
    others: Counter[str] = Counter()
    for inside, folders, names in walk(folder):
        places = {name: os.path.join(folder, inside, name) for name in folders if recursive}
        folders[:] = [name for name, place in places.items() if os.path.realpath(place) not in without]
        for name in names:
            k, suffix = key(os.path.join(inside, name)), os.path.splitext(name)[1].lower()
            if k is None:
                continue
            if suffix not in suffixes:
                others[suffix] += 1
                continue
            path = os.path.join(folder, inside, name)
            k = unicodedata.normalize("NFC", k)  # archives made on macOS hold names in the form NFD
            if k in found:
                raise UserError(
                    f"{path} and {found[k]} have the same name but for suffix, folder or Unicode form, and files are "
                    "paired by name: move one of them elsewhere; photos and maps belong in folders of their own"
                )
            found[k] = path
    return Listing(str(folder), found, others)


def passed_over(others: Mapping[str, int]) -> str:
    """How many files of which suffix are not read, for a message: "12 .gif, 1 .heic"; nothing without any."""
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in Counter(others).most_common())


def not_read(listings: dict[str, Listing]) -> str:
    """Which files of the listed folders are not read for their suffix, in words; nothing where all are."""
    told = []
    for kind, listing in listings.items():
        place = os.path.realpath(listing.folder)
        shared = [o for o in listings.values() if o is not listing and os.path.realpath(o.folder) == place]
        beside = {os.path.splitext(path)[1].lower() for other in shared for path in other.files.values()}
        others = {suffix: count for suffix, count in listing.others.items() if suffix not in beside}
        if others:
            told.append(f"{passed_over(others)} in {listing.folder} ({kind})")
    return "; ".join(told)


def _in_folders(root, *folders: str) -> dict[str, Listing]:
    """The files of the kinds, in the order of `KINDS`, that have such a folder in `root`."""
    return {kind: list_folder(Path(root, name), KINDS[kind]) for kind, name in zip(KINDS, folders, strict=False)}


def _flat(opt, phase: str) -> dict[str, Listing]:
    return _in_folders(opt.dataroot, f"{phase}_label", f"{phase}_img", f"{phase}_inst")


def _coco_stuff(opt, phase: str) -> dict[str, Listing]:
    """For training the `_portrait` folders too."""
    listings = _flat(opt, phase)
    for kind, found in listings.items() if phase == "train" else ():
        more = list_folder(f"{found.folder}_portrait", KINDS[kind])
        portraits = {PORTRAIT + key: path for key, path in more.files.items()}
        listings[kind] = Listing(found.folder, found.files | portraits, found.others + more.others)
    return listings


def _sample(opt, phase: str) -> dict[str, Listing]:
    from model.data.sample import ensure_sample

    ensure_sample(opt.dataroot)
    return _flat(opt, phase)


def _ade20k(opt, phase: str) -> dict[str, Listing]:
    root = Path(opt.dataroot)
    if (root / "ADEChallengeData2016").is_dir():
        root = root / "ADEChallengeData2016"
    if not (root / "annotations").is_dir() and (any(root.glob("index_ade20k*")) or any(root.glob("images/ADE"))):
        raise UserError(
            f"{root}: this is the full ADE20K release; SPADE uses the scene parsing benchmark, "
            "ADEChallengeData2016.zip, with its folders images and annotations"
        )
    return _in_folders(root, f"annotations/{SPLITS[phase][1]}", f"images/{SPLITS[phase][1]}")


def _cityscapes(opt, phase: str) -> dict[str, Listing]:
    def ending(tail):
        return lambda path: os.path.basename(path)[: -len(tail)] if path.endswith(tail) else None

    root = Path(opt.dataroot)
    maps, photos = root / "gtFine" / phase, root / "leftImg8bit" / phase
    return {
        "label": list_folder(maps, MAP_SUFFIXES, ending("_gtFine_labelIds.png"), recursive=True),
        "image": list_folder(photos, PHOTO_SUFFIXES, ending("_leftImg8bit.png"), recursive=True),
        "instance": list_folder(maps, MAP_SUFFIXES, ending("_gtFine_instanceIds.png"), recursive=True),
    }


# what the subfolders of label_dir, image_dir and instance_dir may be called, in any case and with a year behind
SPLITS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test", "testing")}


def _split(folder: str) -> str:
    """The phase that a subfolder of this name holds the files of; nothing for other names."""
    name = folder.lower().rstrip("0123456789")
    return next((phase for phase, names in SPLITS.items() if name in names), "")


def _chosen(opt, phase: str) -> dict[str, Listing]:
    """label_dir, image_dir, instance_dir; where such a folder has a subfolder of the phase (`SPLITS`), that.

    Files may lie in folders of their own, alike for maps and photos. In a folder that is given for both, photos are the
    files whose suffix no map may have.

    Raises:
        UserError: it has several such, or none and others, where label_dir has one; or photos cannot be told from maps.
    """
    listings, divided, known = {}, False, set()
    names = SPLITS[phase]
    real = {kind: os.path.realpath(getattr(opt, f"{kind}_dir")) for kind in KINDS if getattr(opt, f"{kind}_dir")}
    for kind in real:
        folder, suffixes = getattr(opt, f"{kind}_dir"), KINDS[kind]
        shared = kind == "image" and real[kind] in (real["label"], real.get("instance"))
        if shared:
            suffixes = [suffix for suffix in suffixes if suffix not in MAP_SUFFIXES]
        folders = next(walk(folder), ("", [], []))[1]
        inner = [name for name in folders if _split(name) == phase]
        splits = [name for name in folders if _split(name) in ("train", "val", phase)]
        others = [name for name in folders if name not in splits and name not in known]
        if len(inner) > 1:
            raise UserError(f"{folder} has {' and '.join(sorted(inner))}, which both mean {phase}: leave one there")
        if divided and not inner and others:
            raise UserError(
                f"{folder} has no subfolder {' or '.join(names)}, as {opt.label_dir} has, but {listed(others)}: "
                "call the subfolders of both alike"
            )
        if kind == "label":
            divided, known = bool(inner), set(folders)
        deep = bool(inner) or not splits
        listings[kind] = list_folder(Path(folder, *inner), suffixes, recursive=deep, without=set(real.values()))
        if splits and not inner and not listings[kind].files:
            listings[kind] = Listing(str(Path(folder, names[0])), {})  # which is missing, and told
        if shared and phase == "train" and not listings[kind].files:
            raise UserError(
                f"{listings[kind].folder} is given for photos and for maps, and has no photos that their suffix "
                f"({', '.join(suffixes)}) tells from maps: give photos and maps in folders of their own"
            )
    return listings


LAYOUTS: dict[str, Callable] = {
    "coco_stuff": _coco_stuff,
    "sample": _sample,
    "ade20k": _ade20k,
    "cityscapes": _cityscapes,
    "facades": _flat,
    # whose instance maps are not of the tutorial: tools/make_instance_maps.py's
    "camvid": lambda opt, phase: _in_folders(opt.dataroot, f"{phase}annot", phase, f"{phase}inst"),
}


def list_files(opt, phase: str) -> dict[str, Listing]:
    """The files of one phase by kind (label, image, instance): those of label_dir, else of dataset_mode's layout."""
    return (_chosen if opt.label_dir else LAYOUTS[opt.dataset_mode])(opt, phase)


def list_items(opt, phase: str, listings: dict[str, Listing] | None = None) -> list[Item]:
    """Pair the files of `opt.dataset_mode` for one phase, a key of `SPLITS`, sorted by name with numbers as numbers.

    Photos are required for training, and instance maps unless `opt.no_instance`; for other phases either folder may be
    missing or empty.

    Args:
        listings: what `list_files` gives, if it is known already.

    Raises:
        UserError: an empty or missing folder, or files without partner, with the first names and the counts.
    """
    if phase not in SPLITS:
        raise UserError(f"phase {phase!r} is unknown: expected one of {', '.join(SPLITS)}")
    listings = listings or list_files(opt, phase)
    labels = listings["label"]
    if not labels.files:
        there = os.path.isdir(labels.folder)
        state = f"holds no label maps ({', '.join(MAP_SUFFIXES)})" if there else "is not a folder"
        if labels.others:
            state += f" but {passed_over(labels.others)}"
        out = "--label_dir" if opt.label_dir else f"--dataroot and --dataset_mode ({opt.dataset_mode})"
        raise UserError(
            f"{labels.folder} {state}: check {out}; docs/data.md tells how to get the data, --preset sample needs none"
        )
    partners: dict[str, dict[str, str]] = {"image": {}, "instance": {}}
    problems = []
    for kind, what in (("image", "photo"), ("instance", "instance map")):
        found = listings.get(kind)
        if (phase != "train" and not (found and found.files)) or (kind == "instance" and opt.no_instance):
            continue
        if found is None:
            option = "--image_dir FOLDER" if kind == "image" else "--instance_dir FOLDER or --no_instance True"
            raise UserError(f"dataset_mode {opt.dataset_mode} has no {what}s here: pass {option}")
        problems.append(_unpaired(labels, found, what))
        partners[kind] = found.files
    if told := "; ".join(filter(None, problems)):
        raise UserError(f"{told}: files are paired by name (tools/check_dataset.py writes the whole list)")
    return paired(labels.files, *partners.values())[: opt.max_dataset_size]


def paired(*files: Mapping[str, str]) -> list[Item]:
    """Label maps, {pairing key: path}, with their photos and instance maps where these are, in natural order."""
    keys = sorted(files[0], key=natural_order)
    return [Item(key.removeprefix(PORTRAIT), *(found.get(key) for found in files)) for key in keys]


def apart(files: Mapping[str, str], others: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The pairing keys of files without a partner among the others, and the other way round, in natural order."""
    lone, extra = files.keys() - others.keys(), others.keys() - files.keys()
    return sorted(lone, key=natural_order), sorted(extra, key=natural_order)


def _unpaired(labels: Listing, others: Listing, what: str) -> str:
    """What lacks its partner in two folders, in words; nothing if all are paired."""
    lone, extra = apart(labels.files, others.files)
    problems = []
    for keys, of, partner, place in (
        (lone, f"{len(labels.files)} label maps", what, others),
        (extra, f"{len(others.files)} {what}s", "label map", labels),
    ):
        if not keys:
            continue
        note = ""
        if partner != "photo" and list_folder(place.folder, (".jpg", ".jpeg"), recursive=True).files.keys() & set(keys):
            note = f"; {place.folder} holds it as JPEG, which cannot hold ids: save maps as PNG"
        problems.append(f"{len(keys)} of {of} without {partner} ({listed(keys)}{note})")
    if not problems:
        return ""
    hints = [" and ".join(problems) + (", --no_instance does without" * (what == "instance map" and not others.files))]
    if unread := not_read({"label": labels, what: others}):
        hints.append(f"not read for their suffix: {unread}")
    if alike := renamed(lone, extra):
        hints.append(alike)
    return f"{labels.folder} and {others.folder}: {'; '.join(hints)}"


def renamed(lone: list[str], extra: list[str]) -> str:
    """A word on names that differ by the same beginning or ending in all files, else nothing."""
    if not lone or len(lone) != len(extra):
        return ""
    for short, long in ((lone, extra), (extra, lone)):
        rests = {b.replace(a, "*", 1) for a, b in zip(short, long, strict=True)}
        if len(rests) == 1 and "*" in rests.pop():
            return f"all names differ alike, as {lone[0]} and {extra[0]} do: rename one kind"
    return ""
