"""Threads that share loops over NumPy arrays; the compiled loops release the interpreter's lock."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import paddle
from threadpoolctl import ThreadpoolController

import model.ops.device  # noqa: F401  gives Paddle its threads
from model import THREADS

FEWEST_VALUES = 1 << 16  # of an array, from which sharing a loop gains more than waking a thread costs


@cache
def _pool():
    controller = ThreadpoolController()
    # Each worker multiplies on its own core: the libraries' own threads would fight over the same ones.
    return ThreadPoolExecutor(THREADS - 1, "loops", initializer=lambda: controller.limit(limits=1))


@cache
def _openmp():
    return ThreadpoolController().select(user_api="openmp").lib_controllers


def parallel_for(work, count, values=FEWEST_VALUES):
    """Run work(part, begin, end) for near-equal parts of range(count), one a thread; the results in order.

    The calling thread takes the first part, with one thread for its products, as the others have.

    Args:
        values: how many the loops of all parts read or write; few are one part.
    """
    parts = min(THREADS, count) if values >= FEWEST_VALUES else 1
    if parts <= 1:
        return [work(0, 0, count)]
    edges = [count * i // parts for i in range(parts + 1)]
    others = [_pool().submit(_guarded, work, i, edges[i], edges[i + 1]) for i in range(1, parts)]
    before = [library.get_num_threads() for library in _openmp()]
    try:
        for library in _openmp():
            library.set_num_threads(1)
        first = _guarded(work, 0, 0, edges[1])
    finally:
        for library, threads in zip(_openmp(), before, strict=True):
            library.set_num_threads(threads)
    return [first, *(other.result() for other in others)]


def _guarded(work, part, begin, end):
    with paddle.no_grad():  # the flag belongs to the thread
        return work(part, begin, end)
