"""How loops over NumPy arrays are compiled: by Numba, each for one set of argument types, kept on the disk."""

import sys

from numba import float32, float64, int32, njit
from numba.core import event

from model.errors import tell

OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
SUMS = {"contract", "nsz", "reassoc"}  # sums of one number, by as many partial sums as vectors have lanes

# Types of arguments: arrays are C-contiguous.
Vector, Matrix, Cube, Tensor = float32[::1], float32[:, ::1], float32[:, :, ::1], float32[:, :, :, ::1]
Doubles, Numbers, Windows = float64[::1], int32[::1], int32[:, ::1]

SIGNATURES = {}  # of all kernels: the types of their arguments
is_cached = True  # what is compiled, for the next start


class Compilations(event.Listener):
    """Says why nothing seems to happen, the first time that a loop is compiled here; later they come from a cache."""

    told = False

    def on_start(self, event):
        if not Compilations.told:
            Compilations.told = True
            often = "once" if is_cached else "at each start (set NUMBA_CACHE_DIR to a folder that can be written)"
            tell(f"compiling loops for this processor, {often}: up to ten seconds", sys.stderr)

    def on_end(self, event):
        pass


event.register("numba:compile", Compilations())


def compiled(*arguments, **options):
    """Decorate a kernel, a function that Python calls with arguments of these Numba types.

    It is compiled at its first call, or by `kernel.compile(SIGNATURES[kernel])` ahead. Other types would compile it
    once more, so that calls keep to these (tests/test_ahead.py).
    """

    def decorate(function):
        kernel = _jit(function, **OPTIONS | options)
        SIGNATURES[kernel] = arguments
        return kernel

    return decorate


def inner(function):
    """Decorate a function that kernels alone call; it is compiled for the types that they give."""
    return _jit(function, no_cpython_wrapper=True, **OPTIONS)


def _jit(function, **options):
    global is_cached
    options["no_cfunc_wrapper"] = True  # nothing calls them from C
    if is_cached:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # neither this folder nor the user's cache can be written
            is_cached = False
    return njit(**options)(function)
