"""Batches of examples in the order of an epoch, made by worker processes."""

import contextlib
import functools
import multiprocessing.util
import os
import shutil
import signal
import traceback
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.data.dataset import PhotoMaps
from model.data.workers import begin_worker
from model.errors import UserError

if TYPE_CHECKING:
    import paddle  # imported by Loader only, so that tools that list and read files start fast


class BatchSampler:
    """Index batches of one process, as a function of (seed, epoch), whatever the number of processes.

    Global batch k of an epoch is permutation[k P B : (k + 1) P B] for P processes with batch size B; the process of
    rank r takes its r-th slice of B. So P processes with batch B see together what one process with batch P B sees.
    For training the incomplete last global batch is left out, and iteration goes on with the next epoch without end,
    so that workers are kept and prefetch across epochs. For validation it is one pass in order in which every index
    comes exactly once over all ranks; the last batches may be smaller, and ranks may have different numbers of them.

    Args:
        size: number of examples.
        opt: `batchSize`, `seed`, `serial_batches` are read.
        train: training or validation order.
        epoch, start: where to begin: `start` batches into `epoch` (counted from 1).
        rank, world: this process and the number of processes.
    """

    def __init__(self, size: int, opt, train: bool, epoch: int = 1, start: int = 0, rank: int = 0, world: int = 1):
        self.size, self.train, self.epoch, self.start = size, train, epoch, start
        self.batch, self.rank, self.world = opt.batchSize, rank, world
        self.seed, self.shuffle = opt.seed, train and not opt.serial_batches
        if train and size < self.batch * world:
            raise UserError(
                f"{size} training examples are fewer than one batch of {self.batch * world} "
                f"(batchSize {self.batch}, processes {world}): lower --batchSize"
            )

    def __len__(self) -> int:
        """Batches of a whole epoch for this process."""
        whole, tail = divmod(self.size, self.batch * self.world)
        return whole + int(not self.train and tail > self.rank * self.batch)

    def order(self, epoch: int) -> np.ndarray:
        """The epoch's order of all indices: int64 [size]."""
        if not self.shuffle:
            return np.arange(self.size)
        raw = np.random.Philox(np.random.SeedSequence([self.seed, epoch])).random_raw(self.size)
        return np.argsort(raw, kind="stable")

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, start = self.epoch, self.start
        while True:
            order = self.order(epoch)
            for k in range(start, len(self)):
                first = (k * self.world + self.rank) * self.batch
                yield [(epoch, int(i)) for i in order[first : first + self.batch]]
            if not self.train:
                return
            epoch, start = epoch + 1, 0


def collate(examples: list[dict], opt) -> dict[str, np.ndarray]:
    """Stack examples into a batch and add the pattern tables of the modulation.

    Returns:
        image float32 [N, 3, H, W] and instance int32 [N, H, W] where the examples have them, label [N, H, W] as uint8
        if the ids fit, else int32, index int64 [N], and `semantics.pattern_arrays` unless `opt.modulation` is "dense".

    Raises:
        UserError: the examples' sizes differ.
    """
    sizes = Counter(e["label"].shape for e in examples)
    if len(sizes) > 1:
        shown = ", ".join(f"{e['name']} {e['label'].shape[1]}x{e['label'].shape[0]}" for e in examples[:4])
        raise UserError(
            f"pictures of one batch have different sizes with preprocess_mode {opt.preprocess_mode} "
            f"({shown}): use batchSize 1 or a mode that gives one size, such as resize_and_crop or fixed"
        )
    label = np.stack([e["label"] for e in examples]).astype(np.uint8 if opt.label_nc <= 255 else np.int32)
    batch = {"label": label, "index": np.array([e["index"] for e in examples], np.int64)}
    for key in ("image", "instance"):
        if key in examples[0]:
            batch[key] = np.stack([e[key] for e in examples])
    if opt.modulation != "dense":
        from model.semantics import pattern_arrays

        batch.update(pattern_arrays(label, batch.get("instance"), opt))
    return batch


class _BatchReader:
    """What runs in a DataLoader worker: as a data set it hands keys through, as a collate function it reads the batch.

    An exception must not leave a worker: Paddle raises it in a background thread and the main thread sees only a closed
    queue. So it travels as bytes in the place of the batch, and `Loader` raises it.
    """

    def __init__(self, dataset: PhotoMaps):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        return key

    def __call__(self, keys) -> dict[str, np.ndarray]:
        try:
            return collate([self.dataset[key] for key in keys], self.dataset.opt)
        except UserError as error:
            return {"user_error": np.frombuffer(str(error).encode(), np.uint8)}
        except Exception:
            return {"defect": np.frombuffer(traceback.format_exc().encode(errors="backslashreplace"), np.uint8)}


def _begin_worker(parent: int, worker_id: int) -> None:
    """Set up a worker of the DataLoader."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # goes to the process group: the main process ends the run
    # -10: after the queue has written its last batch, which multiprocessing does at -5
    multiprocessing.util.Finalize(None, _drop_orphans, args=(parent,), exitpriority=-10)
    begin_worker(parent, functools.partial(_drop_orphans, parent))


def _drop_orphans(parent: int) -> None:
    """Remove this worker's batches from shared memory if nobody is left to take them: they would fill it for good."""
    if os.getppid() != parent:
        for batch in Path("/dev/shm").glob(f"paddle_{os.getpid()}_*"):
            batch.unlink(missing_ok=True)


class Loader(contextlib.AbstractContextManager):
    """Batches of one phase, read by worker processes; each `for` loop is one epoch.

    For training the first loop goes from (`epoch`, `start`) to the end of that epoch, and each further loop is the
    next epoch; a loop left early is taken up where it was left. For validation each loop is one whole pass.
    `len(loader)` is the number of batches of a whole epoch; `loader.epoch` and `loader.position` say which batch comes
    next and are what a checkpoint needs. `close()` (or `with`) stops the workers; so does the loader's collection.
    """

    def __init__(self, dataset: PhotoMaps, opt, epoch: int = 1, start: int = 0, rank: int = 0, world: int = 1):
        self.dataset = dataset
        self.train = dataset.phase == "train"
        self.epoch, self.position = epoch, start
        self.workers = opt.nThreads
        self._sampler = functools.partial(BatchSampler, len(dataset), opt, self.train, rank=rank, world=world)
        self._length = len(self._sampler())
        self._stream = None

    def __len__(self) -> int:
        return self._length

    def names(self, batch) -> list[str]:
        """Names, as items have them, of a batch."""
        return self.dataset.names(np.asarray(batch["index"]))

    def __iter__(self) -> Iterator[dict[str, "paddle.Tensor"]]:
        if not self.train:
            self.close()
            self.position = 0
        if self.position >= self._length:
            self.epoch, self.position = self.epoch + 1, 0
        try:
            while self.position < self._length:
                batch = self._next()
                self.position += 1
                yield batch
            if self.train:
                self.epoch, self.position = self.epoch + 1, 0
        finally:
            if not self.train:
                self.close()

    def _next(self) -> dict[str, "paddle.Tensor"]:
        if self._stream is None:
            self._start()
        try:
            batch = next(self._stream)
        except BaseException:
            self.close()
            raise
        for kind, error in (("user_error", UserError), ("defect", RuntimeError)):
            if kind in batch:
                self.close()
                raise error(batch[kind].numpy().tobytes().decode())
        return batch

    def _start(self) -> None:
        import paddle

        reader, has_shared = _BatchReader(self.dataset), os.path.isdir("/dev/shm")
        # A full /dev/shm kills, and containers often give it 64 MB: it must have room for the batches under way.
        roomy = has_shared and shutil.disk_usage("/dev/shm").free >= 512 * 2**20
        loader = paddle.io.DataLoader(
            reader,
            batch_sampler=self._sampler(epoch=self.epoch, start=self.position),
            collate_fn=reader,
            num_workers=self.workers,
            return_list=True,
            use_shared_memory=self.workers > 0 and roomy,
            worker_init_fn=functools.partial(_begin_worker, os.getpid()),
            use_buffer_reader=not paddle.device.get_device().startswith("cpu"),
        )
        state = np.random.get_state()  # the DataLoader draws from it, and a resumed run would draw at another time
        self._stream = iter(loader)
        np.random.set_state(state)
        self._finalizer = weakref.finalize(self, self._stream._try_shutdown_all)

    def close(self) -> None:
        """Stop the workers and drop what they prefetched."""
        if self._stream is not None:
            self._finalizer()
            self._stream = None

    def __exit__(self, *_):
        self.close()


def make_loader(opt, phase: str, **where) -> Loader:
    """The batches of `phase` ("train" or "val"), from `start` batches into `epoch`, for process `rank` of `world`.

    Batches are dicts of Paddle tensors on the current device, as `collate` describes them.

    Raises:
        UserError: files are missing or unpaired; while iterating, a file that cannot be used, by name.
    """
    return Loader(PhotoMaps(opt, phase), opt, **where)
