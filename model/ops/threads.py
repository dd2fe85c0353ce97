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
    return ThreadPoolExecutor(THREADS, "loops", initializer=lambda: controller.limit(limits=1))


def parallel_for(work, count, values=FEWEST_VALUES):
    """Run work(part, begin, end) for near-equal parts of range(count), one a thread; the results in order.

    Args:
        values: how many the loops of all parts read or write; few are one part.
    """
    parts = min(THREADS, count) if values >= FEWEST_VALUES else 1
    if parts <= 1:
        return [work(0, 0, count)]
    edges = [count * i // parts for i in range(parts + 1)]
    return [f.result() for f in [_pool().submit(_guarded, work, i, edges[i], edges[i + 1]) for i in range(parts)]]


def _guarded(work, part, begin, end):
    with paddle.no_grad():  # the flag belongs to the thread
        return work(part, begin, end)
