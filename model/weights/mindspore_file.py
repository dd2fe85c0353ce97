"""MindSpore checkpoints (`.ckpt`) and the parameter names of MindSpore's SPADE, without MindSpore."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf import descriptor_pb2, message, message_factory, text_format

from model.errors import UserError
from model.weights.damage import Damaged, reading
from model.weights.numbers import MINDSPORE, decoded, name_of

SLICE = 512 << 20  # bytes of one value; MindSpore cuts at the same size
# What is needed of MindSpore's public checkpoint.proto. A large parameter is cut into several values of the same tag; a
# scalar has the dims [0].
_FORMAT = """
name: "checkpoint.proto" syntax: "proto3"
message_type { name: "Checkpoint"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".Value" } }
message_type { name: "Value"
  field { name: "tag" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "tensor" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".Tensor" } }
message_type { name: "Tensor"
  field { name: "dims" number: 1 label: LABEL_REPEATED type: TYPE_INT64 options { packed: false } }
  field { name: "type" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "content" number: 3 label: LABEL_OPTIONAL type: TYPE_BYTES } }
"""
_PARSED = text_format.Parse(_FORMAT, descriptor_pb2.FileDescriptorProto())
_Checkpoint = message_factory.GetMessages([_PARSED])["Checkpoint"]


# ---- the file ----


def read_mindspore(path: Path) -> dict[str, np.ndarray]:
    """All parameters of a `.ckpt` file; bfloat16 as float32, texts left out.

    Raises:
        UserError: not a MindSpore checkpoint, encrypted, truncated or damaged.
    """
    pieces: dict[str, list] = {}
    with reading(path, "a MindSpore checkpoint", message.DecodeError):
        for value in _Checkpoint.FromString(Path(path).read_bytes()).value:
            if value.tensor.type not in ("str", "random_op"):
                pieces.setdefault(value.tag, []).append(value.tensor)
        if not pieces:
            raise Damaged("it holds no parameters (encrypted ones cannot be read)")
        return {tag: _array(tag, tensors) for tag, tensors in pieces.items()}


def _array(tag: str, tensors: list[Any]) -> np.ndarray:
    dims, kind = list(tensors[0].dims), tensors[0].type
    if any((list(other.dims), other.type) != (dims, kind) for other in tensors):
        raise Damaged(f"the pieces of parameter {tag!r} do not belong together")
    if kind not in MINDSPORE:
        raise Damaged(f"parameter {tag!r} has the unknown type {kind[:40]!r}")
    dtype, content = np.dtype(MINDSPORE[kind]).newbyteorder("<"), b"".join(other.content for other in tensors)
    shape = [] if dims == [0] else dims
    if len(dims) > 16 or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content):
        raise Damaged(f"parameter {tag!r} of shape {shape[:16]} and type {kind} has {len(content)} bytes")
    return decoded(np.frombuffer(content, dtype).reshape(shape), kind)


def write_mindspore(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write parameters as MindSpore's `save_checkpoint` does."""
    for tag, array in arrays.items():
        content = np.asarray(array, array.dtype.newbyteorder("<")).tobytes()
        tensor = {"dims": array.shape or (0,), "type": name_of(array.dtype, MINDSPORE)}
        for start in range(0, max(len(content), 1), SLICE):
            piece = {"tag": tag, "tensor": tensor | {"content": content[start : start + SLICE]}}
            file.write(_Checkpoint(value=[piece]).SerializeToString())  # one after the other, they are one message


# ---- names of MindSpore's SPADE (its model repository, research/cv/SPADE) ----
#
# Differences from the official names: spectral norm's weight keeps its name beside weight_u [n,1] and weight_v [n,1];
# running statistics are moving_mean and moving_variance; every norm has gamma and beta, frozen at 1 and 0; the
# discriminator's middle layers are flat (model1_conv, model1_bn); training wraps put prefixes such as "G.netG." before;
# batches are not counted. Its discriminator pads the pooling before the second scale at the end only, so that scale's
# windows lie one pixel further than the released code's; the generator has the same arithmetic.


_STATISTICS = {"moving_mean": "running_mean", "moving_variance": "running_var"}


def from_mindspore(arrays: Mapping[str, np.ndarray], source: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Official names and layouts of a SPADE checkpoint, and the names that need no counterpart.

    Raises:
        UserError: a normalisation's gamma or beta was trained: SPADE's norms have none.
    """
    official, ignored = {}, []
    for name, array in arrays.items():
        owner, _, leaf = name.rpartition(".")
        if leaf in ("gamma", "beta") and owner.endswith(("param_free_norm", "_bn")):
            constant = 1 if leaf == "gamma" else 0
            if not np.all(array == constant):
                raise UserError(
                    f"{source}: {name} is not the constant {constant}: the norm was trained with an affine part, "
                    "which SPADE's parameter-free norm cannot hold"
                )
            ignored.append(name)
            continue
        if leaf in ("weight_u", "weight_v"):
            array = array.reshape(-1)
        elif leaf == "weight" and f"{owner}.weight_u" in arrays:
            leaf = "weight_orig"
        owner = re.sub(r"(model\d+)_conv$", r"\1.0.0", owner)
        official[f"{owner}.{_STATISTICS.get(leaf, leaf)}"] = array
    return official, ignored


def to_mindspore(official: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The names that MindSpore's SPADE reads. The caller has checked that its network has this form."""
    arrays = {}
    statistics = {ours: name for name, ours in _STATISTICS.items()}
    for name, array in official.items():
        owner, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        owner = re.sub(r"(discriminator_\d+\.model\d+)\.0\.0$", r"\1_conv", owner)
        if leaf in ("weight_u", "weight_v"):
            array = array.reshape(-1, 1)
        elif leaf == "running_mean":
            arrays |= _affine(owner, array.shape)
        elif leaf == "weight_orig":
            leaf = "weight"
            if owner.endswith("_conv"):
                arrays |= _affine(owner.removesuffix("_conv") + "_bn", (1, len(array), 1, 1))
        arrays[f"{owner}.{statistics.get(leaf, leaf)}"] = array
    return arrays


def _affine(norm: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The frozen gamma and beta of a norm."""
    return {f"{norm}.gamma": np.ones(shape, np.float32), f"{norm}.beta": np.zeros(shape, np.float32)}
