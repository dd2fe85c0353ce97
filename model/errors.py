"""One exception for everything that a user can put right, lists in its message, and where command lines print it."""

import sys
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """A mistake in options, files or data, told in one line: what, where, the expected range, the way out."""

    status = 2  # of a command line that it ends


def listed(items: Iterable[object], most: int = 8) -> str:
    """The first of some items for a message: "a, b and 3 more"."""
    items = list(items)
    shown = ", ".join(map(str, items[:most]))
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command line's `main` and exit with its status.

    A `UserError` or an operating system error that concerns a file (a full disk, a missing folder) becomes one line on
    stderr and its exit status, 2; anything else is a defect of ours and keeps its traceback.
    """
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.status)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(status or 0)
