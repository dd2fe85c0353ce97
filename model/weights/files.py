"""Weight files of every known format, recognised by their content, read and written."""

import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import paddle
import safetensors
import safetensors.numpy

from model.errors import UserError
from model.files import BROKEN_ZIP, read_npz, replacing
from model.weights.damage import Damaged, reading
from model.weights.kinds import Found, recognise
from model.weights.mindspore_file import read_mindspore, to_mindspore, write_mindspore
from model.weights.networks import load_official
from model.weights.numbers import SAFETENSORS, decoded
from model.weights.paddle_file import read_pdparams
from model.weights.torch_file import LEGACY_START, read_torch, write_torch

PACKED = "model.npz"  # the usual name of a packed model


class FileInfo(NamedTuple):
    """What a weight file turned out to be.

    Attributes:
        format: for people, such as "PyTorch (zip)".
        layout: whose names and axes it uses: "torch", "paddle" or "mindspore".
    """

    format: str
    layout: str


def read_weights(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], FileInfo]:
    """Read a weight file of any known format, recognised by its content. Nothing in the file is ever run.

    Args:
        path: PyTorch (zip or legacy), safetensors, Paddle, MindSpore or NumPy (.npz).

    Returns:
        {name: array}, floats in Paddle's default dtype, names and axes as the file has them; and what the file is.

    Raises:
        UserError: unreadable, damaged, unreasonable or of an unknown format; one line that names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; expected a weight file")
    reader, info = _format(path)
    arrays = reader(path)
    for name, array in arrays.items():
        if not name.isprintable():  # it would be printed
            raise UserError(f"{path}: the name {name[:40]!r} is not plain text")
        if array.dtype.kind == "f":
            arrays[name] = array.astype(paddle.get_default_dtype(), copy=False)
        elif array.dtype.kind not in "fiub":
            raise UserError(f"{path}: {name} is of type {array.dtype}, expected numbers")
    return arrays, info


def _format(path: Path) -> tuple[Callable[[Path], dict[str, np.ndarray]], FileInfo]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        raise UserError(f"{path} is empty: the download or the disk failed; get the file again")
    if start.startswith(b"PK"):
        with reading(path, "a zip archive", *BROKEN_ZIP), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if names and all(name.endswith(".npy") for name in names):
            return read_npz, FileInfo("NumPy", "torch")
        return read_torch, FileInfo("PyTorch (zip)", "torch")
    if start[:1] == b"\x80" and start.startswith(LEGACY_START, 2):
        return read_torch, FileInfo("PyTorch (legacy)", "torch")
    if start[:1] == b"\x80":
        return read_pdparams, FileInfo("Paddle", "paddle")
    if len(start) > 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= size - 8:
        return _read_safetensors, FileInfo("safetensors", "torch")
    if start[:1] == b"\n":
        return read_mindspore, FileInfo("MindSpore", "mindspore")
    hint = ""
    if start.lstrip()[:1] == b"<":
        hint = ": it is a web page, so the download went wrong"
    elif start.startswith(b"version https://git-lfs"):
        hint = ": it is a Git LFS pointer, the file itself was not fetched"
    elif start[257:262] == b"ustar":
        hint = ": it is a tar archive; unpack it first (PyTorch before 0.1.10 is not supported)"
    raise UserError(
        f"{path} is not a weight file known here{hint}; expected PyTorch, safetensors, Paddle, MindSpore or NumPy .npz"
    )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with reading(path, "safetensors", safetensors.SafetensorError, UnicodeDecodeError):
        for name, entry in safetensors.deserialize(path.read_bytes()):
            kind = entry["dtype"]
            if kind not in SAFETENSORS:
                raise Damaged(f"{name} is of type {kind}, which weights here never have")
            values = np.frombuffer(entry["data"], np.dtype(SAFETENSORS[kind]).newbyteorder("<"))
            arrays[name] = decoded(values, kind).reshape(entry["shape"])
    return arrays


def _write_paddle(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    pickle.dump({name: np.ascontiguousarray(a.T) if a.ndim == 2 else a for name, a in arrays.items()}, file, protocol=4)


def _write_safetensors(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    file.write(safetensors.numpy.save({n: np.ascontiguousarray(a).reshape(a.shape) for n, a in arrays.items()}))


_WRITERS = {
    ".pdparams": ("Paddle", _write_paddle),
    ".pth": ("PyTorch (zip)", write_torch),
    ".pt": ("PyTorch (zip)", write_torch),
    ".safetensors": ("safetensors", _write_safetensors),
    ".npz": ("NumPy", lambda file, arrays: np.savez(file, **arrays)),
    ".ckpt": ("MindSpore", lambda file, arrays: write_mindspore(file, to_mindspore(arrays))),
}


def write_weights(path: str | os.PathLike, found: Found) -> str:
    """Write recognised weights in the format of the file's ending, all or nothing.

    Args:
        path: .pdparams, .pth/.pt, .safetensors, .npz or .ckpt (MindSpore; SPADE's generator and discriminator).
        found: weights with official names, see `read_network`.

    Returns:
        The format's name.

    Raises:
        UserError: an unknown ending, a network that MindSpore's SPADE does not have, no space, no permission.
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise UserError(
            f"{path}: cannot write a {path.suffix or 'file without ending'}: use .pdparams .pth .safetensors .npz or "
            ".ckpt"
        )
    name, write = _WRITERS[path.suffix]
    if name == "MindSpore":
        _check_mindspore(path, found)
    with replacing(path, sync=True) as temporary, open(temporary, "wb") as file:
        write(file, found.weights)
    return name


def _check_mindspore(path: Path, found: Found) -> None:
    options = found.options
    if found.kind == "generator":
        fits = not options["use_vae"] and options["num_upsampling_layers"] != "most"
        fits = fits and options["norm_G"].startswith("spectralspadesyncbatch")
        wanted = "no VAE, num_upsampling_layers not most, norm_G spectralspadesyncbatch"
    elif found.kind == "discriminator":
        fits = (options["num_D"], options["n_layers_D"], options["norm_D"]) == (2, 4, "spectralinstance")
        wanted = "num_D 2, n_layers_D 4, norm_D spectralinstance"
    else:
        raise UserError(f"{path}: MindSpore's SPADE has no {found.kind} that reads weights; use .safetensors or .pth")
    if not fits:
        raise UserError(f"{path}: MindSpore's SPADE has only the {found.kind} with {wanted}; this one differs")


def read_network(path: str | os.PathLike) -> tuple[Found, FileInfo]:
    """Read a weight file and recognise whose weights they are. See `read_weights` and `recognise`."""
    arrays, info = read_weights(path)
    return recognise(arrays, info.layout, str(path)), info


def build(found: Found) -> paddle.nn.Layer:
    """The network that recognised weights belong to, filled strictly."""
    net = found.construct()
    load_official(net, found.weights, found.source)
    return net


# ---- a trained model in one small file, so that it can ship with the project: half precision, compressed ----


def write_packed(path: str | os.PathLike, nets: Mapping[str, Mapping[str, np.ndarray]]) -> int:
    """Write networks, {"n_g": {key: array}, ...}, whole or not at all; returns the file's size in bytes.

    Raises:
        UserError: numbers that are not finite or too large for 16 bits, or the file cannot be written.
    """
    stored = {}
    for net, arrays in nets.items():
        for key, array in arrays.items():
            if not (np.abs(array) < np.finfo(np.float16).max).all():
                raise UserError(f"{net}/{key} holds numbers that are not finite in 16 bits: it cannot be packed")
            stored[f"{net}/{key}"] = array.astype(np.float16) if array.dtype.kind == "f" else array
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **stored)
    return os.path.getsize(path)


def read_packed(path: str | os.PathLike) -> dict[str, dict[str, np.ndarray]]:
    """The networks of a packed file, floats in Paddle's default dtype.

    Raises:
        UserError: a damaged file, or one of another kind.
    """
    stored, _ = read_weights(path)
    nets: dict[str, dict[str, np.ndarray]] = {}
    for name, array in stored.items():
        net, slash, key = name.partition("/")
        if not slash:
            raise UserError(f"{path}: {name} is not of a packed model: expected the output of tools/pack_model.py")
        nets.setdefault(net, {})[key] = array
    if "n_g" not in nets:
        raise UserError(f"{path} holds no generator: expected the output of tools/pack_model.py")
    return nets
