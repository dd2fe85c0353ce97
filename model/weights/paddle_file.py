"""Paddle's parameter files, `.pdparams` and `.pdopt`: pickles, read strictly, written in `paddle.save`'s form."""

import os
import pickle
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.errors import UserError
from model.weights.damage import Damaged, DamagedError, Forbidden, reading
from model.weights.pickles import Name, read_pickle

_NAME_TABLE, _BIG_PARAMETERS = "StructuredToParameterName@@", "UnpackBigParamInfor@@"
_MAX_DEPTH = 32


# ---- what the pickles may call: `read_pickle` tells as damage what NumPy and Python raise here at nonsense ----


class _Dtype:
    """Stands for `numpy.dtype` while a file is read: simple numbers only."""

    def __init__(self, spec: object, *flags: object) -> None:
        del flags  # align and copy, which say nothing for simple types
        if not isinstance(spec, str) or not re.fullmatch(r"[biufc]\d{1,2}", spec):
            raise Damaged("an array of something else than numbers")
        self.dtype = np.dtype(spec)

    def set_state(self, state: Any) -> None:
        """Take over the byte order, the one part of a simple dtype's state that matters."""
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for `numpy.ndarray` while a file is read; checks sizes itself, because NumPy trusts its pickles."""

    def __init__(self, kind: object, shape: object, code: object) -> None:
        if kind != Name("numpy.ndarray") or shape != (0,) or code not in (b"b", "b"):
            raise Damaged("malformed array")
        self.value: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        """Fill in the values from (version, shape, dtype, is_fortran, bytes)."""
        _, shape, dtype, fortran, raw = state
        if not isinstance(raw, bytes) or not all(type(n) is int and n >= 0 for n in shape):
            raise Damaged("malformed array")
        self.value = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")


def _scalar(dtype: Any, raw: Any) -> np.generic:
    (number,) = np.frombuffer(raw, dtype.dtype)
    return number


def _encode(text: Any, codec: object) -> bytes:
    if codec not in ("latin1", "latin-1"):
        raise Damaged("malformed bytes")
    return text.encode("latin1")


def _named_tensor(pair: Any) -> _Array:
    """A tensor as paddle.save writes it: `tuple((name, values))`; the name means nothing outside its process."""
    _, array = pair
    if not isinstance(array, _Array):
        raise Damaged("malformed tensor")
    return array


_FUNCTIONS = {
    "collections.OrderedDict": lambda: {},
    "_codecs.encode": _encode,
    "builtins.bytes": lambda: b"",
    "builtins.tuple": _named_tensor,
    "numpy.dtype": _Dtype,
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
}


# ---- reading ----


def _resolve(value: Any, seen: dict[int, Any], depth: int = 0) -> Any:
    """Replace stand-ins by their arrays. Each container is visited once, however often the file refers to it."""
    if isinstance(value, _Array):
        if value.value is None:
            raise Damaged("array without values")
        return value.value
    if value is None or isinstance(value, str | bytes | bool | int | float | np.generic):
        return value
    if isinstance(value, Name):
        raise Forbidden(value.text[:100])
    if not isinstance(value, dict | list | tuple):
        raise Forbidden(f"a bare {type(value).__name__}")
    if id(value) in seen:
        if seen[id(value)] is None:
            raise Damaged("a container holds itself")
        return seen[id(value)]
    if depth > _MAX_DEPTH:
        raise Damaged(f"more than {_MAX_DEPTH} levels of containers")
    seen[id(value)] = None
    items = [_resolve(item, seen, depth + 1) for item in (value.values() if isinstance(value, dict) else value)]
    seen[id(value)] = dict(zip(value, items, strict=True)) if isinstance(value, dict) else type(value)(items)
    return seen[id(value)]


def _join_big_parameters(state: dict) -> dict:
    """Undo paddle.save's cutting of arrays above 1 GB (pickle protocols 2 and 3)."""
    parts = state.pop(_BIG_PARAMETERS, {})
    try:
        for key, how in parts.items():
            pieces = [state.pop(name) for name in how["slices"] if isinstance(name, str)]
            state[key] = np.concatenate(pieces).reshape(how["OriginShape"])
    except (ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        raise Damaged(f"its cut arrays do not fit together ({error})") from None
    return state


def read_state(path: str | os.PathLike) -> Any:
    """Read what `paddle.save` wrote, arrays for tensors, without running anything from the file.

    Args:
        path: a `.pdparams` or `.pdopt` file of pickle protocol 2, 3 or 4.

    Returns:
        Dictionaries, lists, tuples, numbers, text and NumPy arrays (read-only views of the file's bytes) as saved.

    Raises:
        DamagedError: the file is missing, cut short, or no pickle.
        UserError: the file holds anything else, code for example; nothing of it has been run.
    """
    with reading(path, "a Paddle parameter file"), open(path, "rb") as file:
        head = file.read(4)
        if head[:2] == b"PK":
            raise UserError(f"{path} is a zip archive (PyTorch writes those), not a Paddle parameter file")
        if head[:1] != pickle.PROTO:
            raise DamagedError(f"{path} is not a Paddle parameter file (first bytes {head!r})")
        file.seek(0)
        state = _resolve(read_pickle(file, _FUNCTIONS), {})
        return _join_big_parameters(state) if isinstance(state, dict) else state


def read_pdparams(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read a `.pdparams` file: one flat dictionary of arrays, as `paddle.save(net.state_dict(), path)` writes it.

    Returns:
        Arrays by name, in the file's order; read-only views of the file's bytes.

    Raises:
        DamagedError, UserError: see `read_state`; also when the file holds something else than named arrays.
    """
    state = read_state(path)
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, expected arrays by name")
    state.pop(_NAME_TABLE, None)
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, np.ndarray | np.generic):
            raise UserError(f"{path}: entry {key!r} is a {type(value).__name__}, expected an array")
    return {key: np.asarray(value) for key, value in state.items()}


# ---- writing ----


def plain(value: Any) -> Any:
    """Turn tensors and array scalars into arrays, copy containers, refuse what `read_state` would refuse."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"cannot save an array of type {array.dtype}")
        return array
    if value is None or isinstance(value, str | bytes | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    if hasattr(value, "numpy"):
        return np.asarray(value.numpy())
    raise TypeError(f"cannot save a {type(value).__name__}")


def write_state(path: str | os.PathLike, state: Any) -> None:
    """Write a file in the form of `paddle.save`, pickle protocol 4, and flush it to the disk.

    Args:
        path: the file, replaced if it exists.
        state: dictionaries, lists, tuples, numbers, text, arrays and tensors.
    """
    state = plain(state)  # what cannot be saved is refused before the file is touched
    with open(path, "wb") as file:
        pickle.dump(state, file, protocol=4)
        file.flush()
        os.fsync(file.fileno())
