"""What a run writes as it goes on: log.npy, VisualDL records, and lines on the screen.

All of it survives `kill -9` at any moment and continues without doubles when the run is resumed from an older step.
"""

import io
import json
import os
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import UserError, printable, tell
from model.files import replacing, unused
from model.training.lock import claim

# The columns of log.npy, in order.
COLUMNS = ("g_loss_gan", "g_loss_feat", "g_loss_vgg", "g_loss_vae", "d_loss", "d_loss_f", "d_loss_r")

BEFORE = "before"  # folder in the log folder, shown by VisualDL as a run of its own
_HEADER_SIZE = 128
_MAGIC = b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEADER_SIZE - 10)


def _aside(path: Path) -> Path:
    """Move a file out of the way, under the first unused name `file.old`, `file.old.1` ..."""
    target = unused(path.with_name(f"{path.name}.old"))
    os.replace(path, target)
    return target


class LossLog:
    """A growing `.npy` file: float64 [steps, columns], row i for step i + 1, valid for `np.load` at every moment.

    A row is written behind the last one first, then the shape in the header, in one write of unchanged length inside
    one page. Between the two the file is the old array with bytes behind it, which NumPy ignores. Nothing waits for the
    disk at each step; `sync` does, and belongs before a checkpoint is written, so that the log is never behind it.
    """

    def __init__(self, path: str | os.PathLike, columns: int = len(COLUMNS), step: int = 0) -> None:
        """Open the log of a run that has done `step` steps.

        Rows beyond `step` are dropped, because the run will compute them again. Rows that are lacking become NaN. A
        file that is no such log is moved aside.

        Args:
            path: The file, `log/log.npy`.
            columns: Values per row.
            step: Steps done; 0 for a new run.

        Raises:
            UserError: The file cannot be written.
        """
        self.path = Path(path)
        self.columns = columns
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            rows = self._adopt() if self.path.exists() else 0
            if not rows:
                self._replace(self._header(0))
            self._file = os.open(self.path, os.O_RDWR)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}; check its permissions") from None
        self.rows = min(rows, step)
        self._set_shape(self.rows)
        os.ftruncate(self._file, self._offset(self.rows))
        if self.rows < step:
            tell(f"{self.path} has {self.rows} of {step} steps; the others are filled with NaN")
            filler = np.full((min(step - self.rows, 4096), columns), np.nan)
            while self.rows < step:
                self._append_rows(filler[: step - self.rows])

    def _offset(self, row: int) -> int:
        return _HEADER_SIZE + row * self.columns * 8

    def _header(self, rows: int) -> bytes:
        # A number of fixed width keeps every other byte where it is.
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows:20d}, {self.columns}), }}"
        return _MAGIC + text.encode().ljust(_HEADER_SIZE - 11) + b"\n"

    def _adopt(self) -> int:
        """Whole rows of the file that is there; 0 after moving it aside."""
        with open(self.path, "rb") as file:
            head = file.read(_HEADER_SIZE)
            size = os.fstat(file.fileno()).st_size
        ours = self._header(0)
        at = ours.index(b"(") + 1
        blank = bytearray(head)
        blank[at : at + 20] = ours[at : at + 20]
        if bytes(blank) == ours and head[at : at + 20].strip().isdigit():
            rows = min(int(head[at : at + 20]), (size - _HEADER_SIZE) // (self.columns * 8))
        elif size == 0:
            return 0
        else:
            rows = self._convert()
        return rows

    def _convert(self) -> int:
        """Rewrite a log that another program saved, from whichever precision; move aside what is none."""
        try:
            values = np.load(self.path, allow_pickle=False)
            if values.ndim != 2 or values.shape[1] != self.columns or values.dtype.kind not in "fiu":
                raise ValueError(f"shape {values.shape}, type {values.dtype}")
        except (ValueError, EOFError, OSError) as error:
            tell(f"{self.path} is not a log of {self.columns} columns ({error}); it is now {_aside(self.path).name}")
            return 0
        self._replace(self._header(len(values)) + np.ascontiguousarray(values, "<f8").tobytes())
        return len(values)

    def _replace(self, content: bytes) -> None:
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def _write(self, data: bytes, offset: int) -> None:
        try:
            done = os.pwrite(self._file, data, offset)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}; it ends at step {self.rows}") from None
        if done != len(data):
            raise UserError(f"cannot write {self.path}: no space left on the device; it ends at step {self.rows}")

    def _set_shape(self, rows: int) -> None:
        self._write(self._header(rows), 0)

    def _append_rows(self, rows: np.ndarray) -> None:
        self._write(np.ascontiguousarray(rows, "<f8").tobytes(), self._offset(self.rows))
        self._set_shape(self.rows + len(rows))
        self.rows += len(rows)

    def append(self, values: Sequence[float]) -> None:
        """Add the row of the next step.

        Raises:
            UserError: The disk is full; the rows so far stay readable.
        """
        row = np.asarray(values, "<f8")
        if row.shape != (self.columns,):
            raise ValueError(f"a row of shape {row.shape}, expected ({self.columns},)")
        self._append_rows(row[None])

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Sync and close; harmless when repeated."""
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            self._file = -1


class VisualDLFile:
    """VisualDL records in one file that a resumed run continues.

    VisualDL's own LogWriter begins a file for every start, and its page shows only the newest of a folder; so a resumed
    run would lose its past. The format is simple: each record is its length (uint64) and a serialised `Record`.
    """

    NAME = "vdlrecords.0000000000.log"

    def __init__(self, folder: str | os.PathLike, step: int = 0) -> None:
        """Open or create the file; records later than `step`, and one that was cut short, are dropped.

        Raises:
            ImportError: VisualDL is not installed or does not work here.
        """
        from visualdl.proto.record_pb2 import Record

        self._record = Record
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.NAME
        self._file = open(path, "r+b" if path.exists() else "w+b")
        end = self._end_of(step) if step else 0
        self._file.truncate(end)
        self._file.seek(end)
        if end == 0:
            meta = Record.Value(id=0, tag="meta_data_tag", timestamp=_now(), meta_data=Record.MetaData(display_name=""))
            self._add(meta)

    def _end_of(self, step: int) -> int:
        from google.protobuf.message import DecodeError

        size, end = os.fstat(self._file.fileno()).st_size, 0
        while len(head := self._file.read(8)) == 8:
            (length,) = struct.unpack("<Q", head)
            if end + 8 + length > size:
                break
            try:
                record = self._record.FromString(self._file.read(length))
            except DecodeError:
                break
            if any(value.id > step for value in record.values):
                break
            end += 8 + length
        return end

    def _add(self, value: Any) -> None:
        data = self._record(values=[value]).SerializeToString()
        self._file.write(struct.pack("<Q", len(data)) + data)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a point of a curve."""
        self._add(self._record.Value(id=step, tag=tag, timestamp=_now(), value=float(value)))

    def picture(self, tag: str, image: Any, step: int) -> None:
        """Add a PIL image, as JPEG: the page loads whole files, and a run makes a thousand."""
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=90)
        content = self._record.Image(encoded_image_string=buffer.getvalue())
        self._add(self._record.Value(id=step, tag=tag, timestamp=_now(), image=content))

    def flush(self) -> None:
        """Hand everything to the operating system, where the page can see it."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close; harmless when repeated."""
        self._file.close()


def _now() -> int:
    return round(time.time() * 1000)


def _duration(seconds: float) -> str:
    if not np.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days}d " if days else "") + f"{hours:d}:{minutes:02d}:{seconds:02d}"


def take(folder: Path, run: str, output: str, step: int) -> None:
    """Make a log folder that of a run, by run.json in it; a run from step 0 moves what an earlier one left to before/.

    Args:
        folder: `log/`.
        run: What tells the run from others.
        output: The folder of its checkpoints, for people.
        step: Steps done.

    Raises:
        UserError: The run goes on from `step`, and the folder holds another run's logs.
    """
    note = folder / "run.json"
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        theirs, where = str(found["run"]), str(found["output"])
    except (OSError, ValueError, KeyError, TypeError):
        theirs = where = None  # nobody's, or of a version that made no note
    if step and theirs not in (None, run):
        raise UserError(
            f"{folder} holds the losses of another run, whose checkpoints are in {where}: give this one another "
            f"--log_dir (what it logged here before may be in {folder / BEFORE})"
        )
    left = [path for path in (folder / "log.npy", folder / VisualDLFile.NAME, note) if path.exists()]
    if not step and any(path.stat().st_size > _HEADER_SIZE for path in left if path != note):
        target = unused(folder / BEFORE)
        target.mkdir()
        for path in left:
            os.replace(path, target / path.name)
        tell(f"{folder} holds the losses of an earlier run; they are now in {target}")
        theirs = None
    if theirs != run:
        with replacing(note) as temporary:
            temporary.write_text(json.dumps({"run": run, "output": output}) + "\n", encoding="utf-8")


class Logger:
    """Everything a training run tells: log.npy each step, curves and the screen every `print_freq` steps.

    Every `print_freq` steps there is a line with the mean losses since the last one; on a terminal also a progress bar.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        run: str = "",
        output: str = "",
        step: int = 0,
        total_steps: int = 0,
        epochs: int = 0,
        print_freq: int = 20,
        enabled: bool = True,
    ) -> None:
        """Open the logs of a run that has done `step` steps.

        Args:
            folder: `log/`; one run at a time may write it.
            run: What tells the run from others, also after it was resumed.
            output: The folder of its checkpoints, for people.
            step: Steps done.
            total_steps: Steps of the whole run, for the time left; 0 if unknown.
            epochs: Epochs of the whole run.
            print_freq: Steps between two lines and two points of the curves.
            enabled: False on all processes but the first: nothing is written or printed.

        Raises:
            UserError: The folder cannot be written, is in use, or holds the logs of another run.
        """
        self.enabled = enabled
        self.step, self.total_steps, self.epochs, self.print_freq = step, total_steps, epochs, max(print_freq, 1)
        self._claim = self._log = self._records = self._bar = None
        self._last = time.perf_counter()
        self._first = (self._last, step)
        self._sums: dict[str, float] = {}
        self._count = self._images = 0
        self._data_time = 0.0
        if not enabled:
            return
        self._claim = claim(folder, "--log_dir")
        take(Path(folder), run, output, step)
        self._log = LossLog(Path(folder) / "log.npy", step=step)
        try:
            self._records = VisualDLFile(folder, step)
        except (ImportError, TypeError, OSError) as error:  # TypeError: generated code that is too old for protobuf
            self.message(f"no VisualDL records are written ({error}); pip install visualdl")
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total_steps or None, initial=step, unit="step", dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar:8}| {n_fmt}/{total_fmt} {desc}",
            )  # fmt: skip

    def log(
        self,
        losses: Mapping[str, float],
        *,
        epoch: int,
        images: int,
        data_time: float = 0.0,
        lrs: Mapping[str, float] | None = None,
    ) -> None:
        """Note one finished step.

        Args:
            losses: The seven losses of `COLUMNS`, by name (others are shown as curves too).
            epoch: The step's epoch, counted from 1.
            images: Images that the step saw, over all processes.
            data_time: Seconds spent waiting for the batch.
            lrs: Learning rates by name, for the curves.
        """
        self.step += 1
        if not self.enabled:
            return
        values = {name: float(value) for name, value in losses.items()}
        self._log.append([values[name] for name in COLUMNS])
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        self._images += images
        self._data_time += data_time
        if self._bar is not None:
            self._bar.set_description_str(self._pace(epoch), refresh=False)
            self._bar.update(1)
        if self.step % self.print_freq == 0 or self.step == self.total_steps:
            self._report(epoch, lrs or {})

    def _speed(self) -> float:
        """Images a second since the last report."""
        return self._images / max(time.perf_counter() - self._last, 1e-9)

    def _pace(self, epoch: int) -> str:
        """Epoch, rate, waiting for data, and time left, of the steps since the last report."""
        per_step = (time.perf_counter() - self._first[0]) / max(self.step - self._first[1], 1)
        left = (self.total_steps - self.step) * per_step if self.total_steps else float("nan")
        return (
            f"epoch {epoch}{f'/{self.epochs}' if self.epochs else ''} {self._speed():.2f} img/s "
            f"data {self._data_time / self._count:.3f} s ETA {_duration(left)}"
        )

    def _report(self, epoch: int, lrs: Mapping[str, float]) -> None:
        speed, waited = self._speed(), self._data_time / self._count
        means = {name: total / self._count for name, total in self._sums.items()}
        of = f"/{self.total_steps}" if self.total_steps else ""
        pace = "" if self._bar is not None else f" {self._pace(epoch)}"  # the bar shows it
        self.message(f"step {self.step}{of}{pace} | " + " ".join(f"{name} {means[name]:.4g}" for name in COLUMNS))
        if self._records is not None:
            for name, value in means.items():
                self._records.scalar(f"loss/{name}", value, self.step)
            for name, value in lrs.items():
                self._records.scalar(f"lr/{name}", value, self.step)
            self._records.scalar("speed/images_per_second", speed, self.step)
            self._records.scalar("speed/data_seconds", waited, self.step)
            self._records.flush()
        self._last = time.perf_counter()
        self._sums, self._count, self._images, self._data_time = {}, 0, 0, 0.0

    def scalar(self, tag: str, value: float) -> None:
        """Add a point of a curve at the present step (a validation score, for example)."""
        if self._records is not None:
            self._records.scalar(tag, value, self.step)
            self._records.flush()

    def picture(self, tag: str, image: Any) -> None:
        """Show a PIL image at the present step on VisualDL's page."""
        if self._records is not None:
            self._records.picture(tag, image, self.step)
            self._records.flush()

    def message(self, text: str) -> None:
        """Print a line without breaking the progress bar; silent on other processes than the first."""
        if not self.enabled:
            return
        text = printable(text)
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)

    def sync(self) -> None:
        """Bring the logs to the disk; call it before a checkpoint is written, so that they are never behind it."""
        if self._log is not None:
            self._log.sync()
        if self._records is not None:
            self._records.flush()

    def close(self) -> None:
        """Finish all files; harmless when repeated."""
        for part in (self._log, self._records, self._bar, self._claim):
            if part is not None:
                part.close()

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
