"""Picture folders for the metrics: listing, pairing by name, reading in batches."""

import contextlib
import hashlib
import itertools
import json
import os
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from PIL import Image
from tqdm import tqdm

from model.data.palettes import Palette
from model.data.reading import MAP_SUFFIXES, PHOTO_SUFFIXES, Agreement, passed_over, read_ids, read_photo
from model.errors import UserError, printable
from model.files import replacing

# What data sets append to a picture's own name: Cityscapes' photos and label maps.
_ENDINGS = re.compile(r"_(leftImg8bit|gtFine_labelIds|gtFine_color|gtFine_instanceIds)$")
READERS = 2
_SAVE_EVERY = 60  # seconds of work that an interrupted evaluation loses at most
_TOLD_EVERY = 10  # seconds between two lines of progress in a file
_CACHED_SETS = 24


def pairing_key(path: str | os.PathLike) -> str:
    """The name by which a photo, its label map and its generated picture are told to belong together."""
    return unicodedata.normalize("NFC", _ENDINGS.sub("", Path(path).stem))


def list_pictures(folder: str | os.PathLike, suffixes: Sequence[str] = PHOTO_SUFFIXES) -> list[Path]:
    """Picture files of a folder and the folders in it, sorted by path, hidden ones left out; tells what is not read.

    Raises:
        UserError: the folder is missing or holds no pictures.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder that holds the pictures")
    found, others = [], Counter()
    for path in folder.rglob("*"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        if path.suffix.lower() in suffixes:
            found.append(path)
        else:
            others[path.suffix.lower()] += 1
    unread = passed_over(others)
    if not found:
        raise UserError(f"{folder} holds no pictures ({', '.join(sorted(suffixes))}){unread and f' but {unread}'}")
    if unread:
        told = printable(f"{folder}: {len(found)} pictures; not read for their suffix: {unread}")
        print(told, file=sys.stderr, flush=True)
    return sorted(found)


def listed(
    source: str | os.PathLike | Sequence[Path], listing: Callable[[str | os.PathLike], list[Path]] = list_pictures
) -> list[Path]:
    """The files of a folder as `listing` finds them, or those of a list as they are."""
    return listing(source) if isinstance(source, str | os.PathLike) else list(source)


def list_maps(folder: str | os.PathLike) -> list[Path]:
    """Label map files of a folder and the folders in it; of Cityscapes' annotations the `_labelIds` ones only."""
    found = list_pictures(folder, MAP_SUFFIXES)
    return [path for path in found if path.stem.endswith("_labelIds")] or found


def partners(pictures: Sequence[Path], others: Sequence[Path], what: str) -> list[Path]:
    """The file of `others` that belongs to each of `pictures`: the one of its name.

    Of several it is the one whose folders are called alike, "a" and "b" of "a/1.png" and "b/1.png", counted from the
    file upwards; a set in folders, such as Cityscapes, thus also pairs with one in a single folder.

    Raises:
        UserError: a picture without partner, or two candidates for a name.
    """
    by_key: dict[str, list[Path]] = {}
    for path in others:
        by_key.setdefault(pairing_key(path), []).append(path)
    found: dict[Path, tuple[int, Path]] = {}  # of each picture, how many of the folders' names agree, and its partner
    owners: dict[Path, Path] = {}
    for path in pictures:
        agreeing = [(_alike(path, other), other) for other in by_key.get(pairing_key(path), [])]
        best = max((count for count, _ in agreeing), default=0)
        fitting = [other for count, other in agreeing if count == best]
        if len(fitting) > 1:
            _refuse_twins(*fitting[:2])
        if not fitting:
            continue
        rival = owners.get(fitting[0])
        if rival is not None and found[rival][0] == best:
            _refuse_twins(rival, path)
        if rival is None or found[rival][0] < best:
            found.pop(rival, None)
            owners[fitting[0]], found[path] = path, (best, fitting[0])
    missing = [str(path.relative_to(common_folder(pictures))) for path in pictures if path not in found]
    if missing:
        names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"{common_folder(pictures)}: {len(missing)} of {len(pictures)} pictures ({names}) have no {what} of the "
            f"same name in {common_folder(others)}; files are paired by name"
        )
    return [found[path][1] for path in pictures]


def _alike(path: Path, other: Path) -> int:
    """How many folders of two files, from the innermost outwards, are called alike."""
    pairs = zip(path.parts[-2::-1], other.parts[-2::-1], strict=False)
    names = ([unicodedata.normalize("NFC", name) for name in pair] for pair in pairs)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], names))


def _refuse_twins(first: Path, second: Path) -> NoReturn:
    raise UserError(
        f"{first} and {second} have the same name, and files are paired by name: give a folder that holds one of them, "
        "or put both sets into folders that are called alike"
    )


def common_folder(files: Sequence[Path]) -> str:
    """The innermost folder that holds all these files."""
    return os.path.commonpath([path.parent for path in files])


def picture_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of a picture file."""
    picture = read_photo(path)
    return picture.height, picture.width


def read_rgb(path: str | os.PathLike, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 [H, W, 3]; resized to `size` (height, width) by Pillow's bicubic filter where it differs."""
    picture = read_photo(path)
    if size is not None and picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(picture)


def read_labels(
    path: str | os.PathLike,
    size: tuple[int, int] | None = None,
    palette: Palette | None = None,
    agreement: Agreement | None = None,
) -> np.ndarray:
    """Integer [H, W] ids, of colours by a palette; resized to `size` (height, width) by nearest neighbour.

    Raises:
        UserError: the file cannot be read as ids, or contradicts those that `agreement` knows.
    """
    labels = read_ids(path, palette=palette)
    if agreement is not None:
        agreement.check(path, labels.info)
    if size is not None and labels.size != size[::-1]:
        labels = labels.resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(labels)


def read_batches(
    paths: Sequence[Path], batch_size: int, size: tuple[int, int] | None = None
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Pictures in order as (positions in `paths`, uint8 [n, H, W, 3]), at most `batch_size` of one size at a time.

    The next batch is decoded in threads while the caller works on the present one; memory does not grow with the set.
    """
    starts = range(0, len(paths), batch_size)
    with ThreadPoolExecutor(READERS) as pool:

        def submit(start: int):
            return [pool.submit(read_rgb, path, size) for path in paths[start : start + batch_size]]

        coming = submit(0) if paths else []
        for start in starts:
            current, coming = coming, submit(start + batch_size)
            by_shape: dict[tuple[int, ...], tuple[list[int], list[np.ndarray]]] = {}
            for i, future in enumerate(current, start=start):
                picture = future.result()
                positions, pictures = by_shape.setdefault(picture.shape, ([], []))
                positions.append(i)
                pictures.append(picture)
            for positions, pictures in by_shape.values():
                yield positions, np.stack(pictures)


@contextlib.contextmanager
def progress_bar(total: int, title: str, shown: bool, done: int = 0) -> Iterator[Callable[[int], object]]:
    """Count pictures on stderr, with rate and time left: in a bar on a terminal, in a line now and then elsewhere.

    Yields:
        The function to call with how many more are done.
    """
    if shown and not sys.stderr.isatty():
        yield _lines(total, title, done)
        return
    with tqdm(total=total, desc=title, unit="picture", disable=not shown, initial=done) as bar:
        yield bar.update


def _lines(total: int, title: str, done: int) -> Callable[[int], None]:
    before, begun = done, time.perf_counter()
    told = begun

    def update(count: int) -> None:
        nonlocal done, told
        done, now = done + count, time.perf_counter()
        if now - told > _TOLD_EVERY or done == total:
            told, speed = now, (done - before) / (now - begun)
            left = (total - done) / speed
            print(
                f"{title}: {done}/{total} pictures, {speed:.2f} a second, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    return update


class Cache:
    """One file of what was computed of a picture set, from time to time while it is computed and at the end.

    Args:
        folder: the cache; None keeps nothing.
        kind: begins the file's name.
        key: everything that the numbers depend on, as JSON knows it.
    """

    def __init__(self, folder: str | os.PathLike | None, kind: str, key: object):
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        self.path = None if folder is None else Path(folder, f"{kind}_{name}.npz")
        self.kind = kind
        self._saved = time.monotonic()

    def used(self) -> None:
        """Note that the file serves: the photos' is old, and the last to go."""
        if self.path is not None:
            os.utime(self.path)

    def save(self, write: Callable[[Path], object], last: bool = False) -> None:
        """Let `write` write the file, whole or not at all; unless it is the `last` time, only once in a while."""
        if self.path is None or not (last or time.monotonic() - self._saved > _SAVE_EVERY):
            return
        write(self.path)
        self._saved = time.monotonic()
        # Every new set of generated pictures adds a file of up to 34 MB: the ones used last stay.
        files = sorted(self.path.parent.glob(f"{self.kind}_*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[_CACHED_SETS:]:
            path.unlink(missing_ok=True)


def file_digest(path: str | os.PathLike) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """A digest of which files these are and whether they changed: names, sizes and modification times."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` write a file, whole or not at all; its folder is made.

    Raises:
        UserError: no space, no permission or the like.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        write(file)
