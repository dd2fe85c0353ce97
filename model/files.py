"""Files written whole or not at all, unused names, digests, and sizes for people."""

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from model.errors import UserError

_STALE = 3600.0  # seconds after which a temporary file is nobody's


@contextlib.contextmanager
def replacing(path: str | os.PathLike, sync: bool = False) -> Iterator[Path]:
    """A temporary file's path; what is written there takes the place of `path` at the end, or vanishes on an error.

    Args:
        path: the file; its folder is made.
        sync: flush the file and its folder to the disk, so that not even a power cut leaves half of it.

    Raises:
        UserError: no space, no permission or the like, there or in the `with` block.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if sync:
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
            if sync:
                sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; check the space and the permissions there"
        ) from error


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Remove what `replacing` left in a folder when its process was killed."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                with contextlib.suppress(FileNotFoundError):  # its own process has just removed it
                    if time.time() - entry.stat().st_mtime > _STALE:
                        os.unlink(entry.path)


def unused(path: Path) -> Path:
    """`path`, or `path.1`, `path.2` ... if it exists."""
    candidate, number = path, 0
    while candidate.exists() or candidate.is_symlink():
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate


def file_digest(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync_folder(folder: str | os.PathLike) -> None:
    """Flush a folder's names to the disk, where its file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no such notion
            raise
    finally:
        os.close(handle)


def told_size(size: float) -> str:
    """Bytes for people: "21.3 GB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} bytes"
