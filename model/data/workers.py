"""Worker processes that leave signals to the main process and end with it, and a pool of them."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from model.errors import UserError


def begin_worker(parent: int, last: Callable[[], object] = lambda: None) -> None:
    """Set up the worker process that calls this: Ctrl-C is the main process's business, and no worker outlives it.

    Args:
        parent: the main process's number. Pools and Paddle's DataLoader wait for work without a time limit, so that
            their workers would stay for ever once it was killed.
        last: called before a worker without parent ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent, last), daemon=True).start()


def _end_with(parent: int, last: Callable[[], object]) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(3)  # a worker that is not waiting but working may end by itself
    last()
    os._exit(1)


def in_order(work: Callable[[Any], Any], items: Sequence[Any], processes: int) -> Iterator[Any]:
    """`work(item)` for each item; nothing is left running when the caller stops.

    Args:
        work: a function that can be pickled, or a partial with what all items share.
        items: in their order; they and the results can be pickled.
        processes: how many work at a time; 1 works in this one.

    Raises:
        UserError: a process was ended from outside.
    """
    if processes < 2 or len(items) < 2:
        yield from map(work, items)
        return
    pool = ProcessPoolExecutor(processes, initializer=begin_worker, initargs=(os.getpid(),))
    try:
        yield from pool.map(work, items, chunksize=max(1, min(16, len(items) // (4 * processes))))
    except BrokenProcessPool:
        raise UserError(
            "a process that reads pictures was ended, perhaps because memory ran out: give fewer --processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
