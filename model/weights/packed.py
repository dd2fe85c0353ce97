"""A trained model in one small file, so that it can ship with the project: half precision, compressed.

`Painter.load` reads such files like checkpoints.
"""

import os
from collections.abc import Mapping

import numpy as np

from model.errors import UserError
from model.files import replacing
from model.weights.files import read_weights

FILE = "model.npz"


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
