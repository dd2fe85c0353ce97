"""One exception for everything that a user can put right, names and lists in its message, and who prints it."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import TextIO


class UserError(ValueError):
    """A mistake in options, files or data, told in one line: what, where, the expected range, the way out."""

    status = 2  # of a command line that it ends

    def __init__(self, message: object = ""):
        super().__init__(printable(message))


def printable(text: object) -> str:
    r"""Text that any file, pipe and process takes, on one line: what cannot be printed becomes an escape.

    File names are bytes. Python gives a byte that is not UTF-8 as a lone surrogate, U+DC80 to U+DCFF, which no strict
    encoder takes; it is shown as \udcNN, NN being the byte, as in the JSON and YAML files that name such a path, whose
    readers turn it back. A line break or another control character in a name is shown as \n, \x1b and the like.
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda m: ascii(m[0])[1:-1], str(text))


def tell(text: object, file: TextIO | None = None) -> None:
    """Print one line at once, as `printable` has it, on stdout or another stream."""
    print(printable(text), file=file, flush=True)


def utf8(path: object, who: str) -> str:
    """A path for a library that takes UTF-8 alone.

    Raises:
        UserError: it has other bytes.
    """
    try:
        return os.fsencode(str(path)).decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: {who} opens no path that is not UTF-8: choose or rename the folder") from None


def listed(items: Iterable[object], most: int = 8) -> str:
    """The first of some items for a message: "a, b and 3 more"."""
    items = list(items)
    shown = ", ".join(map(str, items[:most]))
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command line's `main` and exit with its status.

    A `UserError` or an operating system error that concerns a file (a full disk, a missing folder) becomes one line on
    stderr and its exit status, 2, and so does a name that the system's encoding cannot write; anything else is a defect
    of ours and keeps its traceback. What stdout and stderr cannot encode is printed as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status = UserError.status
    try:
        sys.exit(main())
    except UserError as error:
        told, status = error, error.status
    except OSError as error:
        told = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error
    except UnicodeEncodeError as error:  # of a path: what is printed and written takes all characters
        way_out = "use names that its encoding has, or set PYTHONUTF8=1"
        told = f"{error.object!r} cannot be a name in this system's files ({error}): {way_out}"
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    tell(f"error: {told}", sys.stderr)
    sys.exit(status)
