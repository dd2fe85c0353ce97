"""Several processes on this machine, and what they run: `python tests/distributed_cases.py CASE FOLDER`."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import model  # noqa: F401  sets the threads before Paddle is imported

import numpy as np  # isort: skip
import paddle  # isort: skip
from reference_cases import filled_vgg, training_batch  # isort: skip

from benchmarks.distributed import traffic_per_step  # isort: skip
from model.ops import group  # isort: skip
from model.ops.moments import batch_moments  # isort: skip
from model.options import OPT  # isort: skip
from model.trainer import Trainer  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
BATCH = 4  # pictures of the whole one


# ---- starting processes ----


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def piped(command, rank, ports, cwd=None):
    """Start a command as the process of a rank, one of as many as there are ports, as the launcher does."""
    addresses = [f"127.0.0.1:{port}" for port in ports]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(ports)),
        "PADDLE_LOCAL_RANK": str(rank),
        "PADDLE_LOCAL_SIZE": str(len(ports)),
        "PADDLE_CURRENT_ENDPOINT": addresses[rank],
        "PADDLE_TRAINER_ENDPOINTS": ",".join(addresses),
        "PADDLE_MASTER": addresses[0],
        "PADDLE_DISTRI_BACKEND": "gloo",
    }
    pipe = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen(command, cwd=cwd, env=environment, **pipe)


def start(world, case, *arguments):
    """Start a case in `world` processes, which form a group."""
    ports = [free_port() for _ in range(world)]
    command = [sys.executable, __file__, case, *map(str, arguments)]
    return [piped(command, rank, ports) for rank in range(world)]


def finish(processes, status=0):
    """What each process printed; all must end with this status."""
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == status, output
    return outputs


# ---- the same training in any number of processes ----


def options(**changes):
    """A tiny network with all that processes must exchange: batch norms, styles, VGG, spectral norms."""
    values = dict(
        ngf=2, ndf=4, label_nc=6, crop_size=32, load_size=32, z_dim=4, n_layers_D=2, nThreads=0, gan_mode="ls",
        norm_D="spectralsyncbatch", norm_E="spectralsyncbatch", init_type="kaiming",
    )  # fmt: skip
    return OPT(**{**values, **changes})


def own_part(batch):
    """This process's pictures of a whole batch."""
    rank, world = group.rank(), group.world()
    size = len(batch["label"]) // world
    return {key: np.ascontiguousarray(value[rank * size : (rank + 1) * size]) for key, value in batch.items()}


def train(opt, steps):
    """Losses, gradients and state of some steps: {name: array}, and the trainer."""
    trainer = Trainer(opt, None if opt.no_vgg_loss else filled_vgg())
    found = {}

    def note(kind):
        for net, layer in trainer.networks().items():
            found.update({f"{kind} {net} {key}": value.numpy().copy() for key, value in layer.state_dict().items()})

    def watch(optimizer, *nets):
        move = optimizer.step

        def watched():
            for net in nets:
                for key, p in trainer.networks()[net].named_parameters():
                    found[f"gradient {trainer.steps} {net} {key}"] = p.grad.numpy()
            move()

        optimizer.step = watched

    trainer.sum_G.ready = trainer.sum_D.ready = None  # gradients wait for the step

    def hurry(gradients):
        finish = gradients.finish

        def hurried():
            assert gradients.next == len(gradients.buckets), "gradients were not sent during the backward pass"
            finish()

        gradients.finish = hurried

    hurry(trainer.sum_G)
    hurry(trainer.sum_D)
    watch(trainer.optimizer_G, "n_g", "n_e")
    watch(trainer.optimizer_D, "n_d")
    note("start")
    rows = [trainer.step(own_part(training_batch(seed, opt, BATCH))) for seed in range(steps)]
    found["losses"] = np.array([list(row.values()) for row in rows])
    note("end")
    return found, trainer


def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def moments():
    """Moments over all processes and their gradients against the closed form, in float64, parts of unequal size."""
    rank, world = group.rank(), group.world()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * world + 1, 3, 4, 5)) * 3 + 50
    weights = rng.standard_normal((world, 2, 3))  # of mean and variance in each process's loss
    edges = [0, *(2 * i + 1 for i in range(1, world)), len(x)]
    own = slice(edges[rank], edges[rank + 1])
    part = paddle.to_tensor(x[own], stop_gradient=False)
    mean, var, count = batch_moments(part, sync=True)
    (mean * paddle.to_tensor(weights[rank, 0]) + var * paddle.to_tensor(weights[rank, 1])).sum().backward()
    n = x.size // 3
    total = weights.sum(0)[:, None, :, None, None]
    center = x - x.mean((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(mean.numpy(), x.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(var.numpy(), x.var((0, 2, 3)), rtol=1e-11)
    np.testing.assert_allclose(part.grad.numpy(), ((total[0] + 2 * total[1] * center) / n)[own], rtol=1e-9, atol=1e-14)
    assert float(count) == n


def messages():
    """What processes tell each other."""
    rank, world = group.rank(), group.world()
    assert group.texts("") == [""] * world
    assert group.texts("\u00e4" * rank) == ["\u00e4" * r for r in range(world)]
    value = {"a": [np.arange(6, dtype=np.int16).reshape(2, 3), np.float32(2)], 3: ("x", None, np.zeros((0, 2)))}
    got = group.from_first(value if rank == 0 else "another")
    assert got[3][:2] == ("x", None) and got[3][2].shape == (0, 2) and got["a"][1] == 2
    np.testing.assert_array_equal(got["a"][0], value["a"][0])
    assert got["a"][0].dtype == np.int16
    tensor = paddle.full([3], float(rank))
    group.copy_from_first([tensor])
    assert tensor.tolist() == [0, 0, 0]


def counted_train(opt, steps):
    """`train`, with the bytes and messages that it sent compared with those foretold."""
    group.payload.clear()
    group.calls.clear()
    found, trainer = train(opt, steps)
    counted = {kind: (size, group.calls[kind]) for kind, size in group.payload.items()}
    traffic = traffic_per_step(trainer)
    expected = {kind: (steps * size, steps * count) for kind, (size, count) in traffic.items()}
    assert counted == expected, (counted, expected)
    return found


def traffic(folder):
    """What is sent, with the options that change it."""
    for changes in (
        dict(kernels="blocked", recompute=True), dict(kernels="plain", recompute=True),
        dict(kernels="blocked", accumulate=2), dict(kernels="plain", reuse_fake=True),
    ):  # fmt: skip
        counted_train(options(no_vgg_loss=True, **changes), 1)


def train_form(form, run=train):
    """`run` in one of the two forms that are compared between numbers of processes.

    In float64 some steps. With the blocked kernels, which are of float32 alone, several batches at one set of
    weights: rounding moves a leaky ReLU's input over zero now and then, in a batch or two, but a fault is in all. VGG
    has most of these inputs, in which AVX-512 rounds batches of two and of four apart, so that it counts for less.
    """
    if form == "blocked":
        return run(options(kernels="blocked", lr=1e-12, lambda_vgg=0.1), 7)
    paddle.set_default_dtype("float64")
    try:
        return run(options(), 3)
    finally:
        paddle.set_default_dtype("float32")


def equality(folder, *forms):
    """Train in these forms; process 0 leaves the numbers, each prints what all must have in common."""
    moments()
    messages()
    for form in forms:
        found = train_form(form, counted_train)
        print("same", form, digest(found[key] for key in sorted(found)))
        if group.rank() == 0:
            np.savez(Path(folder) / f"{form}.npz", **found)


CASES = {function.__name__: function for function in (equality, traffic)}

if __name__ == "__main__":
    group.join("cpu")
    paddle.set_device("cpu")
    CASES[sys.argv[1]](*sys.argv[2:])
