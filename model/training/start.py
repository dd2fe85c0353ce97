"""Networks to start from: a new run's weights from a checkpoint, or from files of any origin."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import paddle

from model.errors import UserError, listed
from model.options import OPT
from model.training import checkpoint
from model.training.checkpoint_folder import BEST, LATEST, META_FILE
from model.weights.files import read_network
from model.weights.networks import load_official

_KINDS = {"n_g": "generator", "n_d": "discriminator", "n_e": "encoder"}
_SUFFIXES = (".pdparams", ".pth", ".pt", ".safetensors", ".npz", ".ckpt")
_LETTERED = re.compile(r"(.*(?:n_|net_?))([gdeGDE])(?![A-Za-z])(.*)")  # n_g, latest_net_G, MindSpore's netG_epoch_200


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder that have a suffix of weights."""
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())


def network_files(path: str | os.PathLike) -> dict[str, Path]:
    """The files of the networks that a path leads to: {"n_g": file}, with "n_d" and "n_e" where they lie beside it.

    Args:
        path: `output`, `output/model`, a checkpoint's folder, `latest` or `best`; a generator's file; or another folder
            that holds one, of which `n_g` and `latest_net_G` come first. D's and E's files have its name with their
            letter; beside averaged weights, `n_g_ema`, D's is `n_d`.

    Raises:
        UserError: there is no generator, or several; a run's folder without a whole checkpoint.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"init_from {path} does not exist: expected a run's folder, or a generator's weights")
    if path.is_file() and path.name not in (LATEST, BEST):
        whole = path.resolve()  # the link of a run, which moves with its next checkpoint
        file = whole if (whole.parent / META_FILE).is_file() else path
    elif checkpoint.exists(path):
        file = checkpoint.load(path, nets=lambda _: (), with_state=False, verify=True).path / "n_g.pdparams"
    else:
        file = _generator_in(path / "model" if (path / "model").is_dir() else path)
    name = _LETTERED.match(file.name)
    if name is None:
        return {"n_g": file}
    start, own, end = name.groups()
    found = {}
    for network in _KINDS:
        letter = network[-1].upper() if own.isupper() else network[-1]
        for ending in (end, end.replace("_ema", "")):
            if (candidate := file.with_name(start + letter + ending)).is_file():
                found.setdefault(network, candidate)
    if "n_g" not in found:
        raise UserError(f"init_from {file}: a run starts from a generator, and there is none beside this file")
    return found


def _generator_in(folder: Path) -> Path:
    names = {file: _LETTERED.match(file.name) for file in weight_files(folder)}
    files = [file for file, name in names.items() if name and name[2] in "gG" and not name[3].startswith("_ema")]
    files = [file for file in files if file.stem in ("n_g", "latest_net_G")] or files
    if len(files) != 1:
        what = f"several generators ({listed(file.name for file in files)})" if files else "no generator's weights"
        raise UserError(
            f"init_from {folder} holds no checkpoint and {what}: expected n_g.pdparams or latest_net_G.pth there, or "
            "the file's own path"
        )
    return files[0]


def begin_from(path: str | os.PathLike, nets: Mapping[str, paddle.nn.Layer], opt: OPT) -> list[str]:
    """Fill the networks of a new run from given ones, strictly.

    Args:
        path: see `network_files`.
        nets: `Trainer.networks()`.
        opt: the run's options, for messages.

    Returns:
        What was taken, a line for each network; D or E that is not there stays as it is.

    Raises:
        UserError: a file cannot be read, or holds other names, shapes or another network than the run's.
    """
    files, told = network_files(path), []
    for name, net in nets.items():
        if name not in files:
            told.append(f"{name[-1].upper()} is new: there is none beside {files['n_g']}")
            continue
        found, info = read_network(files[name])
        if found.kind != _KINDS[name]:
            raise UserError(f"{files[name]} holds weights of the kind {found.kind}, expected {_KINDS[name]}")
        broken = [key for key, array in found.weights.items() if not np.isfinite(array).all()]
        if broken:
            raise UserError(f"{files[name]}: not all numbers are finite in {listed(broken)}; take an earlier copy")
        load_official(net, found.weights, str(files[name]), found.advice(opt))
        told.append(f"{name[-1].upper()} taken from {files[name]} ({info.format}, {found.parameters():,} parameters)")
    return told
