"""Tensors as NumPy arrays over the same memory, and the allocator behind them."""

import ctypes

import numpy as np
import paddle

ARENA_MAX, MMAP_MAX, TRIM_THRESHOLD = -8, -4, -1  # mallopt's numbers


def _keep_memory() -> None:
    """Let glibc, where it is the C library, keep freed memory for the operations that follow.

    One arena for all threads, and no memory given back between operations: the system clears each page that it gives
    again, which took a tenth of a training step; its peak is the same.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1)):
        mallopt(parameter, value)


_keep_memory()  # before threads have arenas of their own


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


def contiguous(tensor):
    """The tensor itself, or a contiguous copy."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()
