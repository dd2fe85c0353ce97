"""`log.npy`: every step's losses in a file that NumPy reads at any moment."""

import errno
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.errors import UserError, tell
from model.files import npy_header, replacing, unused

# The columns, in order.
COLUMNS = ("g_loss_gan", "g_loss_feat", "g_loss_vgg", "g_loss_vae", "d_loss", "d_loss_f", "d_loss_r")
_WIDTH = len(COLUMNS)
HEADER_SIZE = 128  # bytes
_MAGIC = b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER_SIZE - 10)


class LossLog:
    """A growing `.npy` file: float64 [steps, columns], row i for step i + 1, valid for `np.load` at every moment.

    A row is written behind the last one first, then the shape in the header, in one write of unchanged length inside
    one page. Between the two the file is the old array with bytes behind it, which NumPy ignores. Nothing waits for the
    disk at each step; `sync` does, and belongs before a checkpoint is written, so that the log is never behind it.
    """

    def __init__(self, path: str | os.PathLike, step: int = 0) -> None:
        """Open the log of a run that has done `step` steps.

        Rows beyond `step` are dropped, because the run will compute them again. Rows that are lacking become NaN. A
        file that is no such log is moved aside.

        Args:
            path: the file, `log/log.npy`.
            step: steps done; 0 for a new run.

        Raises:
            UserError: the file cannot be written.
        """
        self.path, self.rows = Path(path), step
        with replacing(self.path, sync=True) as temporary, open(temporary, "wb") as file:
            known = self._read()[:step]
            if len(known) < step:
                tell(f"{self.path} has {len(known)} of {step} steps; the others are filled with NaN")
            file.write(self._header(step) + np.ascontiguousarray(known, "<f8").tobytes())
            file.write(np.full((step - len(known), _WIDTH), np.nan).tobytes())
        self._file = os.open(self.path, os.O_RDWR)

    def _header(self, rows: int) -> bytes:
        # A number of fixed width keeps every other byte where it is.
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows:20d}, {_WIDTH}), }}"
        return _MAGIC + text.encode().ljust(HEADER_SIZE - 11) + b"\n"

    def _read(self) -> np.ndarray:
        """The whole rows of the file that is there, of whichever precision; none after moving aside what is no log."""
        if not self.path.is_file() or not self.path.stat().st_size:
            return np.zeros((0, _WIDTH))
        try:
            with open(self.path, "rb") as file:
                shape, fortran, dtype = npy_header(file)
                data = file.read()
            if len(shape) != 2 or shape[0] < 0 or shape[1] != _WIDTH or dtype.kind not in "fiu":
                raise ValueError(f"shape {shape}, type {dtype}")
            rows = min(shape[0], len(data) // (_WIDTH * dtype.itemsize))  # a power failure may have torn the tail
            if fortran and rows < shape[0]:
                raise ValueError("columns that are cut short")
            values = np.frombuffer(data, dtype, rows * _WIDTH)
            return values.reshape((rows, _WIDTH), order="F" if fortran else "C")
        except ValueError as error:
            aside = unused(self.path.with_name(f"{self.path.name}.old"))
            os.replace(self.path, aside)
            tell(f"{self.path} is not a log of {_WIDTH} columns ({error}); it is now {aside.name}")
            return np.zeros((0, _WIDTH))

    def _write(self, data: bytes, offset: int) -> None:
        try:
            if os.pwrite(self._file, data, offset) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}; it ends at step {self.rows}") from None

    def append(self, values: Sequence[float]) -> None:
        """Add the row of the next step.

        Raises:
            UserError: the disk is full; the rows so far stay readable.
        """
        row = np.asarray(values, "<f8")
        self._write(row.tobytes(), HEADER_SIZE + self.rows * row.nbytes)
        self._write(self._header(self.rows + 1), 0)
        self.rows += 1

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        os.close(self._file)
