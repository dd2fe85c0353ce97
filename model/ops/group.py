"""The process group: starting it, sums over all processes, values of the first one for all.

`paddle.distributed.launch` starts the processes and `join` makes them a group, over NCCL on GPUs and gloo on CPUs.
Without a group there is one process, of rank 0, and nothing is sent.
"""

import contextlib
import itertools
import os
import pickle
import signal
import time
from collections import Counter

import numpy as np
import paddle

from model.errors import UserError

PATIENCE = 900  # seconds that processes wait for each other where each has work of its own
_meetings = itertools.count()

_lost = []  # LostErrors that were raised

payload, calls = Counter(), Counter()  # bytes that this process has handed to all-reduces, and these, by what they were


class LostError(UserError):
    """The connection to another process broke."""

    status = 75  # a failure that may not occur again (EX_TEMPFAIL of sysexits.h)


def world():
    """Number of processes of the group; 1 without one."""
    return paddle.distributed.get_world_size() if paddle.distributed.is_initialized() else 1


def rank():
    """This process's place in the group, from 0."""
    return paddle.distributed.get_rank() if paddle.distributed.is_initialized() else 0


def join(device="auto"):
    """Make a group of the processes that `paddle.distributed.launch` started; nothing where it started one alone.

    Args:
        device: the option of that name; `cpu` makes a group over gloo on a machine with GPUs, too.

    Raises:
        UserError: The device is one for all processes, or the others cannot be reached.
    """
    count = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if count < 2 or paddle.distributed.is_initialized():
        return
    if ":" in device:
        raise UserError(
            f"device {device} is one device for {count} processes: choose them with the launcher's --devices, "
            "and give --device gpu or auto"
        )
    if device == "cpu":
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
    with reporting_loss():
        paddle.distributed.init_parallel_env()


def launch_advice():
    """What to type, if the launcher was called in a form that starts a single process on a CPU; else ''."""
    launched = "PADDLE_TRAINER_ID" in os.environ and os.environ.get("PADDLE_TRAINERS_NUM", "1") == "1"
    if not launched or paddle.get_device() != "cpu":
        return ""
    return (
        "paddle.distributed.launch started a single process, as it does on CPUs unless it is told their number: "
        "python -m paddle.distributed.launch --nproc_per_node 2 train.py ..."
    )


@contextlib.contextmanager
def reporting_loss():
    """Makes a `LostError` of what Paddle raises in a call that talks to another process.

    Its class tells nothing: a connection that breaks is a RuntimeError, an OSError, a ValueError and others, by the
    backend and Paddle's version.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = next(
            (line.strip() for line in reversed(lines) if "onnection" in line or "imed out" in line), lines[-1]
        )
        lost = LostError(
            f"process {rank()} lost the connection to another of the {world()} processes ({reason}); that one's log, "
            "workerlog.N in the launcher's --log_dir, says why it ended"
        )
        _lost.append(lost)
        raise lost from None


@contextlib.contextmanager
def unwrapped():
    """Raises a `LostError` as such, where Paddle's backward pass has wrapped it in an error and words of its own."""
    try:
        yield
    except UserError:
        raise
    except Exception:
        if _lost:
            raise _lost[-1] from None
        raise


@contextlib.contextmanager
def _undisturbed():
    """Hold signals to stop back: one that interrupts Paddle 2.6.2's store while it reads breaks the connection."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait(everyone=False):
    """Let the others wait for process 0, however long it works alone; with `everyone`, all for all, up to `PATIENCE`.

    gloo's own operations give up after 30 seconds.

    Raises:
        LostError: Process 0 is gone, or not all came.
    """
    if world() == 1:
        return
    name, end = f"meeting {next(_meetings)}", time.monotonic() + PATIENCE
    with reporting_loss():
        store = paddle.base.core.create_or_get_global_tcp_store()

        def add(count):
            with _undisturbed():
                return store.add(name, count)

        if everyone or rank() == 0:
            add(1)
        while add(0) < (world() if everyone else 1):
            if everyone and time.monotonic() > end:
                raise RuntimeError(f"not all processes came within {PATIENCE} s")
            time.sleep(0.05)


def all_reduce(tensor, kind, wait=True):
    """Sum a contiguous tensor over all processes, in place.

    Args:
        kind: what `payload` and `calls` count it as.
        wait: whether the sum is complete at return; else the returned task's `wait` completes it.

    Raises:
        LostError: Another process is gone.
    """
    payload[kind] += tensor.size * tensor.element_size()
    calls[kind] += 1
    with reporting_loss():
        return paddle.distributed.all_reduce(tensor, sync_op=wait)


def _received(array):
    """The NumPy array that process 0 gives, of the same shape and type everywhere."""
    tensor = paddle.to_tensor(array)
    with reporting_loss():
        paddle.distributed.broadcast(tensor, src=0)
        return tensor.numpy()


@paddle.no_grad()
def copy_from_first(tensors):
    """Give tensors the values that they have on process 0, in place; the same shapes in the same order everywhere."""
    if world() > 1:
        with reporting_loss():
            for tensor in tensors:
                paddle.distributed.broadcast(tensor, src=0)


def from_first(value):
    """The value that process 0 gives, on every process; what the others give is ignored.

    Args:
        value: numbers, text and NumPy arrays in dictionaries, lists and tuples. Arrays travel one by one.
    """
    if world() == 1:
        return value
    is_first, buffers, parts = rank() == 0, [], []
    if is_first:
        skeleton = pickle.dumps(value, 5, buffer_callback=buffers.append)  # the arrays' numbers stay outside
        parts = [skeleton, *(buffer.raw() for buffer in buffers)]
    count = int(_received(np.array([len(parts)], np.int64))[0])
    sizes = _received(np.array([len(part) for part in parts] if is_first else [0] * count, np.int64))
    received = []
    for place, size in enumerate(sizes):
        own = np.frombuffer(parts[place], np.uint8) if is_first else np.zeros(size, np.uint8)
        received.append(_received(own) if size else b"")
    return pickle.loads(received[0], buffers=received[1:])  # from the job's own first process


def texts(text):
    """The text of every process, in the order of ranks; one short message when all are empty."""
    if world() == 1:
        return [text]
    data = np.frombuffer(text.encode(errors="backslashreplace"), np.uint8)
    sizes = np.zeros(world(), np.int64)
    sizes[rank()] = len(data)
    sizes = summed(sizes)
    if not sizes.any():
        return [""] * world()
    table = np.zeros((world(), sizes.max()), np.int32)
    table[rank(), : len(data)] = data
    return [bytes(row[:n].tolist()).decode() for row, n in zip(summed(table), sizes, strict=True)]


def summed(array, kind="messages"):
    """A NumPy array (int32, int64, float32, float64) summed over all processes; `payload` counts it as `kind`."""
    if world() == 1:
        return array
    tensor = paddle.to_tensor(array)
    all_reduce(tensor, kind)
    with reporting_loss():  # NCCL tells of a loss only where the sum is read
        return tensor.numpy()
