"""Where a run starts: at its last checkpoint, or anew, with the checkpoints of an earlier run set aside."""

import os
from collections.abc import Mapping
from pathlib import Path

import paddle

from model.errors import listed
from model.files import unused
from model.options import OPT
from model.training import checkpoint
from model.training.checkpoint_folder import BEST, LATEST
from model.training.start import begin_from, weight_files

_NOT_TOLD = ("fresh", "preset", "name")  # options whose change at a resume means nothing
_OF_THE_START = ("init_type", "init_variance", "init_from")  # those that a checkpoint has behind it


def resume_or_begin(
    opt: OPT, nets: Mapping[str, paddle.nn.Layer], root: Path, pics: Path
) -> tuple[checkpoint.Checkpoint | None, str, list[str]]:
    """Find the checkpoint to go on from; without one, or with `opt.fresh`, fill the networks of a new run.

    Args:
        opt: the run's options.
        nets: `Trainer.networks()`, changed only where `opt.init_from` gives weights.
        root: folder of checkpoints.
        pics: folder of previews.

    Returns:
        (the checkpoint or None, where a new run starts in words, what the user should know of it, a line each).

    Raises:
        UserError: a checkpoint or weights cannot be used, or the earlier checkpoints cannot be moved.
    """
    has_checkpoint = checkpoint.exists(root)
    if has_checkpoint and not opt.fresh:
        saved = checkpoint.load(root, opt, verify=True)
        return saved, "", _changes(saved, opt)
    origin, notes = "from new weights", []
    if opt.init_from:
        origin = f"from the weights of {opt.init_from}"
        notes = [f"weights    {line}" for line in begin_from(opt.init_from, nets, opt)]
    elif not has_checkpoint and (strange := [path.name for path in weight_files(root)]):
        notes = [
            f"not read   {listed(strange)} in {root}, not of a checkpoint of this run: "
            f"to start from these weights, give --init_from {root}"
        ]
    if has_checkpoint:
        origin = f"anew {origin}; the earlier checkpoints are now in {_set_aside(root, pics)}"
    return None, origin, notes


def _changes(saved: checkpoint.Checkpoint, opt: OPT) -> list[str]:
    """What differs from the options of a checkpoint, in whose state Adam's betas are put if it has none."""
    notes, before = [], OPT.load(saved.opt_file)
    differ = {name: f"{name} {then!r} -> {now!r}" for name, (then, now) in before.differences(opt).items()}
    changed = [text for name, text in differ.items() if name not in _NOT_TOLD + _OF_THE_START]
    if changed:
        notes.append(f"changed    since that checkpoint, and valid from now on: {', '.join(changed)}")
    not_used = [differ[name] for name in _OF_THE_START if name in differ and name != "init_from"]
    if opt.init_from:
        not_used.append(f"init_from {opt.init_from!r}")
    if not_used:
        notes.append(
            f"not used   {', '.join(not_used)}: the run goes on from its own checkpoint; --fresh starts it anew"
        )
    betas = saved.state["trainer"].setdefault("betas", before.betas)
    if not betas[0] and opt.beta1:
        notes.append("moments    Adam's first ones start at 0: with beta1 0, as it was, none are kept")
    return notes


def _set_aside(root: Path, pics: Path) -> Path:
    """Move the checkpoints and pictures of the run before --fresh to unused folders beside them."""
    target = unused(root)
    target.mkdir()
    for path in [*root.glob("step_*"), *root.glob("*.pdparams"), root / BEST, root / LATEST]:
        if path.exists() or path.is_symlink():
            os.replace(path, target / path.name)
    if pics.is_dir():
        os.replace(pics, unused(pics))
    return target
