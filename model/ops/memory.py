"""Tensors as NumPy arrays over the same memory, and the allocator behind them."""

import contextlib
import ctypes

import numpy as np
import paddle

ARENA_MAX, MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -4, -3, -1  # mallopt's numbers


def _mallopt(option: int, value: int) -> None:
    """Set an option of glibc's allocator, where glibc is the C library."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(option, value)


# One arena for all threads, and no memory given back between operations but for maps of more than 32 MB: the system
# clears each page that it gives again, which took a tenth of a training step. Before threads have arenas of their own.
_mallopt(ARENA_MAX, 1)
_mallopt(MMAP_THRESHOLD, 32 << 20)
_mallopt(TRIM_THRESHOLD, 2**31 - 1)


def keep_large_maps() -> None:
    """Keep freed memory of any size from now on: each step, or picture of an engine, asks for the same large maps."""
    _mallopt(MMAP_MAX, 0)


class _Memory:
    """A tensor's memory as NumPy's array interface describes it; arrays made from it keep the tensor alive."""

    def __init__(self, tensor, shape):
        self.tensor = tensor
        self.__array_interface__ = {
            "version": 3, "typestr": "<f4", "shape": shape, "data": (tensor.data_ptr(), False)
        }  # fmt: skip


def view(tensor):
    """A NumPy view of a contiguous float32 CPU tensor's memory."""
    shape = tuple(tensor.shape)
    return np.empty(shape, np.float32) if 0 in shape else np.asarray(_Memory(tensor, shape))


def buffer(*shape):
    """An uninitialised float32 tensor and its NumPy view."""
    # What paddle.empty ends in, which takes 10 us on its way when caches are full of maps: 10 ms of a training step.
    tensor = paddle._C_ops.empty(shape, paddle.float32, paddle.CPUPlace())
    return tensor, view(tensor)


def zeros(*shape):
    """A zero float32 tensor and its NumPy view."""
    tensor, array = buffer(*shape)
    array[...] = 0
    return tensor, array


def copied(array):
    """The float32 tensor of an array's numbers; for small ones in a fifth of the time that paddle.to_tensor takes."""
    tensor, out = buffer(*np.shape(array))
    out[...] = array
    return tensor


def contiguous(tensor):
    """The tensor itself, or a contiguous copy."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()
