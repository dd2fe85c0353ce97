"""What is wrong with a weight file that somebody else made, told in one line that names it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from model.errors import UserError


class DamagedError(UserError):
    """A file of weights that is missing, cut short or altered; an older checkpoint may still be good."""


class Damaged(Exception):
    """What is wrong with a file; `reading` adds the file's name."""


class Forbidden(Exception):
    """What a pickle asks for and plain data has no use for: a name, a call, an object."""


@contextlib.contextmanager
def reading(path: str | os.PathLike, what: str, *signs: type[Exception]) -> Iterator[None]:
    """Tell a reader's exceptions to the user.

    Args:
        path: the file. what: what it is read as.
        signs: what a library raises for a damaged file, beside Damaged, MemoryError and EOFError.

    Raises:
        DamagedError: the file is missing, cut short or damaged.
        UserError: it asks for code.
    """
    try:
        yield
    except UserError:
        raise
    except Forbidden as error:
        raise UserError(
            f"{path} asks for {error}, which weights have no use for (of a whole module, save its state_dict() "
            "instead); nothing of it was run or used"
        ) from None
    except FileNotFoundError:
        raise DamagedError(f"{path} does not exist") from None
    except EOFError:
        size = Path(path).stat().st_size
        raise DamagedError(f"{path} is cut short ({size:,} bytes); copy or download it again") from None
    except (Damaged, MemoryError, *signs) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedError(f"{path} cannot be read as {what}: {reason}; get or save it again") from error
