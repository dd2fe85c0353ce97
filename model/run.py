"""One run of training from its start or its last checkpoint to its end: what surrounds `Trainer.step`."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import secrets
import signal
import time
from pathlib import Path

import numpy as np
import paddle

from model import THREADS
from model.data.dataset import PhotoMaps
from model.data.label_ids import unknown_ids
from model.data.loader import collate, make_loader
from model.data.sample import ensure_sample
from model.data.visual import grid, preview_sheet, save_image
from model.errors import UserError, listed
from model.files import unused
from model.ops import group
from model.ops.device import set_device
from model.options import OPT
from model.trainer import Trainer
from model.training import checkpoint
from model.training.logger import Logger
from model.training.start import begin_from, weight_files
from model.weights.networks import parameter_count
from model.weights.published import find_vgg

CALIBRATION_PICTURES = 16  # of the training split, for the batch norms of averaged weights
FID_PICTURES = 1000  # of the validation split, the first, for the quick FID
_NOT_TOLD = ("fresh", "preset", "name")  # options whose change at a resume means nothing
_OF_THE_START = ("init_type", "init_variance", "init_from")  # those that a checkpoint has behind it
# Options that the machines of a run may differ in: where things lie, and how they are read.
_OWN = (
    "preset",
    "name",
    "dataroot",
    "label_dir",
    "image_dir",
    "instance_dir",
    "vgg_path",
    "nThreads",
    "output",
    "log_dir",
)


class Stop:
    """Turns SIGINT and SIGTERM into a note, so that the step is finished; a second signal ends the program at once.

    Not under paddle.distributed.launch, which sends its processes SIGTERM three times and kills them after 30 seconds.
    """

    def __init__(self):
        self.name = ""
        self._before = {}

    def _note(self, number, _frame):
        self.name = signal.Signals(number).name
        self._restore()

    def _restore(self):
        if "PADDLE_TRAINER_ID" in os.environ:
            return
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: Paddle's own, in C

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        self._restore()


class Session:
    """A training run: data, `Trainer`, logs, checkpoints, previews; a context that ends its workers and files.

    Entering it resumes from `output/model` unless `opt.fresh`. Of several processes only that of rank 0 reads and
    writes there; all take the same steps, stop after the same one, and end with the message of one that cannot go on.

    Raises:
        UserError: Data, weights, a checkpoint or a folder cannot be used.
    """

    def __init__(self, opt: OPT):
        self.opt = opt
        group.join(opt.device)
        self.rank, self.world = group.rank(), group.world()
        self.root, self.pics = Path(opt.output, "model"), Path(opt.output, "pics")
        self.stop = Stop()
        self.stopped = ""  # the signal that ended the run early, to whichever process it came
        self.saved = None  # the newest checkpoint's folder
        self.best = None  # lowest quick FID so far
        self.run = secrets.token_hex(8)  # what tells this run from others, also after it was resumed
        self.score = None  # that of this moment
        self._notes, self._names, self._split = [], [], ""
        self._extractor = self._reference = self._claim = vgg = None
        with self.together("all"):
            self.device = set_device(opt.device)
            if opt.dataset_mode == "sample" and os.environ.get("PADDLE_LOCAL_RANK", "0") == "0":
                ensure_sample(opt.dataroot)  # once on each machine
        with self.together("all"):
            self.loader = make_loader(opt, "train", rank=self.rank, world=self.world)
            self.maps = self._fixed_maps()
            if opt.val_every and self.rank == 0:
                self._prepare_fid()
            if self.rank == 0:
                self._claim = checkpoint.prepare(self.root)
            vgg = None if opt.no_vgg_loss else find_vgg(opt.vgg_path)
        self._check_agreement()
        self.trainer = Trainer(opt, vgg, self._calibration)
        origin = self._resume()
        with self.together():
            self.logger = Logger(
                opt.log_dir, run=self.run, output=opt.output, step=self.trainer.steps, total_steps=self.total_steps,
                epochs=opt.total_epochs, print_freq=opt.print_freq, enabled=self.rank == 0,
            )  # fmt: skip
            if self.rank == 0:
                opt.save(Path(opt.output, "opt.yaml"))
        self._begun = (time.perf_counter(), self.trainer.steps)
        self._saved_step = self.trainer.steps
        for line in [*self._banner(origin), *self._notes]:
            self.say(line)

    @contextlib.contextmanager
    def together(self, wait=None):
        """What each process does for itself: the first error of any is raised in all, and a signal to any is noted.

        Args:
            wait: "first" where process 0 may work for more than 30 seconds, "all" where any may.
        """
        own = None
        try:
            yield
        except (UserError, OSError) as error:
            if self.world == 1 or isinstance(error, group.LostError):
                raise
            own = error
        if wait:
            group.wait(everyone=wait == "all")
        message = str(own) if own else ""
        for rank, text in enumerate(group.texts(f"{self.stop.name}\n{message}" if self.stop.name or own else "")):
            signal_name, _, message = text.partition("\n")
            self.stopped = self.stopped or signal_name
            if message:
                raise UserError(f"process {rank}: {message}") from own

    def _check_agreement(self):
        """See that all machines were given the same command and the same pictures."""
        if self.world == 1:
            return
        own = {name: value for name, value in dataclasses.asdict(self.opt).items() if name not in _OWN}
        names = "\n".join(item.name for item in self.loader.dataset.items)
        own["training pictures"] = (
            f"{len(self.loader.dataset)} ({hashlib.sha256(names.encode(errors='surrogateescape')).hexdigest()[:8]})"
        )
        own["Paddle"] = paddle.__version__
        first, *others = [json.loads(text) for text in group.texts(json.dumps(own))]
        for rank, other in enumerate(others, 1):
            different = [f"{key} {other[key]}, not {value}" for key, value in first.items() if value != other[key]]
            if different:
                raise UserError(
                    f"process {rank} differs from process 0: {'; '.join(different)}: "
                    "give every machine the same command and the same data"
                )

    # Where the run is

    @property
    def epoch_ended(self) -> bool:
        """Whether the last step was its epoch's last."""
        return self.loader.position == len(self.loader)

    @property
    def finished_epoch(self) -> int:
        """Epochs done, when the last step ended one."""
        return self.loader.epoch

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

    # Beginning

    def _fixed_maps(self):
        """The batches, of one picture each, that previews show: the first of the validation split."""
        count = self.opt.val_images if self.rank == 0 else 0
        if not count:
            return []
        try:
            data = PhotoMaps(self.opt, "val")
        except UserError as error:
            self._notes.append(f"previews   of training maps, for there is no validation split: {error}")
            data, self._split = self.loader.dataset, " --phase train"
        if data.without_photos:
            self._notes.append(f"previews   without photos: {data.without_photos}")
        return [collate([data[i]], data.opt) for i in range(min(count, len(data)))]

    def _prepare_fid(self):
        """Find what the quick FID needs; without it the run goes on, and says so."""
        from model.metrics import load_extractor

        try:
            data = PhotoMaps(self.opt, "val")
            if len(data) < 2 or data.items[0].image is None:
                raise UserError("the validation split has fewer than two photos")
            self._extractor = load_extractor()
        except UserError as error:
            self._notes.append(f"no FID     every {self.opt.val_every} epochs, and no best checkpoint: {error}")

    def _resume(self) -> str:
        """Take up the last checkpoint, if there is one; process 0 reads it for all. Where the run starts in words."""
        origin, saved = "", None
        with self.together("first"):
            if self.rank == 0:
                origin, saved = self._last_checkpoint()
        content = group.from_first(saved and (str(saved.path), saved.nets, saved.state))
        if content is None:
            if self.opt.init_from:
                self.trainer.copy_from_first()
            return origin
        path, nets, state = Path(content[0]), *content[1:]
        self.trainer.load_networks(nets, path)
        self.trainer.load_state_dict(state["trainer"], path / checkpoint.STATE_FILE)
        self.saved, self.best, self.run = path, state["best"], state.get("run", self.run)
        self._place_loader(state)
        return f"resumes {path} (step {self.trainer.steps}, epoch {self.epoch}, batch {self.position + 1})"

    def _last_checkpoint(self):
        """Where the run starts in words, and the checkpoint to go on from, or None."""
        has_checkpoint = checkpoint.exists(self.root)
        if has_checkpoint and not self.opt.fresh:
            saved = checkpoint.load(self.root, self.opt, verify=True)
            self._tell_changes(saved)
            return "", saved
        origin = self._first_weights()
        if has_checkpoint:
            origin = f"anew {origin}; the earlier checkpoints are now in {_set_aside(self.root, self.pics)}"
        return origin, None

    def _first_weights(self):
        """Fill the networks from init_from, if it is given; where they are from in words."""
        if self.opt.init_from:
            told = begin_from(self.opt.init_from, self.trainer.networks(), self.opt)
            self._notes.extend(f"weights    {line}" for line in told)
            return f"from the weights of {self.opt.init_from}"
        strange = [] if checkpoint.exists(self.root) else [path.name for path in weight_files(self.root)]
        if strange:
            self._notes.append(
                f"not read   {listed(strange)} in {self.root}, not of a checkpoint of this run: "
                f"to start from these weights, give --init_from {self.root}"
            )
        return "from new weights"

    def _place_loader(self, state):
        """Let the loader begin where the saved one stopped."""
        opt, position = self.opt, state["position"]
        if (state["batch"], state["length"]) != (opt.batchSize * self.world, len(self.loader)):
            position = min(position * len(self.loader) // state["length"], len(self.loader) - 1)
            self._notes.append(
                f"batches    of an epoch were {state['length']} and are {len(self.loader)} now: "
                f"going on at the same share of epoch {state['epoch']}"
            )
        self.loader = make_loader(opt, "train", epoch=state["epoch"], start=position, rank=self.rank, world=self.world)

    def _tell_changes(self, saved):
        before = OPT.load(saved.opt_file)
        differ = {name: f"{name} {then!r} -> {now!r}" for name, (then, now) in before.differences(self.opt).items()}
        changed = [text for name, text in differ.items() if name not in _NOT_TOLD + _OF_THE_START]
        if changed:
            self._notes.append(f"changed    since that checkpoint, and valid from now on: {', '.join(changed)}")
        unused = [differ[name] for name in _OF_THE_START if name in differ and name != "init_from"]
        if self.opt.init_from:
            unused.append(f"init_from {self.opt.init_from!r}")
        if unused:
            self._notes.append(
                f"not used   {', '.join(unused)}: the run goes on from its own checkpoint; --fresh starts it anew"
            )
        betas = saved.state["trainer"].setdefault("betas", before.betas)
        if not betas[0] and self.opt.beta1:
            self._notes.append("moments    Adam's first ones start at 0: with beta1 0, as it was, none are kept")

    def _banner(self, origin):
        opt, height, width = self.opt, *self.opt.generator_size
        counts = ", ".join(f"{n[-1].upper()} {parameter_count(net):,}" for n, net in self.trainer.networks().items())
        processes = f", {self.world} processes" if self.world > 1 else ""
        advice = group.launch_advice()
        return [
            f"data       {opt.label_dir or opt.dataroot} ({opt.dataset_mode}): {len(self.loader.dataset)} "
            f"training pictures, {width}x{height}, {len(self.loader)} steps of {opt.batchSize * self.world} an epoch",
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

    def say(self, text: str) -> None:
        """Print a line, on rank 0."""
        self.logger.message(text)

    def batches(self):
        """The rest of the epoch's batches, each with the seconds that it was waited for."""
        batches = iter(self.loader)
        while True:
            start = time.perf_counter()
            try:
                with self.together():
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
            UserError: A loss is no finite number; names the batch's files. Nothing is saved then.
        """
        with group.unwrapped():
            losses = self.trainer.step(batch, self.loader.position - 1)
        self._names = self.loader.names(batch)
        wrong = [f"{name} {value}" for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            names = ", ".join(group.texts(", ".join(self._names)))
            raise UserError(
                f"step {self.trainer.steps}: {', '.join(wrong)}, after the pictures {names}; {self._kept()}: "
                "look at these files, or lower --lr"
            )
        lrs = {"G": self.trainer.optimizer_G.get_lr(), "D": self.trainer.optimizer_D.get_lr()}
        images = len(batch["label"]) * self.world
        with self.together():
            self.logger.log(losses, epoch=self.loader.epoch, images=images, data_time=waited, lrs=lrs)

    def _kept(self):
        return f"the last good checkpoint, {self.saved}, is untouched" if self.saved else "nothing was saved yet"

    def _calibration(self):
        """The batches on which averaged weights' statistics are estimated: the first of epoch 1, always the same."""
        with make_loader(dataclasses.replace(self.opt, nThreads=0), "train") as loader:
            for _, batch in zip(range(-(-CALIBRATION_PICTURES // self.opt.batchSize)), loader, strict=False):
                yield batch

    def preview(self) -> None:
        """Show the fixed maps' pictures in output/pics/ and in VisualDL."""
        with self.together("first"):
            if self.maps:
                self._show()

    def _show(self):
        rows = [(one["label"], self.trainer.preview(one).numpy(), one.get("image")) for one in self.maps]
        photos = all(row[2] is not None for row in rows)
        if len({row[0].shape for row in rows}) == 1:
            labels, pictures, reals = zip(*rows, strict=True)
            reals = np.concatenate(reals) if photos else None
            sheet = preview_sheet(np.concatenate(labels), np.concatenate(pictures), reals, self.opt)
        else:
            sheet = grid([[preview_sheet(*row, self.opt)] for row in rows])
        save_image(sheet, self.pics / f"step_{self.trainer.steps:08d}.jpg")
        self.logger.picture("preview", sheet)

    def validate(self) -> None:
        """Measure the quick FID over the validation split, by which the best checkpoint is kept."""
        with self.together("first"):
            if self._extractor is not None:
                self.score = self._measure()
        self.score = group.from_first(self.score)

    def _measure(self):
        from model.metrics.fid import cheap_fid, image_statistics

        size = min(FID_PICTURES, self.opt.max_dataset_size or FID_PICTURES)
        batch = self.opt.batchSize if self.opt.loader_size else 1  # one where pictures' sizes differ
        with make_loader(dataclasses.replace(self.opt, max_dataset_size=size, batchSize=batch), "val") as loader:
            if self._reference is None:
                self._reference = image_statistics((b["image"].numpy() for b in loader), self._extractor)
            pictures = (self.trainer.preview(b).numpy() for b in loader)
            score = cheap_fid(pictures, self._reference, self._extractor)
        self.logger.scalar("metrics/quick_fid", score)
        best = "the first" if self.best is None else f"the best so far {self.best:.2f}"
        self.say(f"step {self.trainer.steps}: quick FID {score:.2f} ({best}; comparable within this run only)")
        return score

    def save_is_due(self) -> bool:
        """Whether the options ask for a checkpoint after this step."""
        every = self.opt.save_latest_freq
        return bool(every and self.trainer.steps % every == 0) or self._is_kept_epoch() or self.score is not None

    def _is_kept_epoch(self):
        return self.epoch_ended and self.finished_epoch % self.opt.save_epoch_freq == 0

    def save(self) -> None:
        """Write a checkpoint of this moment.

        Raises:
            UserError: Weights are not finite, no space, no permission; earlier checkpoints stay as they are.
        """
        with self.together("first"):
            if self.rank == 0:
                self._write()
        self.saved = Path(group.from_first(str(self.saved)))
        self._saved_step, self.score = self.trainer.steps, None

    def _write(self):
        nets = {name: net.state_dict() for name, net in self.trainer.saved_networks().items()}
        arrays = {name: {key: value.numpy() for key, value in state.items()} for name, state in nets.items()}
        wrong = [f"{n}:{k}" for n, state in arrays.items() for k, v in state.items() if not np.isfinite(v).all()]
        if wrong:
            raise UserError(
                f"step {self.trainer.steps}: {len(wrong)} weights are not finite ({', '.join(wrong[:3])}), after the "
                f"pictures {', '.join(self._names)}; {self._kept()}: look at these files, or lower --lr"
            )
        best = self.score is not None and (self.best is None or self.score < self.best)
        self.best = self.score if best else self.best
        state = {
            "trainer": self.trainer.state_dict(),
            "epoch": self.epoch,
            "position": self.position,
            "batch": self.opt.batchSize * self.world,
            "length": len(self.loader),
            "best": self.best,
            "run": self.run,
        }
        self.logger.sync()
        self.saved = checkpoint.save(
            self.root, arrays, state, self.opt, step=self.trainer.steps, epoch=self.epoch - 1, best=best,
            keep_epochs=self.opt.keep_epochs, is_epoch_end=self._is_kept_epoch(),
            info=None if self.score is None else {"fid": self.score},
        )  # fmt: skip

    # End

    def finish(self) -> None:
        """Save what is not saved; say what was done, where it is and how to look at it or go on."""
        seconds, steps = time.perf_counter() - self._begun[0], self.trainer.steps - self._begun[1]
        if self.trainer.steps > self._saved_step:
            self.save()
        how = f"stopped by {self.stopped}" if self.stopped else "done"
        self.say(f"{how}: {steps} steps in {seconds:.0f} s, now at step {self.trainer.steps}; saved in {self.saved}")
        if self.stopped:
            again = "the same command without --fresh" if self.opt.fresh else "the same command"
            self.say(f"go on: {again}")
        look = f"python val.py --checkpoint {self.root}{self._split}"
        self.say(f"look: {self.pics}, {look}, visualdl --logdir {self.opt.log_dir}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loader.close()
        self.logger.close()
        if self._claim is not None:
            self._claim.close()


def _set_aside(root: Path, pics: Path) -> Path:
    """Move the checkpoints and pictures of the run before --fresh to unused folders beside them."""
    target = unused(root)
    target.mkdir()
    for path in [*root.glob("step_*"), *root.glob("*.pdparams"), root / checkpoint.BEST, root / checkpoint.LATEST]:
        if path.exists() or path.is_symlink():
            os.replace(path, target / path.name)
    if pics.is_dir():
        os.replace(pics, unused(pics))
    return target
