"""The logs of a run: log.npy, VisualDL records, and lines on the screen.

All of it survives `kill -9` at any moment and continues without doubles when the run is resumed from an older step.
"""

import datetime
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.errors import UserError, printable, tell
from model.files import replacing, unused
from model.options import OPT
from model.training.lock import claim
from model.training.loss_log import COLUMNS, HEADER_SIZE, LossLog
from model.training.visualdl_file import VisualDLFile

BEFORE = "before"  # folder in the log folder, shown by VisualDL as a run of its own


def _take(folder: Path, run_id: str, output: str, step: int) -> None:
    """Make a log folder that of a run, by run.json in it, which names its folder of checkpoints for people.

    A run from step 0 moves an earlier one's files to before/; one that goes on is refused another run's folder.
    """
    note = folder / "run.json"
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        theirs, where = str(found["run"]), str(found["output"])
    except (OSError, ValueError, KeyError, TypeError):
        theirs = where = None  # nobody's, or of a version that made no note
    if step and theirs not in (None, run_id):
        raise UserError(
            f"{folder} holds the losses of another run, whose checkpoints are in {where}: give this one another "
            f"--log_dir (what it logged here before may be in {folder / BEFORE})"
        )
    left = [path for path in (folder / "log.npy", folder / VisualDLFile.NAME, note) if path.exists()]
    if not step and any(path.stat().st_size > HEADER_SIZE for path in left if path != note):
        target = unused(folder / BEFORE)
        target.mkdir()
        for path in left:
            os.replace(path, target / path.name)
        tell(f"{folder} holds the losses of an earlier run; they are now in {target}")
        theirs = None
    if theirs != run_id:
        with replacing(note) as temporary:
            temporary.write_text(json.dumps({"run": run_id, "output": output}) + "\n", encoding="utf-8")


class Logger:
    """Everything a training run tells: log.npy each step; curves and a line of mean losses every `print_freq` steps.

    On a terminal there is a progress bar, too.
    """

    def __init__(
        self, opt: OPT, *, run_id: str = "", step: int = 0, total_steps: int = 0, enabled: bool = True
    ) -> None:
        """Open the logs of a run that has done `step` steps.

        Args:
            opt: the run's options; one run at a time may write its log_dir.
            run_id: what tells the run from others, also after it was resumed.
            step: steps done.
            total_steps: steps of the whole run, for the time left.
            enabled: False on all processes but the first: nothing is written or printed.

        Raises:
            UserError: the folder cannot be written, is in use, or holds the logs of another run.
        """
        self.enabled = enabled
        self.opt, self.step, self.total_steps = opt, step, total_steps
        self._claim = self._log = self._records = self._bar = None
        self._first = (time.perf_counter(), step)
        self._start_sums()
        if not enabled:
            return
        self._claim = claim(opt.log_dir, "--log_dir")
        _take(Path(opt.log_dir), run_id, opt.output, step)
        self._log = LossLog(Path(opt.log_dir, "log.npy"), step=step)
        try:
            self._records = VisualDLFile(opt.log_dir, step)
        except (ImportError, TypeError, OSError) as error:  # TypeError: generated code that is too old for protobuf
            self.message(f"no VisualDL records are written ({error}); pip install visualdl")
        self._bar = tqdm(
            total=total_steps, initial=step, dynamic_ncols=True, disable=None,  # shown on a terminal alone
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
            losses: the seven losses of `COLUMNS`, by name (others are shown as curves too).
            epoch: the step's epoch, counted from 1.
            images: images that the step saw, over all processes.
            data_time: seconds spent waiting for the batch.
            lrs: learning rates by name, for the curves.
        """
        self.step += 1
        if not self.enabled:
            return
        self._log.append([losses[name] for name in COLUMNS])
        self._sums.update(losses)
        self._count += 1
        self._images += images
        self._data_time += data_time
        self._bar.set_description_str(self._pace(epoch), refresh=False)
        self._bar.update(1)
        if self.step % self.opt.print_freq == 0 or self.step == self.total_steps:
            self._report(epoch, lrs or {})

    def _start_sums(self) -> None:
        self._last = time.perf_counter()
        self._sums: Counter[str] = Counter()  # of the losses since then
        self._count = self._images = 0
        self._data_time = 0.0

    def _speed(self) -> float:
        """Images a second since the last report."""
        return self._images / max(time.perf_counter() - self._last, 1e-9)

    def _pace(self, epoch: int) -> str:
        """Epoch, rate, waiting for data, and time left, of the steps since the last report."""
        per_step = (time.perf_counter() - self._first[0]) / max(self.step - self._first[1], 1)
        left = datetime.timedelta(seconds=round((self.total_steps - self.step) * per_step))
        return (
            f"epoch {epoch}/{self.opt.total_epochs} {self._speed():.2f} img/s "
            f"data {self._data_time / self._count:.3f} s ETA {left}"
        )

    def _report(self, epoch: int, lrs: Mapping[str, float]) -> None:
        speed, waited = self._speed(), self._data_time / self._count
        means = {name: total / self._count for name, total in self._sums.items()}
        pace = f" {self._pace(epoch)}" if self._bar.disable else ""  # the bar shows it
        told = " ".join(f"{name} {means[name]:.4g}" for name in COLUMNS)
        self.message(f"step {self.step}/{self.total_steps}{pace} | {told}")
        curves = {f"loss/{name}": value for name, value in means.items()} | {f"lr/{n}": lr for n, lr in lrs.items()}
        for tag, value in {**curves, "speed/images_per_second": speed, "speed/data_seconds": waited}.items():
            self.scalar(tag, value)
        self._start_sums()

    def scalar(self, tag: str, value: float) -> None:
        """Add a point of a curve at the present step (a validation score, for example)."""
        if self._records is not None:
            self._records.scalar(tag, value, self.step)

    def picture(self, tag: str, image: Any) -> None:
        """Show a PIL image at the present step on VisualDL's page."""
        if self._records is not None:
            self._records.picture(tag, image, self.step)

    def message(self, text: str) -> None:
        """Print a line without breaking the progress bar; silent on other processes than the first."""
        if self.enabled:
            tqdm.write(printable(text))
            sys.stdout.flush()

    def sync(self) -> None:
        """Bring log.npy to the disk; call it before a checkpoint is written, so that it is never behind it."""
        if self._log is not None:
            self._log.sync()

    def close(self) -> None:
        """Finish all files."""
        for part in (self._log, self._records, self._bar, self._claim):
            if part is not None:
                part.close()
