"""Reading and writing PyTorch checkpoints without torch, and without running anything that they contain.

A `.pth` file is a pickle plus raw storages: a zip archive since torch 1.6, a plain stream of pickles before.
"""

import io
import math
import os
import struct
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from model.errors import UserError
from model.files import BROKEN_ZIP
from model.weights.pickles import Bounded, Damaged, Forbidden, Name, read_pickle

# The first bytes of the legacy format: a pickle of the number 0x1950a86a20f9469cfc6c.
LEGACY_START = tuple(bytes([0x80, protocol]) + b"\x8a\n" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
                     for protocol in (2, 3, 4, 5))  # fmt: skip
PROTOCOL_VERSION = 1001
STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",  # see from_bfloat16
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
STORAGE_OF = {"f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage",
              "i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage", "b1": "BoolStorage"}  # fmt: skip


# Far above what weights need (a checkpoint of 1,000 tensors has a pickle of 0.2 MB), far below what would hurt.
MAX_PICKLE = 16 << 20
MAX_ENTRIES = 100_000
MAX_DEPTH = 20
MAX_VISITS = 200_000


@dataclass(frozen=True)
class _Storage:
    key: str
    kind: str
    numel: int
    offset: int = 0


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All tensors of a `.pth` file, nested dictionaries joined with dots.

    Args:
        path: a file of `torch.save`, zip or legacy format.

    Returns:
        {name: array in C order}; half and bfloat16 as float32, other types as stored. The arrays may be
        read-only and share memory.

    Raises:
        UserError: the file is damaged, unreasonable, or holds anything but plain data and tensors.
    """
    path = Path(path)
    with open(path, "rb") as file:
        try:
            if file.read(4) == b"PK\x03\x04":
                root, storages = _read_zip(file)
            else:
                file.seek(0)
                root, storages = _read_legacy(file)
            limit = 4 * os.fstat(file.fileno()).st_size + (1 << 20)
            tensors = _flatten(root)
            if not tensors:
                raise Damaged("it holds no tensors")
            return _materialise(tensors, storages, limit)
        except (EOFError, struct.error, MemoryError) as error:
            raise UserError(f"{path}: cannot read these PyTorch weights: the file is truncated or damaged") from error
        except Forbidden as error:
            raise UserError(
                f"{path}: cannot read these PyTorch weights: it asks for {error}, which weights have no use for (of a "
                "whole module, save its state_dict() instead); nothing of it was run or used"
            ) from error
        except (Damaged, *BROKEN_ZIP) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{path}: cannot read these PyTorch weights: {reason}; nothing of it was run or used"
            ) from error


# ---- containers ----


def _read_zip(file: BinaryIO):
    """The root object and {storage key: (bytes, byte order)} of the zip format."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_ENTRIES or sum(info.file_size for info in infos) > size:
            raise Damaged("its entries claim more than the file holds (a zip bomb?)")
        names = [info.filename for info in infos]
        if len(set(names)) != len(names):
            raise Damaged("it has two entries of one name")
        for info in infos:
            # torch.save stores without compression; anything else did not come from it.
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise Damaged(f"its entry {info.filename!r} is compressed or encrypted, which torch.save never does")
        roots = [name[: -len("data.pkl")] for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(roots) != 1:
            raise Damaged("it has no archive/data.pkl")
        root = roots[0]
        if root + "constants.pkl" in names:
            raise Damaged("it is a TorchScript program; save the module's state_dict() instead")
        order = archive.read(root + "byteorder").strip() if root + "byteorder" in names else b"little"
        if order not in (b"little", b"big"):
            raise Damaged(f"its byte order {order[:20]!r} is unknown")
        if archive.getinfo(root + "data.pkl").file_size > MAX_PICKLE:
            raise Damaged("its data.pkl is unreasonably large")
        tree = _unpickle(Bounded(io.BytesIO(archive.read(root + "data.pkl"))))
        storages = {}
        for storage in {tensor.storage.key: tensor.storage for tensor in _flatten(tree).values()}.values():
            entry = f"{root}data/{storage.key}"
            if entry not in names:
                raise Damaged(f"its storage {storage.key!r} is missing")
            storages[storage.key] = archive.read(entry)
    return tree, (storages, "<" if order == b"little" else ">")


def _read_legacy(file: BinaryIO):
    """The same for the stream of pickles that torch wrote before 1.6."""
    stream = Bounded(file)
    if not isinstance(_unpickle(stream), int):
        raise Damaged("it does not start like a PyTorch file")
    if _unpickle(stream) != PROTOCOL_VERSION:
        raise Damaged("its protocol version is unknown")
    system = _unpickle(stream)
    little = system.get("little_endian", True) if isinstance(system, dict) else True
    tree = _unpickle(stream)
    keys = _unpickle(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise Damaged("its list of storages is not a list of names")
    kinds = {tensor.storage.key: tensor.storage.kind for tensor in _flatten(tree).values()}
    storages = {}
    for key in keys:
        if key not in kinds:
            raise Damaged(f"its storage {key!r} belongs to no tensor, so its length is unknown")
        (numel,) = struct.unpack("<q", stream.read(8))
        if numel < 0:
            raise Damaged(f"its storage {key!r} has the length {numel}")
        storages[key] = stream.read(numel * np.dtype(STORAGES[kinds[key]]).itemsize)
    return tree, (storages, "<" if little else ">")


# ---- tensors ----


def _flatten(tree) -> dict[str, _Tensor]:
    """{dotted name: tensor} of nested dictionaries and lists; numbers and strings are left out."""
    found: dict[str, _Tensor] = {}
    if isinstance(tree, _Tensor):
        raise Damaged("it holds one tensor without a name, not a state dict")

    visited = 0

    def walk(node, name, depth):
        nonlocal visited
        visited += 1  # few objects that hold each other many times make a tree without end
        if depth > MAX_DEPTH or visited > MAX_VISITS:
            raise Damaged("it is nested too deeply")
        if isinstance(node, _Tensor):
            if name in found:
                raise Damaged(f"the name {name} occurs twice")
            if not name.isprintable():
                raise Damaged(f"the name {name[:40]!r} is not plain text")
            found[name] = node
        elif isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{name}.{key}" if name else str(key), depth + 1)
        elif isinstance(node, list | tuple):
            for i, value in enumerate(node):
                walk(value, f"{name}.{i}" if name else str(i), depth + 1)
        if len(found) > MAX_ENTRIES:
            raise Damaged("it holds too many tensors")

    walk(tree, "", 0)
    return found


def _materialise(tensors: Mapping[str, _Tensor], storages, limit: int) -> dict[str, np.ndarray]:
    raw, order = storages
    arrays, total = {}, 0
    for name, tensor in tensors.items():
        storage = tensor.storage
        dtype = np.dtype(STORAGES[storage.kind]).newbyteorder(order)
        buffer = raw[storage.key]
        available = len(buffer) // dtype.itemsize
        if storage.numel > available - storage.offset:
            raise Damaged(f"{name} needs {storage.numel} numbers, its storage has {available - storage.offset}")
        count = math.prod(tensor.shape)
        first = storage.offset + tensor.offset
        last = first + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride, strict=True)) if count else first
        if last >= available and count:
            raise Damaged(f"{name} reaches outside its storage")
        total += count * dtype.itemsize
        if count > available or total > limit:
            raise Damaged(f"{name} is larger than the data that the file holds for it")
        strides = [s * dtype.itemsize for s in tensor.stride]
        view = np.ndarray(tensor.shape, dtype, buffer, first * dtype.itemsize, strides) if count else np.zeros(
            tensor.shape, dtype)  # fmt: skip
        if storage.kind == "BFloat16Storage":
            array = from_bfloat16(view)
        elif storage.kind == "HalfStorage":
            array = view.astype(np.float32)
        else:
            array = view.astype(dtype.newbyteorder("="), copy=False)
        arrays[name] = np.ascontiguousarray(array).reshape(tensor.shape)
    return arrays


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 as float32, of any shape; as NumPy lacks it, it comes as uint16, the upper half of a float32."""
    return (bits.astype("=u4") << np.uint32(16)).view(np.float32).reshape(bits.shape)  # <<: a scalar of shape []


# ---- what the pickles may call ----


def _storage(reference) -> _Storage:
    """A persistent id: ("storage", type, key, device, length[, view of a larger storage])."""
    if isinstance(reference, tuple) and reference[:1] == ("module",):
        raise Damaged("it is a whole module with its code; save the module's state_dict() instead")
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise Damaged("it refers to something that is not a storage")
    _, kind, key, _, numel, *view = reference
    name = kind.text.rpartition(".")[2] if isinstance(kind, Name) else ""
    if name not in STORAGES or kind.text.rpartition(".")[0] not in ("torch", "torch.cuda", "torch.storage"):
        raise Damaged(f"it holds {kind.text[:100] if isinstance(kind, Name) else 'something'!r}, no known storage")
    key = str(key)
    if not isinstance(numel, int) or isinstance(numel, bool) or numel < 0 or "/" in key or "\\" in key or ".." in key:
        raise Damaged("a storage has an impossible length or key")
    offset = 0
    if view and view[0] is not None:
        if not isinstance(view[0], tuple) or len(view[0]) != 3 or not _whole(view[0][1:]):
            raise Damaged("a view of a storage is damaged")
        _, offset, numel = view[0]
    return _Storage(key, name, numel, offset)


def _whole(numbers) -> bool:
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

    def set_state(self, state) -> None:
        """Leave the attributes out."""


def _ordered_dict(items=()) -> dict:
    # Python 2 handed the items over, as a list of pairs.
    if not all(isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str) for item in items):
        raise Damaged("an OrderedDict is damaged")
    return _StateDict(items)


_FUNCTIONS = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.Size": tuple,
}


def _unpickle(stream: Bounded):
    return read_pickle(stream, _FUNCTIONS, _storage)


# ---- writing ----


def write_torch(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a state dict in the zip format: `torch.load(weights_only=True)` reads it.

    Args:
        file: a seekable binary file.
        arrays: {name: array of a type that torch has}.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "archive/data.pkl", _pickle(arrays))
        _add(archive, "archive/byteorder", sys.byteorder.encode())
        for i, array in enumerate(arrays.values()):
            _add(archive, f"archive/data/{i}", np.ascontiguousarray(array).tobytes())
        _add(archive, "archive/version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # no clock: equal weights give equal files
    # torch.load(mmap=True) wants storages at multiples of 64; torch pads with an extra field named FB.
    position = archive.fp.tell() + zipfile.sizeFileHeader + len(name.encode()) + 4
    padding = -position % 64
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(info, data)


def _pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of an OrderedDict of tensors, storage i for the i-th."""

    def text(value: str) -> bytes:
        data = value.encode()
        return b"X" + struct.pack("<I", len(data)) + data

    def whole(value: int) -> bytes:
        if 0 <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        return b"\x8a\x08" + struct.pack("<q", value)

    def numbers(values) -> bytes:
        return b"(" + b"".join(map(whole, values)) + b"t"

    empty = b"ccollections\nOrderedDict\n)R"
    parts = [b"\x80\x02", empty, b"("]
    for i, (name, array) in enumerate(arrays.items()):
        array = np.asarray(array)
        storage = STORAGE_OF[array.dtype.str[1:]]
        strides = [math.prod(array.shape[d + 1 :]) for d in range(array.ndim)]
        reference = text("storage") + f"ctorch\n{storage}\n".encode() + text(str(i)) + text("cpu") + whole(array.size)
        parts += [text(name), b"ctorch._utils\n_rebuild_tensor_v2\n(", b"(", reference, b"tQ", whole(0)]
        parts += [numbers(array.shape), numbers(strides), b"\x89", empty, b"tR"]
    return b"".join(parts) + b"u."
