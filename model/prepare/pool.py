"""Work on many files in several processes, with the results in order."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from model.data.workers import begin_worker
from model.errors import UserError


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
