"""Picture folders for the metrics: listing, pairing by name, reading in batches."""

import hashlib
import json
import os
import re
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from model.data.agreement import Agreement
from model.data.listing import list_folder, passed_over
from model.data.palettes import Palette
from model.data.pictures import MAP_SUFFIXES, PHOTO_SUFFIXES, read_photo
from model.data.reading import read_ids
from model.errors import UserError, listed, tell
from model.files import read_npz, replacing
from model.progress import progress_bar

# What data sets append to a picture's own name: Cityscapes' photos and label maps.
_ENDINGS = re.compile(r"_(leftImg8bit|gtFine_labelIds|gtFine_color|gtFine_instanceIds)$")
READERS = 2
_SAVE_EVERY = 60  # seconds of work that an interrupted evaluation loses at most
_CACHED_SETS, _CACHED_BYTES = 24, 4e9


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
        stored = ", not statistics of them, which cannot give KID, precision or recall" * (folder.suffix == ".npz")
        raise UserError(f"{folder} is not a folder: give the folder that holds the pictures{stored}")
    listing = list_folder(folder, suffixes, key=ascii, recursive=True)  # each file for itself, whatever its name
    found, unread = sorted(map(Path, listing.files.values())), passed_over(listing.others)
    if not found:
        raise UserError(f"{folder} holds no pictures ({', '.join(sorted(suffixes))}){unread and f' but {unread}'}")
    if unread:
        tell(f"{folder}: {len(found)} pictures; not read for their suffix: {unread}", sys.stderr)
    return found


def list_maps(folder: str | os.PathLike) -> list[Path]:
    """Label map files of a folder and the folders in it; of Cityscapes' annotations the `_labelIds` ones only."""
    found = list_pictures(folder, MAP_SUFFIXES)
    return [path for path in found if path.stem.endswith("_labelIds")] or found


def partners(
    pictures: Sequence[Path], others: Sequence[Path], what: str, folders: tuple[str, str] | None = None
) -> list[Path]:
    """The file of `others` that belongs to each of `pictures`: that of the same path in its folder, else of its name.

    By the name alone goes a set in folders, such as Cityscapes, with one in a single folder.

    Args:
        pictures, others: two sets of files.
        what: the others are called in messages.
        folders: of both sets, where paths begin; None for the innermost that hold all.

    Raises:
        UserError: a picture without partner, or two candidates for a name.
    """
    mine, theirs = folders or (common_folder(pictures), common_folder(others))
    by_path, by_name = defaultdict(list), defaultdict(list)
    for path, key in zip(others, _paths_in(theirs, others), strict=True):
        by_path[key].append(path)
        by_name[pairing_key(path)].append(path)
    keys, names = _paths_in(mine, pictures), Counter(map(pairing_key, pictures))
    found: dict[Path, Path] = {}  # {partner: picture}
    missing = []
    for path, key in zip(pictures, keys, strict=True):
        name = pairing_key(path)
        fitting = by_path.get(key) or (by_name.get(name, []) if names[name] == 1 else [])
        if not fitting:
            missing.append(os.path.relpath(path, mine))
            continue
        first, second = fitting[:2] if len(fitting) > 1 else (found.setdefault(fitting[0], path), path)
        if first != second:
            raise UserError(
                f"{first} and {second} have the same name, and files are paired by name: give a folder that holds one "
                "of them, or put both sets into folders that are called alike"
            )
    if missing:
        raise UserError(
            f"{mine}: {len(missing)} of {len(pictures)} pictures ({listed(missing, 5)}) have no {what} of the same "
            f"name in {theirs}; files are paired by name"
        )
    return list(found)


def _paths_in(folder: str, files: Sequence[Path]) -> list[str]:
    """The files' paths in a folder, with their `pairing_key` in place of the file's name."""
    parents = {parent: os.path.relpath(parent, folder) for parent in {path.parent for path in files}}
    return [unicodedata.normalize("NFC", f"{parents[path.parent]}/{pairing_key(path)}") for path in files]


def common_folder(files: Sequence[Path]) -> str:
    """The innermost folder that holds all these files."""
    return os.path.commonpath([path.parent for path in files])


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
            pictures = [future.result() for future in current]
            for shape in dict.fromkeys(picture.shape for picture in pictures):
                alike = [i for i, picture in enumerate(pictures) if picture.shape == shape]
                yield [start + i for i in alike], np.stack([pictures[i] for i in alike])


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

    def load(self) -> dict[str, np.ndarray]:
        """The file's arrays, read-only; none where it is missing or damaged."""
        try:
            return {} if self.path is None else read_npz(self.path)
        except UserError:
            return {}

    def save(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Write the file, whole or not at all, and remove those that were not used for longest."""
        if self.path is None:
            return
        with replacing(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        # Every new set of generated pictures adds a file, of 8 kB a picture for FID: the ones used last stay, and those
        # of one evaluation (the photos and two sets) in any case.
        files = sorted(self.path.parent.glob(f"{self.kind}_*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
        sizes = np.cumsum([path.stat().st_size for path in files])
        for i, path in enumerate(files):
            if i >= _CACHED_SETS or (i >= 3 and sizes[i] > _CACHED_BYTES):
                path.unlink(missing_ok=True)

    def batches(
        self,
        so_far: Callable[[], Mapping[str, ArrayLike]],
        paths: Sequence[Path],
        done: int,
        batch_size: int,
        size: tuple[int, int] | None,
        title: str,
        shown: bool,
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """`read_batches` of the pictures behind the `done` first ones; tells how far it is and saves in between.

        Args:
            so_far: gives the arrays to save, of the pictures up to then.
        """
        if done == len(paths):
            if self.path is not None:
                os.utime(self.path)  # it serves: the photos' is old, and the last to go
            return
        begun, saved = done, time.monotonic()
        with progress_bar(len(paths), title, shown, done) as told:
            for positions, pictures in read_batches(paths[begun:], batch_size, size):
                yield [begun + position for position in positions], pictures
                told(len(positions))
                done += len(positions)
                whole = (done - begun) % batch_size == 0  # a batch of several sizes comes in parts
                if whole and time.monotonic() - saved > _SAVE_EVERY:
                    self.save(so_far())
                    saved = time.monotonic()
        self.save(so_far())


def files_digest(paths: Iterable[Path]) -> str:
    """A digest of which files these are and whether they changed: names, sizes and modification times."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
