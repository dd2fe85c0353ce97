"""Files written whole or not at all, unused names, digests, arrays, and sizes for people."""

import contextlib
import errno
import hashlib
import itertools
import os
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from model.errors import UserError

# What Python's zipfile raises for damaged archives: seeking before the start is an OSError, a bad name a ValueError.
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, OSError)

_STALE = 3600.0  # seconds after which a temporary file is nobody's
_LONGEST_NAME = 255  # bytes of a file's name


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
    tail = os.fsencode(f".{os.getpid()}.tmp")
    temporary = path.with_name(os.fsdecode(b"." + os.fsencode(path.name)[: _LONGEST_NAME - 1 - len(tail)] + tail))
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
        check = "the length of the name" if error.errno == errno.ENAMETOOLONG else "the space and the permissions there"
        raise UserError(f"cannot write {path}: {error.strerror or error}; check {check}") from error


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, list[str], list[str]]]:
    """The folders in a folder, along links too, each listed once, without what is hidden.

    Yields:
        (path in `folder`, "" for itself; names of the folders there, from which the caller may take some out; names of
        the files there). Nothing where `folder` is not there.

    Raises:
        UserError: a folder cannot be read.
    """

    def tell(error):
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise UserError(f"{error.filename}: {error.strerror}: the folder cannot be listed") from None

    top = str(folder)
    real = {top: [os.path.realpath(top)]}  # of each folder to come, real paths from the top down to it
    for parent, folders, names in os.walk(top, onerror=tell, followlinks=True):
        above = real.pop(parent)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in list(folders):
            path, at = os.path.join(parent, name), os.path.join(above[-1], name)
            if os.path.islink(path):
                at = os.path.realpath(path)
                if any(os.path.commonpath([at, place]) == at for place in above):
                    folders.remove(name)  # it holds a folder on the way to itself, and leads around for ever
                    continue
            real[path] = [*above, at]
        inside = os.path.relpath(parent, top)
        yield "" if inside == "." else inside, folders, [name for name in names if not name.startswith(".")]


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
    numbered = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return next(free for free in itertools.chain([path], numbered) if not os.path.lexists(free))


def file_digest(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and type of the array of a .npy file, which is left at the first number.

    Raises:
        ValueError: it is no such file, or a damaged one.
    """
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        return readers[np.lib.format.read_magic(file)](file)
    except (KeyError, SyntaxError, tokenize.TokenError) as error:  # the header is Python text
        raise ValueError(f"its header is damaged: {error}") from None


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name; nothing in it is unpickled.

    Raises:
        UserError: it is no such file, a damaged one, or claims to hold far more than its bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            claimed, held = sum(info.file_size for info in archive.infolist()), os.stat(path).st_size
        if claimed > 50 * held + (1 << 20):
            raise UserError(f"{path}: {held} bytes claim to hold {claimed}, which weights never do (a zip bomb?)")
        with np.load(path) as file:
            arrays = dict(file)
        if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{strange[0]!r} is no array")
        return arrays
    except UserError:
        raise
    except Exception as error:  # NumPy raises of every kind at damaged files
        raise UserError(f"{path}: cannot read these NumPy arrays: {error}") from error


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
