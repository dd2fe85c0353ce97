"""Tensors as NumPy arrays over the same memory, and memory that goes back to the system."""

import ctypes
from functools import cache

import numpy as np
import paddle

ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1  # mallopt's numbers


@cache
def _allocator():
    """glibc's allocator, set for a few large maps instead of many small objects; None with other C libraries.

    One arena for all threads, and maps of more than 32 MB of their own, back to the system when they are freed. What is
    smaller stays until `release_memory`: the system clears each page that it gives again, which was a tenth of a step.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(ARENA_MAX, 1)
        libc.mallopt(MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        return libc if hasattr(libc, "malloc_trim") else None
    except (OSError, AttributeError):
        return None


def release_memory():
    """Give freed memory back to the system; of the whole COCO-Stuff step's 2,740 MB, 640 were kept between steps."""
    if _allocator() is not None:
        _allocator().malloc_trim(0)


class _Memory:
    """A tensor's memory as NumPy's array interface describes it; arrays made from it keep the tensor alive."""

    def __init__(self, tensor, shape):
        self.tensor = tensor
        kind = {paddle.float32: "<f4", paddle.int32: "<i4"}[tensor.dtype]
        self.__array_interface__ = {
            "version": 3, "typestr": kind, "shape": shape, "data": (tensor.data_ptr(), False)
        }  # fmt: skip


def view(tensor):
    """A NumPy view of a contiguous CPU tensor's memory."""
    shape = tuple(tensor.shape)
    return np.empty(shape, np.float32) if 0 in shape else np.asarray(_Memory(tensor, shape))


def buffer(*shape):
    """An uninitialised float32 tensor and its NumPy view."""
    tensor = paddle.empty(shape, "float32")
    return tensor, view(tensor)


def zeros(*shape):
    """A zero float32 tensor and its NumPy view."""
    tensor, array = buffer(*shape)
    array[...] = 0
    return tensor, array


def contiguous(tensor):
    """The tensor itself, or a contiguous copy."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()
