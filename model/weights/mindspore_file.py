"""MindSpore checkpoints (`.ckpt`) and the parameter names of MindSpore's SPADE, without MindSpore.

The file is one protobuf message (MindSpore's public checkpoint.proto):

    Checkpoint  { repeated Value value = 1; }
    Value       { string tag = 1; TensorProto tensor = 2; }
    TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3; }

A large parameter is cut into several values of the same tag; a scalar has the dims [0].
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from model.errors import UserError
from model.weights.pickles import Damaged
from model.weights.torch_file import from_bfloat16

TYPES = {
    "Float16": "<f2", "Float32": "<f4", "Float64": "<f8", "BFloat16": "<u2", "Bool": "?",
    "Int8": "<i1", "Int16": "<i2", "Int32": "<i4", "Int64": "<i8",
    "UInt8": "<u1", "UInt16": "<u2", "UInt32": "<u4", "UInt64": "<u8",
}  # fmt: skip
TYPE_OF = {np.dtype(numpy): name for name, numpy in TYPES.items() if name != "BFloat16"}
SLICE = 512 << 20  # bytes of one value; MindSpore cuts at the same size


# ---- the file ----


def read_mindspore(path: Path) -> dict[str, np.ndarray]:
    """All parameters of a `.ckpt` file; half and bfloat16 as float32, texts left out.

    Raises:
        UserError: not a MindSpore checkpoint, encrypted, truncated or damaged.
    """
    data = memoryview(Path(path).read_bytes())
    pieces: dict[str, list] = {}
    try:
        for field, value in _fields(data):
            if field != 1 or not isinstance(value, memoryview):
                raise Damaged("an unknown field at its top level (encrypted checkpoints cannot be read)")
            tag, dims, kind, content = _value(value)
            if kind in ("str", "random_op"):
                continue
            if kind not in TYPES:
                raise Damaged(f"parameter {tag!r} has the unknown type {kind[:40]!r}")
            known = pieces.setdefault(tag, [dims, kind, []])
            if known[:2] != [dims, kind]:
                raise Damaged(f"the pieces of parameter {tag!r} do not belong together")
            known[2].append(content)
        if not pieces:
            raise Damaged("it holds no parameters")
        return {tag: _array(tag, *piece) for tag, piece in pieces.items()}
    except (Damaged, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read this MindSpore checkpoint: {error}") from error


def _value(message: memoryview) -> tuple[str, list[int], str, memoryview]:
    tag, dims, kind, content = None, [], "", memoryview(b"")
    for field, value in _fields(message):
        if field == 1:
            tag = _text(value)
        elif field == 2:
            for part, entry in _fields(value):
                if part == 1 and isinstance(entry, memoryview):  # packed
                    at = 0
                    while at < len(entry):
                        number, at = _varint(entry, at)
                        dims.append(number)
                elif part == 1:
                    dims.append(entry)
                elif part == 2:
                    kind = _text(entry)
                elif part == 3 and isinstance(entry, memoryview):
                    content = entry
    if tag is None or len(dims) > 16:
        raise Damaged("a parameter without a name or with too many dimensions")
    return tag, dims, kind, content


def _array(tag: str, dims: list[int], kind: str, contents: list[memoryview]) -> np.ndarray:
    dtype = np.dtype(TYPES[kind])
    shape = [] if dims == [0] else dims
    size = sum(len(content) for content in contents)
    if math.prod(shape) * dtype.itemsize != size:
        raise Damaged(f"parameter {tag!r} of shape {shape} and type {kind} has {size} bytes")
    array = np.frombuffer(b"".join(contents), dtype).reshape(shape)
    if kind == "BFloat16":
        return from_bfloat16(array)
    return array.astype(np.float32 if kind == "Float16" else dtype)


def _text(value) -> str:
    if not isinstance(value, memoryview) or len(value) > 10_000:
        raise Damaged("a name is damaged")
    return bytes(value).decode()


def _fields(message) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of a protobuf message: numbers as int, everything with a length as a view."""
    if not isinstance(message, memoryview):
        raise Damaged("a message is damaged")
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
        elif wire in (1, 2, 5):
            length = 8 if wire == 1 else 4
            if wire == 2:
                length, at = _varint(message, at)
            if length > len(message) - at:
                raise Damaged("it is truncated")
            value, at = message[at : at + length], at + length
        else:
            raise Damaged(f"wire type {wire} does not exist")
        yield key >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise Damaged("it is truncated")
        byte, at = message[at], at + 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise Damaged("a number is too long")


def write_mindspore(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write parameters as MindSpore's `save_checkpoint` does."""
    for tag, array in arrays.items():
        array = np.asarray(array)
        dims = array.shape or (0,)
        kind = TYPE_OF[array.dtype.newbyteorder("<")]
        content = array.tobytes()
        for start in range(0, max(len(content), 1), SLICE):
            tensor = b"".join(b"\x08" + _number(n) for n in dims)
            tensor += _bytes(2, kind.encode()) + _bytes(3, content[start : start + SLICE])
            file.write(_bytes(1, _bytes(1, tag.encode()) + _bytes(2, tensor)))


def _number(n: int) -> bytes:
    out = b""
    while n > 127:
        out += struct.pack("B", n & 127 | 128)
        n >>= 7
    return out + struct.pack("B", n)


def _bytes(field: int, data: bytes) -> bytes:
    return _number(field << 3 | 2) + _number(len(data)) + data


# ---- names of MindSpore's SPADE (its model repository, research/cv/SPADE) ----
#
# Differences from the official names: spectral norm's weight keeps its name beside weight_u [n,1] and weight_v [n,1];
# running statistics are moving_mean and moving_variance; every norm has gamma and beta, frozen at 1 and 0; the
# discriminator's middle layers are flat (model1_conv, model1_bn); training wraps put prefixes such as "G.netG." before;
# batches are not counted. Its discriminator pads the pooling before the second scale at the end only, so that scale's
# windows lie one pixel further than the released code's; the generator has the same arithmetic.


def from_mindspore(arrays: Mapping[str, np.ndarray], source: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Official names and layouts of a SPADE checkpoint, and the names that need no counterpart.

    Raises:
        UserError: a normalisation's gamma or beta was trained: SPADE's norms have none.
    """
    official, ignored = {}, []
    for name, array in arrays.items():
        owner, _, leaf = name.rpartition(".")
        if leaf in ("gamma", "beta") and owner.endswith(("param_free_norm", "_bn")):
            if not np.all(array == (1 if leaf == "gamma" else 0)):
                raise UserError(
                    f"{source}: {name} is not the constant {'1' if leaf == 'gamma' else '0'}: the norm was trained "
                    "with an affine part, which SPADE's parameter-free norm cannot hold"
                )
            ignored.append(name)
            continue
        if leaf in ("moving_mean", "moving_variance"):
            leaf = {"moving_mean": "running_mean", "moving_variance": "running_var"}[leaf]
        elif leaf in ("weight_u", "weight_v"):
            array = array.reshape(-1)
        elif leaf == "weight" and f"{owner}.weight_u" in arrays:
            leaf = "weight_orig"
        owner = re.sub(r"(model\d+)_conv$", r"\1.0.0", owner)
        official[f"{owner}.{leaf}"] = array
    return official, ignored


def to_mindspore(official: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The names that MindSpore's SPADE reads. The caller has checked that its network has this form."""
    arrays = {}
    for name, array in official.items():
        owner, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        owner = re.sub(r"(discriminator_\d+\.model\d+)\.0\.0$", r"\1_conv", owner)
        if leaf in ("running_mean", "running_var"):
            leaf = {"running_mean": "moving_mean", "running_var": "moving_variance"}[leaf]
            if leaf == "moving_mean":
                arrays[f"{owner}.gamma"] = np.ones_like(array)
                arrays[f"{owner}.beta"] = np.zeros_like(array)
        elif leaf in ("weight_u", "weight_v"):
            array = array.reshape(-1, 1)
        elif leaf == "weight_orig":
            leaf = "weight"
            if owner.endswith("_conv"):
                shape = (1, array.shape[0], 1, 1)
                arrays[f"{owner[: -len('_conv')]}_bn.gamma"] = np.ones(shape, np.float32)
                arrays[f"{owner[: -len('_conv')]}_bn.beta"] = np.zeros(shape, np.float32)
        arrays[f"{owner}.{leaf}"] = array
    return arrays
