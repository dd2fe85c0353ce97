"""How far long work is, told on stderr."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from model.errors import printable, tell

_TOLD_EVERY = 10  # seconds between two lines of progress in a file


@contextlib.contextmanager
def progress_bar(
    total: int, title: str, shown: bool = True, done: int = 0, unit: str = "pictures"
) -> Iterator[Callable[[int], object]]:
    """Count on stderr, with rate and time left: in a bar on a terminal, in a line now and then elsewhere.

    Args:
        total: how many there are.
        title: what is done, or to what.
        shown: False tells nothing.
        done: how many of them were done before.
        unit: what is counted.

    Yields:
        The function to call with how many more are done.
    """
    title, before = printable(title), done
    begun = told = time.perf_counter()

    def line(count: int) -> None:
        nonlocal done, told
        done, now = done + count, time.perf_counter()
        if now - told > _TOLD_EVERY or done == total:
            told, speed = now, (done - before) / (now - begun)
            left = (total - done) / speed
            tell(f"{title}: {done}/{total} {unit}, {speed:.2f} {unit}/s, {left:.0f} s left", sys.stderr)

    if shown and not sys.stderr.isatty():
        yield line
    else:
        with tqdm(total=total, desc=title, unit=f" {unit}", disable=not shown, initial=done) as bar:
            yield bar.update
