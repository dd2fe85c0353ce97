"""Folders that one training run at a time may write, and why one cannot be written."""

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

from model.errors import UserError
from model.files import told_size

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def claim(folder: str | os.PathLike, option: str) -> IO[str]:
    """Make a folder, if it is not there, that one training run at a time may write.

    Args:
        folder: the folder.
        option: the option that chooses it, for messages.

    Returns:
        The claim. Keep it as long as the run lasts; it ends with the process, even one that is killed.

    Raises:
        UserError: the folder cannot be written, or another run holds it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = open(folder / ".lock", "a+", encoding="utf-8")
        try:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                held.seek(0)
                holder = held.read().strip() or "unknown"
                held.close()
                raise UserError(
                    f"{folder} is in use by another training run (process {holder}); wait for it, stop it, "
                    f"or choose another {option}"
                ) from None
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):  # no locks here: do without
                raise
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
    except OSError as error:
        raise cannot_write(folder, error, option=option) from None
    return held


def cannot_write(where: Path, error: OSError, needed: int | None = None, option: str = "--output") -> UserError:
    """The message for an error of the operating system in a run's folder.

    Args:
        where: the folder.
        error: what the system said.
        needed: bytes of the checkpoint that was to be written.
        option: the option that chooses the folder.
    """
    if error.errno in NO_SPACE:
        free = shutil.disk_usage(where if where.exists() else where.parent).free
        need = f"a checkpoint needs {told_size(needed)}, " if needed else ""
        return UserError(
            f"no space to write in {where}: {need}{told_size(free)} are free ({error.strerror}); "
            f"free some or choose another {option}; earlier checkpoints are untouched"
        )
    return UserError(f"cannot write in {where}: {error.strerror}; check its permissions or choose another {option}")
