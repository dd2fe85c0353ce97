"""Checkpoints: written whole or not at all, read strictly, never trusted to be what they say.

A checkpoint is written to a `tmp_` folder, each file is flushed to the disk, the folder gets its name, and only then
does `latest` move (`checkpoint_folder` has the layout). A process killed at any moment leaves the old state or the new
one; `prepare` clears its leftovers.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import paddle

from model.configuration.fields import to_yaml
from model.errors import UserError, tell
from model.files import file_digest, sync_folder, unused
from model.options import GROUPS, OPT
from model.training import checkpoint_folder as layout
from model.training.lock import cannot_write, claim
from model.weights.paddle_file import DamagedError, plain, read_pdparams, read_state, write_state


@dataclass(frozen=True)
class Checkpoint:
    """One loaded checkpoint.

    Attributes:
        path: its folder.
        step: steps done.
        epoch: epoch, counted from 0, that the next step belongs to.
        nets: arrays by key, by network name (`n_g`, `n_d`, `n_e`, `n_g_ema`, `n_e_ema`).
        state: what `save` got as state; empty if not asked for.
        meta: the content of meta.json.
    """

    path: Path
    step: int
    epoch: int
    nets: dict[str, dict[str, np.ndarray]]
    state: dict
    meta: dict

    @property
    def opt_file(self) -> Path:
        """The options that it was trained with, for `OPT.load`."""
        return self.path / layout.OPT_FILE


# ---- writing ----


def prepare(root: str | os.PathLike) -> IO[str]:
    """Make `root` ready for a training run: created, writable, claimed by this process, cleared of broken-off writes.

    Args:
        root: `output/model`.

    Returns:
        The claim, as `claim` gives it.

    Raises:
        UserError: the folder cannot be written, or another run holds it.
    """
    root = Path(root)
    if (root / "__init__.py").exists():
        raise UserError(f"{root} is a Python package and no place for checkpoints: choose another --output")
    held = claim(root, "--output")
    try:
        layout.clear_leftovers(root)
    except OSError as error:
        raise cannot_write(root, error) from None
    return held


def save(
    root: str | os.PathLike,
    nets: Mapping[str, Mapping[str, Any]],
    state: Mapping[str, Any],
    opt: Any,
    *,
    step: int,
    epoch: int,
    best: bool = False,
    is_epoch_end: bool = False,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Write one complete checkpoint, make it the latest, and remove what need not be kept (see `retain`).

    Args:
        root: `output/model`.
        nets: state dictionaries by network, `n_g`, `n_d`, with a VAE `n_e`, and the averaged `n_g_ema`, `n_e_ema`;
            tensors or arrays.
        state: everything else that the next step depends on: optimisers, schedule, position in the data.
        opt: the run's OPT, which says how many epoch ends to keep.
        step: steps done.
        epoch: epoch, counted from 0, that the next step belongs to.
        best: whether this is the best so far.
        is_epoch_end: whether an epoch ends here.
        info: further entries of meta.json (a score, for example).

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: no space or no permission; the earlier checkpoints stay as they are.
    """
    root = Path(root)
    content = {f"{name}.pdparams": plain(arrays) for name, arrays in nets.items()}
    content[layout.STATE_FILE] = plain(state)
    needed = _bytes_in(content) + 1_000_000
    temporary = root / f"{layout.TEMPORARY}{os.getpid()}_{step:08d}"
    meta = {
        "format": layout.FORMAT,
        "step": step,
        "epoch": epoch,
        "epoch_end": is_epoch_end,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "paddle": paddle.__version__,
        "values": {name: sum(np.size(a) for a in content[f"{name}.pdparams"].values()) for name in nets},
        **(info or {}),
    }
    try:
        root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(root).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        meta["serial"] = max((found["serial"] for found in layout.complete_folders(root).values()), default=0) + 1
        temporary.mkdir()
        for name, values in content.items():
            write_state(temporary / name, values)
        layout.write_text(temporary / layout.OPT_FILE, to_yaml(opt, GROUPS))
        written = [temporary / name for name in (*content, layout.OPT_FILE)]
        meta["files"] = {file.name: {"size": file.stat().st_size, "sha256": file_digest(file)} for file in written}
        layout.write_text(temporary / layout.META_FILE, json.dumps(meta, indent=1))
        sync_folder(temporary)

        # A second checkpoint of the same step gets a name of its own: a folder cannot replace another in one operation.
        folder = unused(root / f"{layout.STEP}{step:08d}")
        os.replace(temporary, folder)
        sync_folder(root)
        linked = layout.point(root, layout.LATEST, folder.name)
        if best:
            layout.point(root, layout.BEST, folder.name)
        layout.publish(root, folder.name, list(nets), linked)
        sync_folder(root)
    except OSError as error:
        raise cannot_write(root, error, needed) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    layout.retain(root, folder.name, opt.keep_epochs)
    return folder


def _bytes_in(value: Any) -> int:
    if isinstance(value, dict):
        value = tuple(value.values())
    return sum(map(_bytes_in, value)) if isinstance(value, list | tuple) else getattr(value, "nbytes", 32)


# ---- loading ----


def exists(path: str | os.PathLike) -> bool:
    """Whether there is a checkpoint to load at `path` (see `load`), damaged or not."""
    root, chosen = layout.home(path)
    return chosen is not None or any(layout.step_folders(root))


def load(
    path: str | os.PathLike,
    opt: Any = None,
    *,
    nets: Callable[[Sequence[str]], Iterable[str]] | None = None,
    with_state: bool = True,
    verify: bool = False,
) -> Checkpoint:
    """Load a checkpoint; of several, the latest that is whole.

    Args:
        path: `output`, `output/model`, a checkpoint's folder, `latest`, `best`, or a `.pdparams` file in one of them.
        opt: the present OPT; it must describe the checkpoint's networks (`OPT.incompatible`).
        nets: given the names of the networks that are there (`n_g` ...), those to read; all by default.
        with_state: whether to read the optimisers and the rest of the training state.
        verify: whether to check every file's SHA-256, not only its size.

    Raises:
        UserError: there is no checkpoint, none is whole, or it belongs to another architecture.
    """
    root, chosen = layout.home(path)
    first = chosen or layout.pointed(root, layout.LATEST)
    candidates = [root / first] if first else []
    if chosen is None:
        candidates += [folder for folder in layout.complete_folders(root) if folder.name != first]
    if not candidates:
        raise UserError(f"{path} holds no checkpoint; train first, or give the folder that has `{layout.LATEST}` in it")

    problems = []
    for folder in candidates:
        try:
            checkpoint = _load_folder(folder, opt, nets, with_state, verify)
        except DamagedError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            tell(f"warning: damaged checkpoint: {problem}")
        if problems:
            tell(f"warning: going on from the one before, {checkpoint.path} (step {checkpoint.step})")
        return checkpoint
    raise UserError(f"{path} holds no whole checkpoint: " + "; ".join(problems))


def _load_folder(folder: Path, opt: Any, nets: Callable | None, with_state: bool, verify: bool) -> Checkpoint:
    meta = layout.examine(folder, verify)
    if file_digest(folder / layout.OPT_FILE) != meta["files"][layout.OPT_FILE]["sha256"]:
        try:
            OPT.load(folder / layout.OPT_FILE)
        except UserError as error:
            raise DamagedError(str(error)) from None
        tell(f"warning: {folder / layout.OPT_FILE} was edited after this checkpoint was written; it is taken as it is")
    differ = {} if opt is None else opt.incompatible(OPT.load(folder / layout.OPT_FILE))
    if differ:
        told = "; ".join(f"{field} is {theirs!r} there and {ours!r} now" for field, (ours, theirs) in differ.items())
        raise UserError(
            f"{folder} was trained with other networks: {told}; "
            "give the same options, another --output, or --fresh to start anew"
        )
    present = [name.removesuffix(".pdparams") for name in meta["files"] if name.endswith(".pdparams")]
    wanted = present if nets is None else nets(present)
    arrays = {name: read_pdparams(folder / f"{name}.pdparams") for name in wanted}
    state = read_state(folder / layout.STATE_FILE) if with_state else {}
    return Checkpoint(folder, meta["step"], meta["epoch"], arrays, state, meta)
