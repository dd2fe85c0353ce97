"""The folder of checkpoints: what lies where, which ones are whole, which one is meant, which are kept.

Layout of `output/model/`:

    step_00001000/      one complete checkpoint: n_g n_d n_e .pdparams, state.pdopt, opt.yaml, meta.json
    latest              link to the last complete one; moved in one operation
    best                link to the best one, when the run has a measure
    n_g.pdparams ...    links through `latest`, so that the three always belong together

Where the file system has no links, `latest` and `best` are small text files, and the others copies.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from model.errors import UserError, tell
from model.files import file_digest, unused
from model.training.lock import NO_SPACE
from model.weights.paddle_file import DamagedError

FORMAT = 1
STATE_FILE, OPT_FILE, META_FILE = "state.pdopt", "opt.yaml", "meta.json"
LATEST, BEST = "latest", "best"
STEP, TEMPORARY, _TRASH = "step_", "tmp_", "trash_"


# ---- pointers ----


def point(root: Path, name: str, target: str) -> bool:
    """Let `root/name` lead to `target` in one operation; False where only a text file could serve."""
    temporary = root / f"{TEMPORARY}{os.getpid()}_{name}"
    temporary.unlink(missing_ok=True)
    try:
        os.symlink(target, temporary)
    except OSError as error:
        if error.errno in (*NO_SPACE, errno.EACCES, errno.EROFS):
            raise
        write_text(temporary, target)
    linked = temporary.is_symlink()
    os.replace(temporary, root / name)
    return linked


def pointed(root: Path, name: str) -> str | None:
    """The folder name that a pointer holds, or None."""
    pointer = root / name
    if pointer.is_symlink():
        return os.readlink(pointer)
    if pointer.is_file():
        return pointer.read_text(encoding="utf-8", errors="replace").strip()
    return None


def publish(root: Path, folder: str, names: Sequence[str], linked: bool) -> None:
    """Keep `root/<name>.pdparams` leading to the latest checkpoint's files, and only to those it has."""
    wanted = {f"{name}.pdparams" for name in names}
    for old in root.glob("*.pdparams"):
        if old.is_symlink() and old.name not in wanted:
            old.unlink()
    for name in sorted(wanted):
        shown, target = root / name, f"{LATEST}/{name}"
        if linked:
            if shown.is_symlink() and os.readlink(shown) == target:
                continue
            if shown.exists() and not shown.is_symlink():
                aside = unused(root / f"{name}.before")
                os.replace(shown, aside)
                tell(f"{shown} was there before this run; it is now {aside.name} (such a file is for --init_from)")
            point(root, name, target)
        else:
            temporary = root / f"{TEMPORARY}{os.getpid()}_{name}"
            shutil.copyfile(root / folder / name, temporary)
            os.replace(temporary, shown)


def write_text(path: Path, text: str) -> None:
    """Write a file and flush it to the disk."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


# ---- which checkpoints there are ----


def step_folders(root: Path) -> Iterator[Path]:
    """The folders that are named like checkpoints, whole or not."""
    for path in sorted(root.glob(f"{STEP}*")):
        if path.is_dir() and not path.is_symlink():
            yield path


def described(folder: Path) -> dict:
    """The content of a checkpoint folder's meta.json.

    Its `serial` counts the saves in a root: the highest is the newest, whatever its step.

    Raises:
        DamagedError: meta.json is missing or damaged.
        UserError: a newer version of this program wrote it.
    """
    try:
        meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
        meta.update({key: int(meta[key]) for key in ("format", "serial", "step", "epoch")})
        for entry in [meta["files"][OPT_FILE], *meta["files"].values()]:
            entry.update(size=int(entry["size"]), sha256=str(entry["sha256"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{folder / META_FILE} is missing or unreadable ({error})") from None
    if meta["format"] > FORMAT:
        raise UserError(
            f"{folder} has checkpoint format {meta['format']}, this program knows up to {FORMAT}; update it"
        )
    return meta


def examine(folder: Path, verify: bool = False) -> dict:
    """Check a checkpoint folder against its meta.json, which is returned; options may have been edited.

    Raises:
        DamagedError: a file is missing, of another size, or (with `verify`) of another content.
        UserError: a newer version of this program wrote it.
    """
    meta = described(folder)
    for name, entry in meta["files"].items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise DamagedError(f"{path} is missing")
        if name == OPT_FILE:
            continue
        if path.stat().st_size != entry["size"]:
            raise DamagedError(f"{path} has {path.stat().st_size:,} bytes, expected {entry['size']:,}")
        if verify and file_digest(path) != entry["sha256"]:
            raise DamagedError(f"{path} was altered: its SHA-256 differs from the one in {META_FILE}")
    return meta


def complete_folders(root: Path, check: Callable[[Path], dict] = examine) -> dict[Path, dict]:
    """{folder: the content of its meta.json} of all checkpoints that the check finds whole, the newest first."""
    found = {}
    for folder in step_folders(root):
        with contextlib.suppress(DamagedError):
            found[folder] = check(folder)
    return dict(sorted(found.items(), key=lambda one: one[1]["serial"], reverse=True))


def home(path: str | os.PathLike) -> tuple[Path, Path | None]:
    """(folder of checkpoints, the one checkpoint meant or None) for any path that a user may give."""
    path = Path(path)
    if path.is_file() and not path.is_symlink() and path.suffix != "":
        path = path.parent
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link to {os.readlink(path)}, which does not exist")
    if path.is_symlink() and path.suffix == ".pdparams":
        path = path.parent
    if path.is_file():  # a pointer on a file system without links
        path = path.parent / path.read_text(encoding="utf-8", errors="replace").strip()
    if (path / META_FILE).is_file() or path.name.startswith(STEP):
        resolved = path.resolve()
        return resolved.parent, resolved
    if (path / "model").is_dir() and not any(step_folders(path)):
        path = path / "model"
    return path, None


# ---- removing ----


def retain(root: Path, latest: str, keep_epochs: int) -> None:
    """Remove checkpoints but for the two newest, the last `keep_epochs` epoch ends, the best, and damaged ones."""
    folders = complete_folders(root)  # without damaged ones, whose weights may be whole
    ends = [folder for folder, meta in folders.items() if meta.get("epoch_end")]
    # The one before the latest is kept against a damaged disk: with it there is always something to fall back on.
    keep = {latest, pointed(root, BEST), *(folder.name for folder in [*list(folders)[:2], *ends[:keep_epochs]])}
    for folder in folders:
        if folder.name not in keep:
            trash = unused(folder.with_name(_TRASH + folder.name))
            try:
                os.replace(folder, trash)  # at no moment may it look like a checkpoint with files missing
                shutil.rmtree(trash)
            except OSError as error:
                tell(f"warning: {folder} is no longer needed and cannot be removed: {error.strerror}")


def clear_leftovers(root: Path) -> None:
    """Remove what a killed process was writing or removing."""
    for left in [*root.glob(f"{TEMPORARY}*"), *root.glob(f"{_TRASH}*")]:
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()
