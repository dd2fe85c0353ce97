"""Reading and writing PyTorch checkpoints without torch, and without running anything that they contain.

A `.pth` file is a pickle plus raw storages: a zip archive since torch 1.6, a plain stream of pickles before.
"""

import io
import math
import os
import re
import struct
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from model.files import BROKEN_ZIP
from model.weights.damage import Damaged, reading
from model.weights.numbers import TORCH, decoded, name_of
from model.weights.pickles import Name, read_pickle

# The legacy format begins with a pickle of this number, behind the two bytes that say its protocol.
LEGACY_START = b"\x8a\n" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
PROTOCOL_VERSION = 1001

# Far above what weights need (a checkpoint of 1,000 tensors has a pickle of 0.2 MB), far below what would hurt.
MAX_PICKLE = 16 << 20
MAX_ENTRIES = 100_000
MAX_DEPTH = 20
MAX_VISITS = 200_000


class _Storage(NamedTuple):
    key: str
    kind: str
    numel: int
    offset: int = 0


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


# What a file holds: tensors by dotted name, storages' bytes by key, and their byte order, < or >.
_Contents = tuple[dict[str, _Tensor], dict[str, bytes], str]


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All tensors of a `.pth` file, nested dictionaries joined with dots.

    Args:
        path: a file of `torch.save`, zip or legacy format.

    Returns:
        {name: array in C order}; bfloat16 as float32, other types as stored. The arrays may be read-only and share
        memory.

    Raises:
        UserError: the file is damaged, unreasonable, or holds anything but plain data and tensors.
    """
    path = Path(path)
    with reading(path, "PyTorch weights", struct.error, *BROKEN_ZIP), open(path, "rb") as file:
        zipped = file.read(2) == b"PK"
        file.seek(0)
        tensors, storages, order = _read_zip(file) if zipped else _read_legacy(file)
        if not tensors:
            raise Damaged("it holds no tensors")
        left = 4 * path.stat().st_size + (1 << 20)  # bytes of arrays that share storages, which a bomb has in excess
        arrays = {}
        for name, tensor in tensors.items():
            arrays[name] = _array(name, tensor, storages, order, left)
            left -= arrays[name].nbytes
        return arrays


# ---- containers ----


def _read_zip(file: BinaryIO) -> _Contents:
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_ENTRIES or sum(info.file_size for info in infos) > size:
            raise Damaged("its entries claim more than the file holds (a zip bomb?)")
        names = {info.filename for info in infos}
        if len(names) != len(infos):
            raise Damaged("it has two entries of one name")
        for info in infos:
            # torch.save stores without compression; anything else did not come from it.
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise Damaged(f"its entry {info.filename!r} is compressed or encrypted, which torch.save never does")
        roots = [name.removesuffix("data.pkl") for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(roots) != 1:
            raise Damaged("it has no archive/data.pkl")
        (root,) = roots
        if root + "constants.pkl" in names:
            raise Damaged("it is a TorchScript program, not the module's state_dict()")
        order = archive.read(root + "byteorder").strip() if root + "byteorder" in names else b"little"
        if order not in (b"little", b"big"):
            raise Damaged(f"its byte order {order[:20]!r} is unknown")
        if archive.getinfo(root + "data.pkl").file_size > MAX_PICKLE:
            raise Damaged("its data.pkl is unreasonably large")
        tensors = _flatten(read_pickle(io.BytesIO(archive.read(root + "data.pkl")), _FUNCTIONS, _storage))
        keys = {tensor.storage.key for tensor in tensors.values()}
        storages = {key: archive.read(f"{root}data/{key}") for key in keys if f"{root}data/{key}" in names}
    return tensors, storages, "<" if order == b"little" else ">"


def _read_legacy(file: BinaryIO) -> _Contents:
    """The stream of pickles that torch wrote before 1.6."""
    _, version, system, tree, keys = (read_pickle(file, _FUNCTIONS, _storage) for _ in range(5))
    if version != PROTOCOL_VERSION:
        raise Damaged("its protocol version is unknown")
    little = system.get("little_endian", True) if isinstance(system, dict) else True
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise Damaged("its list of storages is not a list of names")
    tensors = _flatten(tree)
    kinds = {tensor.storage.key: tensor.storage.kind for tensor in tensors.values()}
    storages = {}
    for key in keys:
        if key not in kinds:
            raise Damaged(f"its storage {key!r} belongs to no tensor, so its length is unknown")
        (numel,) = struct.unpack("<q", file.read(8))
        size = numel * np.dtype(TORCH[kinds[key]]).itemsize
        if not 0 <= size <= os.fstat(file.fileno()).st_size:
            raise Damaged(f"its storage {key!r} has the length {numel}, which the file does not hold")
        storages[key] = file.read(size)
    return tensors, storages, "<" if little else ">"


# ---- tensors ----


def _flatten(tree: Any) -> dict[str, _Tensor]:
    """{dotted name: tensor} of nested dictionaries and lists; numbers and strings are left out."""
    found: dict[str, _Tensor] = {}
    visited = 0

    def walk(node, name, depth):
        nonlocal visited
        visited += 1  # few objects that hold each other many times make a tree without end
        if depth > MAX_DEPTH or visited > MAX_VISITS:
            raise Damaged("it is nested too deeply")
        if isinstance(node, _Tensor):
            if name in found:
                raise Damaged(f"the name {name} occurs twice")
            found[name] = node
        elif isinstance(node, dict | list | tuple):
            for key, value in node.items() if isinstance(node, dict) else enumerate(node):
                walk(value, f"{name}.{key}" if name else str(key), depth + 1)

    if isinstance(tree, _Tensor):
        raise Damaged("it holds one tensor without a name, not a state dict")
    walk(tree, "", 0)
    return found


def _array(name: str, tensor: _Tensor, storages: Mapping[str, bytes], order: str, limit: int) -> np.ndarray:
    """The array of a tensor, of at most `limit` bytes."""
    storage = tensor.storage
    if storage.key not in storages:
        raise Damaged(f"its storage {storage.key!r} is missing")
    dtype, buffer = np.dtype(TORCH[storage.kind]).newbyteorder(order), storages[storage.key]
    available = len(buffer) // dtype.itemsize
    if storage.numel > available - storage.offset:
        raise Damaged(f"{name} needs {storage.numel} numbers, its storage has {available - storage.offset}")
    count = math.prod(tensor.shape)
    if not count:
        return decoded(np.zeros(tensor.shape, dtype), storage.kind)
    first = storage.offset + tensor.offset
    # In whole numbers of Python, since NumPy's own check is one of machine words, which absurd strides overflow.
    if first + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True)) >= available:
        raise Damaged(f"{name} reaches outside its storage")
    if count > available or count * dtype.itemsize > limit:
        raise Damaged(f"{name} is larger than the data that the file holds for it")
    strides = [s * dtype.itemsize for s in tensor.stride]
    view = np.ndarray(tensor.shape, dtype, buffer, first * dtype.itemsize, strides)
    return np.ascontiguousarray(decoded(view, storage.kind)).reshape(tensor.shape)


# ---- what the pickles may call ----


_STORAGES = {f"{place}.{name}": name for place in ("torch", "torch.cuda", "torch.storage") for name in TORCH}


def _storage(reference: Any) -> _Storage:
    """A persistent id: ("storage", type, key, device, length[, view of a larger storage])."""
    if reference[:1] == ("module",):
        raise Damaged("it is a whole module with its code, not its state_dict()")
    _, kind, key, _, numel, *view = reference
    name = kind.text if isinstance(kind, Name) else "something"
    if name not in _STORAGES or not isinstance(key, str | int):
        raise Damaged(f"it holds {name[:100]}, no known storage")
    offset = 0
    if view and view[0] is not None:
        _, offset, numel = view[0]
    if not _whole((numel, offset)) or re.search(r"[/\\]|\.\.", str(key)):
        raise Damaged("a storage has an impossible length or key")
    return _Storage(str(key), _STORAGES[name], numel, offset)


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, tuple) and all(type(n) is int and 0 <= n < 2**62 for n in numbers)


def _tensor(storage, offset, shape, stride, *_) -> _Tensor:
    if not isinstance(storage, _Storage) or not _whole((offset,)) or not _whole(shape) or not _whole(stride):
        raise Damaged("a tensor has an impossible shape, stride or offset")
    if len(shape) != len(stride) or len(shape) > 16:
        raise Damaged(f"a tensor has {len(shape)} sizes and {len(stride)} strides")
    return _Tensor(storage, offset, shape, stride)


def _parameter(tensor, *_) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise Damaged("a parameter is not a tensor")
    return tensor


class _StateDict(dict):
    """An OrderedDict. Torch hangs a state dict's version numbers on it as an attribute, which nobody needs here."""

    def __init__(self, items=()):  # Python 2 handed the items over, as a list of pairs
        if not all(isinstance(name, str) for name, _ in items):
            raise Damaged("an OrderedDict is damaged")
        super().__init__(items)

    def set_state(self, state) -> None:
        """Leave the attributes out."""


_FUNCTIONS = {
    "collections.OrderedDict": _StateDict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.Size": tuple,
}


# ---- writing ----


def write_torch(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a state dict in the zip format: `torch.load(weights_only=True)` reads it.

    Args:
        file: a seekable binary file.
        arrays: {name: array of a type that torch has}.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, data: bytes) -> None:
            info = zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0))  # no clock: equal weights, equal files
            # torch.load(mmap=True) wants storages at multiples of 64; torch pads with an extra field named FB.
            padding = -(file.tell() + zipfile.sizeFileHeader + len(info.filename) + 4) % 64
            info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
            archive.writestr(info, data)

        add("data.pkl", _pickle(arrays))
        add("byteorder", sys.byteorder.encode())
        for i, array in enumerate(arrays.values()):
            add(f"data/{i}", np.ascontiguousarray(array).tobytes())
        add("version", b"3\n")


def _pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of an OrderedDict of tensors, storage i for the i-th."""

    def code(value: str | int | Iterable) -> bytes:
        if isinstance(value, str):
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        if isinstance(value, int):
            return b"\x8a\x08" + struct.pack("<q", value)
        return b"(" + b"".join(map(code, value)) + b"t"

    empty = b"ccollections\nOrderedDict\n)R"
    parts = [b"\x80\x02", empty, b"("]
    for i, (name, array) in enumerate(arrays.items()):
        array = np.asarray(array)
        strides = [math.prod(array.shape[d + 1 :]) for d in range(array.ndim)]
        storage = f"ctorch\n{name_of(array.dtype, TORCH)}\n".encode()
        reference = code("storage") + storage + code(str(i)) + code("cpu") + code(array.size)
        parts += [code(name), b"ctorch._utils\n_rebuild_tensor_v2\n(", b"(", reference, b"tQ", code(0)]
        parts += [code(array.shape), code(strides), b"\x89", empty, b"tR"]
    return b"".join(parts) + b"u."
