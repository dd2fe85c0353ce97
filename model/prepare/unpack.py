"""Taking out of an official archive what is needed of it, and nothing from one that is not what it seems."""

import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from model.errors import UserError
from model.files import remove_leftovers, replacing, told_size
from model.prepare.archives import Archive


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
