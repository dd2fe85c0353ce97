"""Threads that share loops over NumPy arrays; the compiled loops release the interpreter's lock."""

from functools import cache
from queue import SimpleQueue
from threading import Thread

import paddle
from threadpoolctl import ThreadpoolController

import model.ops.device  # noqa: F401  gives Paddle its threads
from model import THREADS

FEWEST_VALUES = 1 << 16  # of an array, from which sharing a loop gains more than waking a thread costs


@cache
def _tasks():
    """The queue that THREADS - 1 threads take parts of loops from."""
    tasks = SimpleQueue()
    for _ in range(THREADS - 1):
        Thread(target=_serve, args=(tasks, ThreadpoolController()), name="loops", daemon=True).start()
    return tasks


def _serve(tasks, controller):
    # Each thread multiplies on its own core: the libraries' own threads would fight over the same ones.
    controller.limit(limits=1)
    with paddle.no_grad():  # the flag belongs to the thread
        while True:
            _do(*tasks.get())


def _do(work, part, begin, end, done):
    """Do a part of a loop; its result or what it raised goes into the queue `done`."""
    try:
        done.put((part, work(part, begin, end), None))
    except BaseException as error:  # the caller raises it
        done.put((part, None, error))


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
    done = SimpleQueue()
    for part in range(1, parts):
        _tasks().put((work, part, *edges[part : part + 2], done))
    try:
        for library in _openmp():
            library.set_num_threads(1)
        with paddle.no_grad():
            _do(work, 0, 0, edges[1], done)
    finally:
        for library in _openmp():
            library.set_num_threads(THREADS)
    found = sorted((done.get() for _ in range(parts)), key=lambda result: result[0])
    for _, _, error in found:
        if error is not None:
            raise error
    return [result for _, result, _ in found]
