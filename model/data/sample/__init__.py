"""The built-in sample data set: painted landscapes with label and instance maps, written once, whole or not at all."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from model.data.sample.scenes import make_scene
from model.errors import UserError

__all__ = ["ensure_sample", "make_scene"]

_SIZES = ((240, 320), (256, 256), (240, 320), (320, 240))  # [H, W]
_FORMAT = 1  # raise it when the pictures change, so that sets on disk are written anew
_MARKER = "sample.json"
_STALE = 3600  # seconds after which a set that was begun is taken for abandoned; one is written in a minute
_FOLDERS = tuple(f"{split}_{kind}" for split in ("train", "val") for kind in ("img", "label", "inst"))


def ensure_sample(root: str | Path = "dataset/sample", seed: int = 0, train: int = 240, val: int = 24) -> Path:
    """The sample data set's folder, written first unless it is there already.

    The set is built in a folder beside `root` and moved into place when it is whole, so `root` never holds a part of
    one. Sets of another seed, size or version of this module, and ones that lost files, are replaced.

    Args:
        root: the folder; gets `{train,val}_{img,label,inst}`, 8-bit JPEG and PNG of 76,800 pixels or less.
        seed: the same seed gives the same files.
        train, val: numbers of pictures. Train and val scenes are drawn independently.

    Raises:
        UserError: for a `root` that holds something else or cannot be written.
    """
    root = Path(root)
    wanted = {"format": _FORMAT, "seed": seed, "train": train, "val": val}
    if _is_whole(root, wanted):
        return root
    if root.exists() and not (root.is_dir() and ((root / _MARKER).is_file() or not any(root.iterdir()))):
        raise UserError(f"{root} holds files that are not the sample data set; move them away or choose another")
    try:
        _write_set(root, wanted)
    except OSError as error:
        if not _is_whole(root, wanted):  # else another process wrote the same set meanwhile
            raise UserError(f"{root}: the sample data set cannot be written ({error.strerror or error})") from error
    return root


def _is_whole(root: Path, wanted: dict[str, int]) -> bool:
    try:
        found = json.loads((root / _MARKER).read_text(encoding="utf-8"))
        counts = [len(os.listdir(root / folder)) for folder in _FOLDERS]
    except (OSError, ValueError):
        return False
    return found == wanted and counts == [wanted[folder.split("_")[0]] for folder in _FOLDERS]


def _write_set(root: Path, wanted: dict[str, int]) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{root.name}-unfinished-"
    for leftover in root.parent.glob(prefix + "*"):
        with contextlib.suppress(FileNotFoundError):  # its own process has just removed it
            if time.time() - leftover.stat().st_mtime > _STALE:
                shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=root.parent, ignore_cleanup_errors=True) as work:
        new, old = Path(work, "new"), Path(work, "old")
        for folder in _FOLDERS:
            (new / folder).mkdir(parents=True)
        _write_pictures(root, new, wanted)
        (new / _MARKER).write_text(json.dumps(wanted), encoding="utf-8")
        if not _is_whole(root, wanted):
            if root.exists():
                os.rename(root, old)
            os.rename(new, root)


def _write_pictures(root: Path, folder: Path, wanted: dict[str, int]) -> None:
    total = wanted["train"] + wanted["val"]
    print(f"writing the sample data set ({total} pictures) to {root}", file=sys.stderr, flush=True)

    def write(split: str, i: int) -> None:
        rng = np.random.default_rng((wanted["seed"], ("train", "val").index(split), i))
        photo, label, instance = make_scene(rng, _SIZES[i % len(_SIZES)])
        name = f"{split}_{i:05d}"
        Image.fromarray(photo).save(folder / f"{split}_img" / f"{name}.jpg", quality=92)
        Image.fromarray(label).save(folder / f"{split}_label" / f"{name}.png")
        Image.fromarray(instance).save(folder / f"{split}_inst" / f"{name}.png")

    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        jobs = [pool.submit(write, split, i) for split in ("train", "val") for i in range(wanted[split])]
        for job in tqdm(jobs, disable=not sys.stderr.isatty()):
            job.result()
    finally:
        pool.shutdown(cancel_futures=True)
