"""One run of training, from its start or its last checkpoint to its end: what surrounds `Trainer.step`."""

import dataclasses
import itertools
import math
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paddle

from model import THREADS
from model.data.label_ids import unknown_ids
from model.data.loader import Loader, make_loader
from model.data.sample import ensure_sample
from model.data.visual import save_image
from model.errors import UserError, listed
from model.ops import group
from model.ops.device import set_device
from model.options import OPT
from model.trainer import Trainer
from model.training import checkpoint
from model.training.checkpoint_folder import STATE_FILE
from model.training.logger import Logger
from model.training.previews import Previews
from model.training.processes import Processes
from model.training.resume import resume_or_begin
from model.weights.networks import parameter_count
from model.weights.published import find_network

CALIBRATION_PICTURES = 16  # of the training split, for the batch norms of averaged weights


class Session:
    """A training run: data, `Trainer`, logs, checkpoints, previews; a context that ends its workers and files.

    Making it resumes from `output/model` unless `opt.fresh`. Of several processes only that of rank 0 reads and
    writes there; all take the same steps, stop after the same one, and end with the message of one that cannot go on.

    Attributes:
        saved: the newest checkpoint's folder, None without one.
        score: the quick FID of this moment, None where it is not measured.
        best: the lowest so far.
        run_id: what tells this run from others, also after it was resumed.

    Raises:
        UserError: data, weights, a checkpoint or a folder cannot be used.
    """

    def __init__(self, opt: OPT):
        self.opt = opt
        self.root, self.pics = Path(opt.output, "model"), Path(opt.output, "pics")
        self.saved = self.score = self.best = None
        self.run_id = secrets.token_hex(8)
        self._notes, self._names = [], []
        self.processes = Processes(opt.device)
        vgg = self._gather()
        self.processes.agree(opt, [item.name for item in self.loader.dataset.items])
        self.trainer = Trainer(opt, vgg, self._calibration)
        origin = self._resume()
        with self.processes.together():
            steps = dict(step=self.trainer.steps, total_steps=self.total_steps)
            self.logger = Logger(opt, run_id=self.run_id, **steps, enabled=self.processes.rank == 0)
            if self.processes.rank == 0:
                opt.save(Path(opt.output, "opt.yaml"))
        self._begun = (time.perf_counter(), self.trainer.steps)
        self._saved_step = self.trainer.steps
        for line in [*self._banner(origin), *self._notes]:
            self.logger.message(line)

    def train(self) -> None:
        """Take the steps that are left, or those until a signal comes; show, measure and save as the options say."""
        if self.is_complete:
            self.logger.message(
                f"nothing left to train: step {self.trainer.steps}, epoch {self.epoch - 1} of "
                f"{self.opt.total_epochs}; raise --niter or --max_steps to go on, or give --fresh to start anew"
            )
            return
        with self.processes.stop:
            every, val_every = self.opt.display_freq, self.opt.val_every
            while not self.is_complete and not self.stopped:
                self.trainer.set_epoch(self.epoch)
                for batch, waited in self.batches():
                    self.step(batch, waited)
                    last = self.is_complete or self.stopped
                    if every and (last or self.epoch_ended or self.trainer.steps % every == 0):
                        self.preview()
                    if val_every and self.epoch_ended and self.loader.epoch % val_every == 0:
                        self.validate()
                    if self.save_is_due():
                        self.save()
                    if last:
                        break
            self.finish()

    # Where the run is

    @property
    def epoch_ended(self) -> bool:
        """Whether the last step was its epoch's last."""
        return self.loader.position == len(self.loader)

    @property
    def epoch(self) -> int:
        """Epoch, counted from 1, that the next step belongs to."""
        return self.loader.epoch + self.epoch_ended

    @property
    def position(self) -> int:
        """Batches of that epoch that are done."""
        return 0 if self.epoch_ended else self.loader.position

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        left = max(0, (self.opt.total_epochs - self.epoch + 1) * len(self.loader) - self.position)
        total = self.trainer.steps + left
        return total if self.opt.max_steps is None else min(total, max(self.opt.max_steps, self.trainer.steps))

    @property
    def is_complete(self) -> bool:
        """Whether no step is left."""
        return self.total_steps == self.trainer.steps

    @property
    def stopped(self) -> str:
        """The signal that ended the run early, to whichever process it came; empty if there was none."""
        return self.processes.stopped

    @property
    def _batch(self) -> int:
        """Pictures of a step, in all processes."""
        return self.opt.batchSize * self.processes.world

    # Beginning

    def _gather(self):
        """Find all that the run needs, before networks are built; gives VGG's weights, or None without that loss."""
        opt, together, is_first = self.opt, self.processes.together, self.processes.rank == 0
        with together("all"):
            self.device = set_device(opt.device)
            if opt.dataset_mode == "sample" and os.environ.get("PADDLE_LOCAL_RANK", "0") == "0":
                ensure_sample(opt.dataroot)  # once on each machine
        with together("all"):
            self.loader = self._loader()
            self.previews = Previews(opt, self.loader.dataset, opt.val_images if is_first else 0)
            self._notes.extend(self.previews.notes)
            self._quick_fid = self._find_quick_fid() if is_first and opt.val_every else None
            self._claim = checkpoint.prepare(self.root) if is_first else None
            return None if opt.no_vgg_loss else find_network("vgg19", opt.vgg_path)

    def _loader(self, epoch: int = 1, start: int = 0) -> Loader:
        rank, world = self.processes.rank, self.processes.world
        return make_loader(self.opt, "train", epoch=epoch, start=start, rank=rank, world=world)

    def _find_quick_fid(self):
        """What measures the quick FID; without what it needs the run goes on, and says so."""
        from model.metrics.evaluation import QuickFID  # here, since most runs measure none

        try:
            return QuickFID(self.opt)
        except UserError as error:
            self._notes.append(f"no FID     every {self.opt.val_every} epochs, and no best checkpoint: {error}")

    def _calibration(self):
        """The batches on which averaged weights' statistics are estimated: the first of epoch 1, always the same."""
        with make_loader(dataclasses.replace(self.opt, nThreads=0), "train") as loader:
            yield from itertools.islice(loader, -(-CALIBRATION_PICTURES // self.opt.batchSize))

    def _resume(self) -> str:
        """Take up the last checkpoint, if there is one; process 0 reads it for all. Where the run starts in words."""
        origin, content = "", None
        with self.processes.together("first"):
            if self.processes.rank == 0:
                saved, origin, notes = resume_or_begin(self.opt, self.trainer.networks(), self.root, self.pics)
                content = saved and (str(saved.path), saved.nets, saved.state)
                self._notes.extend(notes)
        content = group.from_first(content)
        if content is None:
            if self.opt.init_from:
                self.trainer.copy_from_first()
            return origin
        path, nets, state = Path(content[0]), *content[1:]
        self.trainer.load_networks(nets, path)
        self.trainer.load_state_dict(state["trainer"], path / STATE_FILE)
        self.saved, self.best, self.run_id = path, state["best"], state.get("run", self.run_id)
        self._place_loader(state)
        return f"resumes {path} (step {self.trainer.steps}, epoch {self.epoch}, batch {self.position + 1})"

    def _place_loader(self, state):
        """Let the loader begin where the saved one stopped."""
        position, length = state["position"], len(self.loader)
        if (state["batch"], state["length"]) != (self._batch, length):
            position = min(position * length // state["length"], length - 1)
            self._notes.append(
                f"batches    of an epoch were {state['length']} and are {length} now: "
                f"going on at the same share of epoch {state['epoch']}"
            )
        self.loader = self._loader(state["epoch"], position)

    def _banner(self, origin):
        opt, height, width = self.opt, *self.opt.generator_size
        counts = ", ".join(f"{n[-1].upper()} {parameter_count(net):,}" for n, net in self.trainer.networks().items())
        processes = f", {self.processes.world} processes" if self.processes.world > 1 else ""
        advice = group.launch_advice()
        return [
            f"data       {opt.label_dir or opt.dataroot} ({opt.dataset_mode}): {len(self.loader.dataset)} "
            f"training pictures, {width}x{height}, {len(self.loader)} steps of {self._batch} an epoch",
            *([f"not read   {self.loader.dataset.not_read}"] if self.loader.dataset.not_read else []),
            *([f"classes    {self._classes()}"] if opt.dataset_mode == "custom" else []),
            f"networks   parameters: {counts}",
            f"device     {self.device}, threads {THREADS}{processes}, Paddle {paddle.__version__}",
            f"start      {origin}, to step {self.total_steps}",
            f"writes     checkpoints to {self.root}, pictures to {self.pics}, losses to {Path(opt.log_dir, 'log.npy')}",
            f"watch      visualdl --logdir {opt.log_dir}",
            "stop       Ctrl-C finishes the step and saves; the same command goes on",
            *([f"note       {advice}"] if advice else []),
        ]

    def _classes(self):
        own, *others = unknown_ids(self.opt) or [None]
        unlabelled = "" if own is None else f"; unlabelled: {listed([own, *others])} (channel {own})"
        return f"0..{self.opt.label_nc - 1}{unlabelled}"

    # During the run

    def batches(self) -> Iterator[tuple[dict, float]]:
        """The rest of the epoch's batches, each with the seconds that it was waited for."""
        batches = iter(self.loader)
        while True:
            start = time.perf_counter()
            try:
                with self.processes.together():
                    batch = next(batches, None)
            except group.LostError:
                raise
            except UserError as error:
                if self.trainer.steps > self._saved_step:  # the file is at fault, not the training
                    self.save()
                kept = f"step {self._saved_step} is saved in {self.saved}" if self.saved else "nothing is trained yet"
                raise UserError(f"{error}; {kept}") from None
            if batch is None:
                return
            yield batch, time.perf_counter() - start

    def step(self, batch, waited: float) -> None:
        """Train on a batch and log it.

        Raises:
            UserError: a loss is no finite number; names the batch's files. Nothing is saved then.
        """
        with group.unwrapped():
            losses = self.trainer.step(batch, self.loader.position - 1)
        self._names = self.loader.names(batch)
        wrong = [f"{name} {value}" for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            raise self._diverged(", ".join(wrong), group.texts(", ".join(self._names)))
        lrs = {"G": self.trainer.optimizer_G.get_lr(), "D": self.trainer.optimizer_D.get_lr()}
        images = len(batch["label"]) * self.processes.world
        with self.processes.together():
            self.logger.log(losses, epoch=self.loader.epoch, images=images, data_time=waited, lrs=lrs)

    def _diverged(self, what, names):
        kept = f"the last good checkpoint, {self.saved}, is untouched" if self.saved else "nothing was saved yet"
        return UserError(
            f"step {self.trainer.steps}: {what}, after the pictures {', '.join(names)}; {kept}: "
            "look at these files, or lower --lr"
        )

    def preview(self) -> None:
        """Show the fixed label maps' pictures in output/pics/ and in VisualDL."""
        with self.processes.together("first"):
            if self.previews.maps:
                sheet = self.previews.sheet(self.trainer.preview)
                save_image(sheet, self.pics / f"step_{self.trainer.steps:08d}.jpg")
                self.logger.picture("preview", sheet)

    def validate(self) -> None:
        """Measure the quick FID over the validation split, by which the best checkpoint is kept."""
        with self.processes.together("first"):
            if self._quick_fid is not None:
                self.score = self._quick_fid.measure(self.trainer.preview)
                self.logger.scalar("metrics/quick_fid", self.score)
                best = "the first" if self.best is None else f"the best so far {self.best:.2f}"
                self.logger.message(
                    f"step {self.trainer.steps}: quick FID {self.score:.2f} ({best}; comparable within this run only)"
                )
        self.score = group.from_first(self.score)

    def save_is_due(self) -> bool:
        """Whether the options ask for a checkpoint after this step."""
        every = self.opt.save_latest_freq
        return bool(every and self.trainer.steps % every == 0) or self._is_kept_epoch() or self.score is not None

    def _is_kept_epoch(self):
        return self.epoch_ended and self.loader.epoch % self.opt.save_epoch_freq == 0

    def save(self) -> None:
        """Write a checkpoint of this moment.

        Raises:
            UserError: weights are not finite, no space, no permission; earlier checkpoints stay as they are.
        """
        with self.processes.together("first"):
            if self.processes.rank == 0:
                self._write()
        self.saved = Path(group.from_first(str(self.saved)))
        self._saved_step, self.score = self.trainer.steps, None

    def _write(self):
        nets = {name: net.state_dict() for name, net in self.trainer.saved_networks().items()}
        arrays = {name: {key: value.numpy() for key, value in state.items()} for name, state in nets.items()}
        wrong = [f"{n}:{k}" for n, state in arrays.items() for k, v in state.items() if not np.isfinite(v).all()]
        if wrong:
            raise self._diverged(f"{len(wrong)} weights are not finite ({', '.join(wrong[:3])})", self._names)
        best = self.score is not None and (self.best is None or self.score < self.best)
        self.best = self.score if best else self.best
        place = dict(epoch=self.epoch, position=self.position, batch=self._batch, length=len(self.loader))
        state = {"trainer": self.trainer.state_dict(), **place, "best": self.best, "run": self.run_id}
        self.logger.sync()
        self.saved = checkpoint.save(
            self.root, arrays, state, self.opt, step=self.trainer.steps, epoch=self.epoch - 1, best=best,
            is_epoch_end=self._is_kept_epoch(), info=None if self.score is None else {"fid": self.score},
        )  # fmt: skip

    # End

    def finish(self) -> None:
        """Save what is not saved; say what was done, where it is and how to look at it or go on."""
        seconds, steps = time.perf_counter() - self._begun[0], self.trainer.steps - self._begun[1]
        if self.trainer.steps > self._saved_step:
            self.save()
        how = f"stopped by {self.stopped}" if self.stopped else "done"
        self.logger.message(
            f"{how}: {steps} steps in {seconds:.0f} s, now at step {self.trainer.steps}; saved in {self.saved}"
        )
        if self.stopped:
            again = "the same command without --fresh" if self.opt.fresh else "the same command"
            self.logger.message(f"go on: {again}")
        look = f"python val.py --checkpoint {self.root}{self.previews.split}"
        self.logger.message(f"look: {self.pics}, {look}, visualdl --logdir {self.opt.log_dir}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loader.close()
        self.logger.close()
        if self._claim is not None:
            self._claim.close()
