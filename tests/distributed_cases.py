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

from model import distributed  # isort: skip
from model.options import OPT  # isort: skip
from model.trainer import Trainer  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
BATCH, STEPS = 4, 3  # pictures of the whole batch; so many steps
KERNELS = ("blocked", "plain")


# ---- starting processes ----


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(rank, world, ports):
    """What the launcher tells a process."""
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(world),
        "PADDLE_LOCAL_RANK": str(rank),
        "PADDLE_LOCAL_SIZE": str(world),
        "PADDLE_CURRENT_ENDPOINT": addresses[rank],
        "PADDLE_TRAINER_ENDPOINTS": ",".join(addresses),
        "PADDLE_MASTER": addresses[0],
        "PADDLE_DISTRI_BACKEND": "gloo",
    }


def start(world, case, *arguments):
    """Start a case in `world` processes, which form a group."""
    ports = [free_port() for _ in range(world)]
    command = [sys.executable, __file__, case, *map(str, arguments)]
    return [
        subprocess.Popen(
            command, env=environment(rank, world, ports), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for rank in range(world)
    ]


def finish(processes, seconds=200):
    """What each process printed; all must succeed."""
    outputs = [process.communicate(timeout=seconds)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
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
    rank, world = distributed.rank(), distributed.world()
    size = len(batch["label"]) // world
    return {key: np.ascontiguousarray(value[rank * size : (rank + 1) * size]) for key, value in batch.items()}


def train(opt, steps=STEPS):
    """Losses, gradients and state of some steps: {name: array}, and the trainer."""
    trainer = Trainer(opt, filled_vgg())
    found = {}

    def watch(optimizer, nets, name):
        move = optimizer.step

        def watched():
            for net in nets:
                for key, p in trainer.networks()[net].named_parameters():
                    found[f"gradient {trainer.steps} {net} {key}"] = p.grad.numpy()
            move()

        optimizer.step = watched

    watch(trainer.optimizer_G, ["n_g", "n_e"], "G")
    watch(trainer.optimizer_D, ["n_d"], "D")
    rows = [trainer.step(own_part(training_batch(seed, opt, BATCH))) for seed in range(steps)]
    found["losses"] = np.array([list(row.values()) for row in rows])
    for net, layer in trainer.networks().items():
        found |= {f"state {net} {key}": value.numpy() for key, value in layer.state_dict().items()}
    return found, trainer


def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def equality(folder):
    """Train in each form of the kernels; process 0 leaves the numbers, each prints what all must have in common."""
    for kernels in KERNELS:
        distributed.payload.clear()
        found, trainer = train(options(kernels=kernels))
        counted = dict(distributed.payload)
        print(kernels, digest(found[key] for key in sorted(found)))
        if distributed.rank() == 0:
            np.savez(Path(folder) / f"{kernels}.npz", **found)
        expected = {kind: STEPS * size for kind, size in distributed.bytes_per_step(trainer).items()}
        assert counted == expected, (counted, expected)


CASES = {function.__name__: function for function in (equality,)}

if __name__ == "__main__":
    distributed.join("cpu")
    paddle.set_device("cpu")
    CASES[sys.argv[1]](*sys.argv[2:])
