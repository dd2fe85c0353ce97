"""Worker processes that leave signals to the main process and end with it."""

import os
import signal
import threading
import time
from collections.abc import Callable


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
