"""Checkpoints: written whole or not at all, read strictly, never trusted to be what they say.

Layout of `output/model/`:

    step_00001000/      one complete checkpoint: n_g n_d n_e .pdparams, state.pdopt, opt.yaml, meta.json
    latest              link to the last complete one; moved in one operation
    best                link to the best one, when the run has a measure
    n_g.pdparams ...    links through `latest`, so that the three always belong together

A checkpoint is written to a `tmp_` folder, each file is flushed to the disk, the folder gets its name, and only then
does `latest` move. A process killed at any moment leaves the old state or the new one; `prepare` clears its leftovers.

Parameter files are pickles, which can carry code. `read_state` rebuilds plain values and arrays and nothing else.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import pickle
import random
import shutil
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np

from model.errors import UserError, listed, tell
from model.files import sync_folder, told_size, unused
from model.options import OPT

FORMAT = 1
STATE_FILE, OPT_FILE, META_FILE = "state.pdopt", "opt.yaml", "meta.json"
LATEST, BEST = "latest", "best"
_STEP, _TEMPORARY, _TRASH, _LOCK = "step_", "tmp_", "trash_", ".lock"
_NAME_TABLE, _BIG_PARAMETERS = "StructuredToParameterName@@", "UnpackBigParamInfor@@"
_MAX_DEPTH = 32
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DamagedError(UserError):
    """A checkpoint file that is missing, cut short or altered; an older checkpoint may still be good."""


# ---------------------------------------------------------------------------------------------------------------------
# Reading pickles without running them


class _Dtype:
    """Stands for `numpy.dtype` while a file is read: simple numbers only."""

    def __init__(self, spec: object, *flags: object) -> None:
        del flags  # align and copy, which say nothing for simple types
        dtype = np.dtype(spec) if isinstance(spec, str) and len(spec) <= 4 else None
        if dtype is None or dtype.kind not in "biufc" or dtype.itemsize == 0:
            raise pickle.UnpicklingError(f"array of type {spec!r}; only numbers are accepted")
        self.dtype = dtype

    def set_state(self, state: object) -> None:
        """Take over the byte order, the one part of a simple dtype's state that matters."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("malformed array type")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for `numpy.ndarray` while a file is read; checks sizes itself, because NumPy trusts its pickles."""

    def __init__(self, kind: object, shape: object, code: object) -> None:
        if kind is not _Array or shape != (0,) or code not in (b"b", "b"):
            raise pickle.UnpicklingError("malformed array")
        self.value: np.ndarray | None = None

    def set_state(self, state: object) -> None:
        """Fill in the values from (version, shape, dtype, is_fortran, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("malformed array")
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("malformed array")
        if len(shape) > 32 or not all(isinstance(n, int) and 0 <= n < 2**62 for n in shape):
            raise pickle.UnpicklingError("malformed array shape")
        if math.prod(shape) * dtype.dtype.itemsize != len(raw):
            raise pickle.UnpicklingError(f"array of shape {shape} has {len(raw)} bytes")
        self.value = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")


def _scalar(dtype: object, raw: object) -> np.generic:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or len(raw) != dtype.dtype.itemsize:
        raise pickle.UnpicklingError("malformed number")
    return np.frombuffer(raw, dtype.dtype)[0]


def _encode(text: object, codec: object) -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("malformed bytes")
    return text.encode("latin1")


def _empty_bytes(*args: object) -> bytes:
    if args:
        raise pickle.UnpicklingError("malformed bytes")
    return b""


def _named_tensor(pair: object) -> _Array:
    """A tensor as paddle.save writes it: `tuple((name, values))`; the name means nothing outside its process."""
    if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], _Array):
        raise pickle.UnpicklingError("malformed tensor")
    return pair[1]


def _ordered_dict(*args: object) -> OrderedDict:
    if args:
        raise pickle.UnpicklingError("malformed dictionary")
    return OrderedDict()


_GLOBALS = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _empty_bytes,
    ("builtins", "tuple"): _named_tensor,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}
_REFUSED_OPCODES = (
    "INST OBJ NEWOBJ NEWOBJ_EX EXT1 EXT2 EXT4 PERSID BINPERSID NEXT_BUFFER READONLY_BUFFER BYTEARRAY8".split()
)


class _ForbiddenError(Exception):
    """The file asks for something that a parameter file has no use for."""


class _Bounded:
    """A file that never allocates more than it still holds, whatever length a pickle claims."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._left = os.fstat(file.fileno()).st_size

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise EOFError
        self._left -= size
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(1 << 16)
        self._left -= len(line)
        return line


class _Reader(pickle._Unpickler):
    """The interpreter's own unpickler, in Python, without the opcodes and names that could run code.

    The one in C would also resize its memo to any index the file names, which is how a short file fills the memory.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> object:
        module = "builtins" if module == "__builtin__" else module  # protocol 2 keeps Python 2's names
        found = _GLOBALS.get((module, name))
        if found is None:
            raise _ForbiddenError(f"{module}.{name}")
        return found

    def load_reduce(self) -> None:
        args = self.stack.pop()
        function = self.stack[-1]
        if not isinstance(args, tuple) or not any(function is known for known in _GLOBALS.values()):
            raise _ForbiddenError("a call of something that is no function")
        self.stack[-1] = function(*args)

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Array | _Dtype):
            raise _ForbiddenError(f"the state of a {type(target).__name__}")
        target.set_state(state)

    def refuse(self) -> None:
        raise _ForbiddenError("an object of a class")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
    for opcode in _REFUSED_OPCODES:
        dispatch[getattr(pickle, opcode)[0]] = refuse
    del opcode


def _resolve(value: Any, seen: dict[int, Any], depth: int = 0) -> Any:
    """Replace stand-ins by their arrays. Each container is visited once, however often the file refers to it."""
    if isinstance(value, _Array):
        if value.value is None:
            raise pickle.UnpicklingError("array without values")
        return value.value
    if value is None or isinstance(value, str | bytes | bool | int | float | complex | np.generic):
        return value
    if not isinstance(value, dict | list | tuple | set | frozenset):
        raise _ForbiddenError(f"a bare {type(value).__name__}")
    if id(value) in seen:
        if seen[id(value)] is None:
            raise pickle.UnpicklingError("a container that holds itself")
        return seen[id(value)]
    if depth > _MAX_DEPTH:
        raise pickle.UnpicklingError(f"more than {_MAX_DEPTH} levels of containers")
    seen[id(value)] = None
    if isinstance(value, dict):
        if not all(isinstance(key, str | int) for key in value):
            raise pickle.UnpicklingError("a dictionary key that is neither text nor a number")
        result: Any = {key: _resolve(item, seen, depth + 1) for key, item in value.items()}
    else:
        items = [_resolve(item, seen, depth + 1) for item in value]
        result = items if isinstance(value, list) else type(value)(items)
    seen[id(value)] = result
    return result


def _join_big_parameters(state: dict) -> dict:
    """Undo paddle.save's cutting of arrays above 1 GB (pickle protocols 2 and 3)."""
    parts = state.pop(_BIG_PARAMETERS, {})
    for key, how in parts.items():
        pieces = [state.pop(name) for name in how["slices"]]
        state[key] = np.concatenate(pieces).reshape(how["OriginShape"])
    return state


def read_state(path: str | os.PathLike) -> Any:
    """Read what `paddle.save` wrote, arrays for tensors, without running anything from the file.

    Args:
        path: A `.pdparams` or `.pdopt` file of pickle protocol 2, 3 or 4.

    Returns:
        Dictionaries, lists, tuples, numbers, text and NumPy arrays (read-only views of the file's bytes) as saved.

    Raises:
        DamagedError: The file is missing, cut short, or no pickle.
        UserError: The file holds anything else, code for example; nothing of it has been run.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(4)
            if head[:2] == b"PK":
                raise UserError(f"{path} is a zip archive (PyTorch writes those), not a Paddle parameter file")
            if not head or head[:1] != pickle.PROTO:
                raise DamagedError(f"{path} is not a Paddle parameter file (first bytes {head!r})")
            file.seek(0)
            state = _resolve(_Reader(_Bounded(file)).load(), {})
            return _join_big_parameters(state) if isinstance(state, dict) else state
    except _ForbiddenError as error:
        name = "".join(c if c.isprintable() else "?" for c in str(error)[:100])
        raise UserError(
            f"{path} asks for {name}, which a parameter file has no use for; nothing of it was run, and it is not read"
        ) from None
    except FileNotFoundError:
        raise DamagedError(f"{path} does not exist") from None
    except EOFError:
        raise DamagedError(f"{path} is cut short ({path.stat().st_size:,} bytes); copy or download it again") from None
    except (
        pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError,
        RecursionError, AssertionError,
    ) as error:  # fmt: skip  # whatever nonsense bytes can make the unpickler trip over
        if isinstance(error, UserError):
            raise
        raise DamagedError(f"{path} cannot be read: {error or type(error).__name__}") from None


def read_pdparams(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read a `.pdparams` file: one flat dictionary of arrays, as `paddle.save(net.state_dict(), path)` writes it.

    Returns:
        Arrays by name, in the file's order; read-only views of the file's bytes.

    Raises:
        DamagedError, UserError: See `read_state`; also when the file holds something else than named arrays.
    """
    state = read_state(path)
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, expected arrays by name")
    state.pop(_NAME_TABLE, None)
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, np.ndarray | np.generic):
            raise UserError(f"{path}: entry {key!r} is a {type(value).__name__}, expected an array")
    return {key: np.asarray(value) for key, value in state.items()}


# ---------------------------------------------------------------------------------------------------------------------
# Writing


class _HashingFile:
    """Counts and digests what is written, so that a checkpoint of gigabytes need not be read again."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.size += memoryview(data).nbytes
        return self._file.write(data)


def _plain(value: Any) -> Any:
    """Turn tensors and array scalars into arrays, copy containers, refuse what `read_state` would refuse."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"cannot save an array of type {array.dtype}")
        return array
    if value is None or isinstance(value, str | bytes | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if hasattr(value, "numpy"):
        return np.asarray(value.numpy())
    raise TypeError(f"cannot save a {type(value).__name__}")


def _bytes_in(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(_bytes_in(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(_bytes_in(item) for item in value)
    return 32


def write_state(path: str | os.PathLike, state: Any) -> dict:
    """Write `state` in the form of `paddle.save` (pickle protocol 4) and flush it to the disk.

    Args:
        path: The file, replaced if it exists.
        state: Dictionaries, lists, tuples, numbers, text, arrays and tensors.

    Returns:
        `{"size": bytes, "sha256": hex digest}` of the file.
    """
    state = _plain(state)
    with open(path, "wb") as file:
        hashing = _HashingFile(file)
        pickle.Pickler(hashing, protocol=4).dump(state)
        file.flush()
        os.fsync(file.fileno())
    return {"size": hashing.size, "sha256": hashing.digest.hexdigest()}


def _cannot_write(where: Path, error: OSError, needed: int | None = None, option: str = "--output") -> UserError:
    if error.errno in _NO_SPACE:
        free = shutil.disk_usage(where if where.exists() else where.parent).free
        need = f"a checkpoint needs {told_size(needed)}, " if needed else ""
        return UserError(
            f"no space to write in {where}: {need}{told_size(free)} are free ({error.strerror}); "
            f"free some or choose another {option}; earlier checkpoints are untouched"
        )
    return UserError(f"cannot write in {where}: {error.strerror}; check its permissions or choose another {option}")


# ---------------------------------------------------------------------------------------------------------------------
# Pointers: links where the file system has them, small text files where it has not


def _point(root: Path, name: str, target: str) -> bool:
    """Let `root/name` lead to `target` in one operation; False where only a text file could serve."""
    temporary = root / f"{_TEMPORARY}{os.getpid()}_{name}"
    temporary.unlink(missing_ok=True)
    try:
        os.symlink(target, temporary)
        linked = True
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in (*_NO_SPACE, errno.EACCES, errno.EROFS):
            raise
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(target)
            file.flush()
            os.fsync(file.fileno())
        linked = False
    os.replace(temporary, root / name)
    return linked


def _pointed(root: Path, name: str) -> str | None:
    """The folder name that a pointer holds, or None."""
    pointer = root / name
    if pointer.is_symlink():
        return os.readlink(pointer)
    if pointer.is_file():
        return pointer.read_text(encoding="utf-8", errors="replace").strip()
    return None


def _publish(root: Path, folder: str, names: Sequence[str], linked: bool) -> None:
    """Keep `root/<name>.pdparams` leading to the latest checkpoint's files, and only to those it has."""
    wanted = {f"{name}.pdparams" for name in names}
    for old in root.glob("*.pdparams"):
        if old.is_symlink() and old.name not in wanted:
            old.unlink()
    for name in sorted(wanted):
        shown, target = root / name, f"{LATEST}/{name}"
        if linked:
            if shown.is_symlink() and os.readlink(shown) == target:
                continue
            if shown.exists() and not shown.is_symlink():
                aside = unused(root / f"{name}.before")
                os.replace(shown, aside)
                tell(f"{shown} was there before this run; it is now {aside.name} (such a file is for --init_from)")
            _point(root, name, target)
        else:
            temporary = root / f"{_TEMPORARY}{os.getpid()}_{name}"
            shutil.copyfile(root / folder / name, temporary)
            os.replace(temporary, shown)


def _remove(folder: Path) -> None:
    """Remove a folder that must at no moment look like a checkpoint with files missing."""
    trash = unused(folder.with_name(_TRASH + folder.name))
    os.replace(folder, trash)
    shutil.rmtree(trash)


def claim(folder: str | os.PathLike, option: str) -> IO[str]:
    """Make a folder, if it is not there, that one training run at a time may write.

    Args:
        folder: The folder.
        option: The option that chooses it, for messages.

    Returns:
        The claim. Keep it as long as the run lasts; it ends with the process, even one that is killed.

    Raises:
        UserError: The folder cannot be written, or another run holds it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = open(folder / _LOCK, "a+", encoding="utf-8")
        try:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                held.seek(0)
                holder = held.read().strip() or "unknown"
                held.close()
                raise UserError(
                    f"{folder} is in use by another training run (process {holder}); wait for it, stop it, "
                    f"or choose another {option}"
                ) from None
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):  # no locks here: do without
                raise
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
    except OSError as error:
        raise _cannot_write(folder, error, option=option) from None
    return held


def prepare(root: str | os.PathLike) -> IO[str]:
    """Make `root` ready for a training run: created, writable, claimed by this process, cleared of broken-off writes.

    Args:
        root: `output/model`.

    Returns:
        The claim, as `claim` gives it.

    Raises:
        UserError: The folder cannot be written, or another run holds it.
    """
    root = Path(root)
    if (root / "__init__.py").exists():
        raise UserError(f"{root} is a Python package and no place for checkpoints: choose another --output")
    held = claim(root, "--output")
    try:
        for left in [*root.glob(f"{_TEMPORARY}*"), *root.glob(f"{_TRASH}*")]:
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
    except OSError as error:
        raise _cannot_write(root, error) from None
    return held


def save(
    root: str | os.PathLike,
    nets: Mapping[str, Mapping[str, Any]],
    state: Mapping[str, Any],
    opt: Any,
    *,
    step: int,
    epoch: int,
    keep_epochs: int = 3,
    best: bool = False,
    is_epoch_end: bool = False,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Write one complete checkpoint, make it the latest, and remove what need not be kept.

    Kept are the two newest, the last `keep_epochs` of those written at an epoch's end, and the best.

    Args:
        root: `output/model`.
        nets: State dictionaries by network, `n_g`, `n_d`, with a VAE `n_e`, and the averaged `n_g_ema`, `n_e_ema`;
            tensors or arrays.
        state: Everything else that the next step depends on: optimisers, schedule, position in the data, `rng_state()`.
        opt: The run's OPT.
        step: Steps done.
        epoch: Epoch, counted from 0, that the next step belongs to.
        keep_epochs: How many epoch ends to keep.
        best: Whether this is the best so far.
        is_epoch_end: Whether an epoch ends here.
        info: Further entries of meta.json (a score, for example).

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: No space or no permission; the earlier checkpoints stay as they are.
    """
    root = Path(root)
    plain = {f"{name}.pdparams": _plain(arrays) for name, arrays in nets.items()}
    plain[STATE_FILE] = _plain(state)
    needed = _bytes_in(plain) + 1_000_000
    temporary = root / f"{_TEMPORARY}{os.getpid()}_{step:08d}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(root).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        folders = _complete_folders(root)
        temporary.mkdir()
        files = {name: write_state(temporary / name, content) for name, content in plain.items()}
        _write_text(temporary / OPT_FILE, opt.to_yaml())
        files[OPT_FILE] = _digest(temporary / OPT_FILE)
        meta = {
            "format": FORMAT,
            "serial": max((found.serial for found in folders), default=0) + 1,
            "step": step,
            "epoch": epoch,
            "epoch_end": is_epoch_end,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "paddle": _paddle_version(),
            "values": {name: sum(np.size(a) for a in plain[f"{name}.pdparams"].values()) for name in nets},
            "files": files,
            **(info or {}),
        }
        _write_text(temporary / META_FILE, json.dumps(meta, indent=1))
        sync_folder(temporary)

        # A second checkpoint of the same step gets a name of its own: a folder cannot replace another in one operation.
        folder = unused(root / f"{_STEP}{step:08d}")
        os.replace(temporary, folder)
        sync_folder(root)
        linked = _point(root, LATEST, folder.name)
        if best:
            _point(root, BEST, folder.name)
        _publish(root, folder.name, list(nets), linked)
        sync_folder(root)
    except OSError as error:
        raise _cannot_write(root, error, needed) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _retain(root, folder.name, keep_epochs)
    return folder


def _write_text(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _paddle_version() -> str | None:
    paddle = sys.modules.get("paddle")  # neither reading nor writing arrays must need Paddle
    return getattr(paddle, "__version__", None)


def _digest(path: Path) -> dict:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def _retain(root: Path, latest: str, keep_epochs: int) -> None:
    folders = sorted(_complete_folders(root), key=lambda found: found.serial, reverse=True)
    keep = {latest, _pointed(root, BEST)}
    # The one before the latest is kept against a damaged disk: with it there is always something to fall back on.
    keep.update(found.path.name for found in folders[:2])
    keep.update(found.path.name for found in [found for found in folders if found.epoch_end][: max(keep_epochs, 0)])
    for folder in (found.path for found in folders):  # never a damaged one: its weights may be whole
        if folder.name not in keep:
            try:
                _remove(folder)
            except OSError as error:
                tell(f"warning: {folder} is no longer needed and cannot be removed: {error.strerror}")


# ---------------------------------------------------------------------------------------------------------------------
# Finding and loading


@dataclass(frozen=True)
class _Found:
    path: Path
    serial: int
    epoch_end: bool
    meta: dict


@dataclass(frozen=True)
class Checkpoint:
    """One loaded checkpoint.

    Attributes:
        path: Its folder.
        step: Steps done.
        epoch: Epoch, counted from 0, that the next step belongs to.
        nets: Arrays by key, by network name (`n_g`, `n_d`, `n_e`, `n_g_ema`, `n_e_ema`).
        state: What `save` got as state; empty if not asked for.
        meta: The content of meta.json.
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
        return self.path / OPT_FILE


def _step_folders(root: Path) -> Iterator[Path]:
    for path in sorted(root.glob(f"{_STEP}*")):
        if path.is_dir() and not path.is_symlink():
            yield path


def _examine(folder: Path, verify: bool = False) -> _Found:
    """Check a checkpoint folder against its meta.json; options may have been edited.

    Raises:
        DamagedError: A file is missing, of another size, or (with `verify`) of another content.
    """
    try:
        meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
        files, serial = dict(meta["files"]), int(meta["serial"])
        sizes = {name: int(entry["size"]) for name, entry in files.items()}
        sums = {name: str(entry["sha256"]) for name, entry in files.items()}
        step, epoch, version = int(meta["step"]), int(meta["epoch"]), int(meta["format"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{folder / META_FILE} is missing or unreadable ({error})") from None
    if version > FORMAT:
        raise UserError(f"{folder} has checkpoint format {version}, this program knows up to {FORMAT}; update it")
    for name, size in sizes.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise DamagedError(f"{path} is missing")
        if name == OPT_FILE:
            continue
        if path.stat().st_size != size:
            raise DamagedError(f"{path} has {path.stat().st_size:,} bytes, expected {size:,}")
        if verify and _digest(path)["sha256"] != sums[name]:
            raise DamagedError(f"{path} was altered: its SHA-256 differs from the one in {META_FILE}")
    return _Found(folder, serial, bool(meta.get("epoch_end")), {**meta, "step": step, "epoch": epoch})


def _complete_folders(root: Path) -> list[_Found]:
    found = []
    for folder in _step_folders(root):
        with contextlib.suppress(DamagedError):
            found.append(_examine(folder))
    return found


def _home(path: str | os.PathLike) -> tuple[Path, Path | None]:
    """(folder of checkpoints, the one checkpoint meant or None) for any path that a user may give."""
    path = Path(path)
    if path.is_file() and not path.is_symlink() and path.suffix != "":
        path = path.parent
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link to {os.readlink(path)}, which does not exist")
    if path.is_symlink() and path.suffix == ".pdparams":
        path = path.parent
    if path.is_file():  # a pointer on a file system without links
        path = path.parent / path.read_text(encoding="utf-8", errors="replace").strip()
    if (path / META_FILE).is_file() or path.name.startswith(_STEP):
        resolved = path.resolve()
        return resolved.parent, resolved
    if (path / "model").is_dir() and not any(_step_folders(path)):
        path = path / "model"
    return path, None


def exists(path: str | os.PathLike) -> bool:
    """Whether there is a checkpoint to load at `path` (see `load`), be it damaged or not."""
    root, chosen = _home(path)
    return chosen is not None or any(_step_folders(root))


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
        opt: The present OPT; it must describe the checkpoint's networks (`OPT.incompatible`).
        nets: Given the names of the networks that are there (`n_g` ...), those to read; all by default.
        with_state: Whether to read the optimisers and the rest of the training state.
        verify: Whether to check every file's SHA-256, not only its size.

    Raises:
        UserError: There is no checkpoint, none is whole, or it belongs to another architecture.
    """
    root, chosen = _home(path)
    if chosen is not None:
        candidates = [chosen]
    else:
        pointed = _pointed(root, LATEST)
        rest = sorted(_complete_folders(root), key=lambda found: found.serial, reverse=True)
        candidates = [root / pointed] if pointed else []
        candidates += [found.path for found in rest if found.path.name != pointed]
    if not candidates:
        raise UserError(f"{path} holds no checkpoint; train first, or give the folder that has `{LATEST}` in it")

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
    found = _examine(folder, verify)
    if _digest(folder / OPT_FILE) != found.meta["files"][OPT_FILE]:
        try:
            OPT.load(folder / OPT_FILE)
        except UserError as error:
            raise DamagedError(str(error)) from None
        tell(f"warning: {folder / OPT_FILE} was edited after this checkpoint was written; it is taken as it is")
    if opt is not None:
        compare_architecture(opt, OPT.load(folder / OPT_FILE), folder)
    present = [name.removesuffix(".pdparams") for name in found.meta["files"] if name.endswith(".pdparams")]
    wanted = present if nets is None else nets(present)
    arrays = {name: read_pdparams(folder / f"{name}.pdparams") for name in wanted}
    state = read_state(folder / STATE_FILE) if with_state else {}
    return Checkpoint(folder, found.meta["step"], found.meta["epoch"], arrays, state, found.meta)


def compare_architecture(opt: Any, saved: Any, where: str | os.PathLike) -> None:
    """Refuse a checkpoint of other networks.

    Raises:
        UserError: Naming each field by which the networks differ (`OPT.incompatible`), with both values.
    """
    different = [
        f"{field} is {theirs!r} there and {ours!r} now" for field, (ours, theirs) in opt.incompatible(saved).items()
    ]
    if different:
        raise UserError(
            f"{where} was trained with other networks: {'; '.join(different)}; "
            "give the same options, another --output, or --fresh to start anew"
        )


def load_net(net: Any, arrays: Mapping[str, np.ndarray], where: str | os.PathLike) -> None:
    """Put `arrays` into a network; all of them or nothing.

    Args:
        net: A `paddle.nn.Layer`.
        arrays: One array for each key of `net.state_dict()`, of its shape; float types are converted.
        where: What to call the source in messages.

    Raises:
        UserError: Naming missing and unexpected keys and differing shapes and types; the network is unchanged.
    """
    own = net.state_dict()
    problems = []
    missing, unexpected = [k for k in own if k not in arrays], [k for k in arrays if k not in own]
    if missing:
        problems.append(f"{len(missing)} keys missing ({listed(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} keys not expected ({listed(unexpected)})")
    converted, shapes = {}, []
    for key, tensor in own.items():
        if key in arrays:
            array, kind = np.asarray(arrays[key]), np.dtype(str(tensor.dtype).rpartition(".")[2])
            if list(array.shape) != list(tensor.shape):
                shapes.append(f"{key} {list(array.shape)}, expected {list(tensor.shape)}")
            elif array.dtype != kind and not (array.dtype.kind == "f" and kind.kind == "f"):
                shapes.append(f"{key} {array.dtype}, expected {kind}")
            converted[key] = array.astype(kind, copy=False)
    if shapes:
        problems.append(f"{len(shapes)} of another shape or type ({listed(shapes)})")
    if problems:
        raise UserError(f"{where} does not fit {type(net).__name__}: {'; '.join(problems)}")
    for key, tensor in own.items():
        tensor.set_value(converted[key])


# ---------------------------------------------------------------------------------------------------------------------
# Random states


def rng_state() -> dict:
    """The states of Python's, NumPy's and Paddle's global generators, as plain numbers for a checkpoint."""
    import paddle

    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": {"version": version, "words": np.array(words, np.uint64), "gauss": gauss},
        "numpy": {"name": name, "keys": keys, "position": position, "has_gauss": has_gauss, "cached": cached},
        "paddle": {
            "cpu": [_generator_numbers(state) for state in paddle.get_rng_state("cpu")],
            "gpu": [_generator_numbers(state) for state in paddle.get_cuda_rng_state()],
        },
    }


def _generator_numbers(state: Any) -> dict:
    """What a Paddle generator state prints: device, seed, offset, (a pointer in 3.x,) and the CPU engine's words."""
    fields = str(state).split()
    words = np.array([int(word) for word in fields[-313:]], np.uint64) if len(fields) > 313 else np.zeros(0, np.uint64)
    return {"device": int(fields[0]), "seed": int(fields[1]), "offset": int(fields[2]), "words": words}


def set_rng_state(saved: Mapping[str, Any]) -> list[str]:
    """Put back what `rng_state` returned.

    Paddle 2.6 cannot set its CPU engine; there the position is found by drawing on from the seed, as far as is quick.
    Trainers should draw from generators of their own (a NumPy one keyed by seed and step) and not depend on this.

    Returns:
        What could not be put back exactly, one line each; those generators are seeded from the saved state instead.
    """
    import paddle

    python, numpy = saved["python"], saved["numpy"]
    random.setstate((python["version"], tuple(int(word) for word in python["words"]), python["gauss"]))
    np.random.set_state((numpy["name"], numpy["keys"], numpy["position"], numpy["has_gauss"], numpy["cached"]))
    problems = []
    if not _set_paddle_cpu(saved["paddle"]["cpu"][0]):
        problems.append("Paddle's CPU generator (this version of Paddle cannot set it)")
    gpu, present = saved["paddle"]["gpu"], paddle.get_cuda_rng_state()
    if len(gpu) == len(present) and gpu:
        try:
            states = [_generator_state(type(own), numbers) for own, numbers in zip(present, gpu, strict=True)]
            paddle.set_cuda_rng_state(states)
        except (TypeError, ValueError, RuntimeError) as error:
            problems.append(f"Paddle's GPU generators ({error})")
    elif gpu or present:
        problems.append(f"Paddle's GPU generators ({len(gpu)} saved, {len(present)} present)")
    return problems


def _generator_state(kind: type, numbers: Mapping[str, Any]) -> Any:
    """Build Paddle's opaque state object from numbers, through the form in which it pickles itself."""
    import paddle

    fields = [int(numbers["device"]), int(numbers["seed"]), int(numbers["offset"])]
    example = paddle.get_rng_state("cpu")[0].__getstate__()
    if len(example) == 4:
        fields.append(list(" ".join(str(int(word)) for word in numbers["words"]).encode()))
    state = kind.__new__(kind)
    state.__setstate__(tuple(fields))
    return state


def _set_paddle_cpu(numbers: Mapping[str, Any], blocks: int = 4000) -> bool:
    import paddle

    def present() -> np.ndarray:
        return _generator_numbers(paddle.get_rng_state("cpu")[0])["words"]

    wanted = np.asarray(numbers["words"], np.uint64)
    if np.array_equal(present(), wanted):
        return True
    own = paddle.get_rng_state("cpu")[0]
    if len(own.__getstate__()) == 4:
        paddle.set_rng_state([_generator_state(type(own), numbers)], "cpu")
        return np.array_equal(present(), wanted)

    # The engine refills its 312 words at once, at the first draw of a block, so it is enough to look there.
    seed = paddle.base.core.default_cpu_generator().manual_seed
    draw = paddle.base.core.default_cpu_generator().random
    seed(int(numbers["seed"]))
    if np.array_equal(present(), wanted):
        return True
    for _ in range(blocks):
        draw()
        found = np.array_equal(present()[:-1], wanted[:-1])
        for _ in range(int(wanted[-1]) - 1 if found else 311):
            draw()
        if found:
            return True
    seed(int(wanted[:-1].sum(dtype=np.uint64) % np.uint64(2**31)))
    return False


# ---------------------------------------------------------------------------------------------------------------------
# Optimisers


def _parameter_names(nets: Mapping[str, Any]) -> dict[str, str]:
    """{Paddle's process-wide parameter name: `net.key`}."""
    return {
        parameter.name: f"{prefix}.{key}" for prefix, net in nets.items() for key, parameter in net.named_parameters()
    }


def optimizer_state(optimizer: Any, nets: Mapping[str, Any]) -> dict:
    """An optimiser's state under the networks' own keys.

    Paddle's keys contain process-wide counters (`conv2d_17.w_0_moment1_0`) that change with the order in which networks
    are built; a checkpoint must not depend on that.

    Args:
        optimizer: A `paddle.optimizer.Optimizer`.
        nets: The networks whose parameters it holds, by a name of one's choice.

    Returns:
        {"net.key:accumulator": array} and the schedule under "LR_Scheduler".
    """
    names = _parameter_names(nets)
    result = {}
    for key, value in optimizer.state_dict().items():
        if key in ("LR_Scheduler", "master_weights"):
            translated = {names.get(k, k): v for k, v in value.items()}
            result[key] = translated
            continue
        # The longest name that fits: `w_1` also begins `w_10`'s keys.
        owner = max((name for name in names if key.startswith(f"{name}_")), key=len, default=None)
        if owner is None:
            raise KeyError(f"optimiser state {key} belongs to none of {', '.join(nets)}")
        result[f"{names[owner]}:{key[len(owner) + 1 :]}"] = value
    return _plain(result)


def load_optimizer(optimizer: Any, nets: Mapping[str, Any], state: Mapping[str, Any], where: str | os.PathLike) -> None:
    """Put back what `optimizer_state` returned.

    Raises:
        UserError: The state names parameters that the networks do not have.
    """
    from model.ops.device import as_tensor

    own = {ours: theirs for theirs, ours in _parameter_names(nets).items()}
    unknown = [key for key in state if ":" in key and key.rpartition(":")[0] not in own]
    if unknown:
        raise UserError(f"{where}: optimiser state for {len(unknown)} unknown parameters ({listed(unknown)})")
    translated: dict[str, Any] = {}
    for key, value in state.items():
        if ":" in key:
            name, _, accumulator = key.rpartition(":")
            translated[f"{own[name]}_{accumulator}"] = as_tensor(value)
        elif key == "master_weights":
            translated[key] = {own.get(k, k): as_tensor(v) for k, v in value.items()}
        else:
            translated[key] = dict(value)
    optimizer.set_state_dict(translated)
