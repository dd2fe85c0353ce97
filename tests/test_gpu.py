"""What a GPU computes, against the CPU's numbers; most tests run on the CPU, too, so that they are known to work.

On a machine with a GPU: NVIDIA_TF32_OVERRIDE=0 CUDA_VISIBLE_DEVICES=0 python -m pytest -m gpu -n 0
"""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import paddle
import pytest
from common import GRADIENT, close

from model.generator import define_G
from model.semantics import Semantics
from model.trainer import Trainer
from model.weights.made_up import made_up_weights

GPUS = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="no CUDA device")]


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=ON_GPU)])
def device(request):
    """The device that is tested, in use while the test runs."""
    before = paddle.get_device()
    paddle.set_device(request.param)
    yield request.param
    paddle.set_device(before)


@pytest.fixture
def opt(tiny_opt):
    return dataclasses.replace(tiny_opt, use_vae=True, z_dim=8, init_variance=0.5, kernels="plain")


def batch_of(opt, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, opt.label_nc + 1, (2, 8, 8)).repeat(8, 1).repeat(8, 2)
    return {"label": label, "instance": label // 2, "image": rng.uniform(-1, 1, (2, 3, 64, 64)).astype("float32")}


def steps(opt, count=2):
    """A trainer after some steps, and the losses of each."""
    trainer = Trainer(opt)
    return trainer, [list(trainer.step(batch_of(opt, seed)).values()) for seed in range(count)]


def near(got, want):
    """Assert that two devices' float32 differs by no more than a share of the greatest value."""
    close(got, want, GRADIENT * max(1, np.abs(want).max()))


def test_pictures_are_those_of_the_cpu(device, opt):
    def picture(kernels):
        net = made_up_weights(define_G(dataclasses.replace(opt, kernels=kernels)), "G")
        net.eval()
        maps = Semantics(**{k: v for k, v in batch_of(opt).items() if k != "image"}, opt=opt)
        with paddle.no_grad():
            return net(maps, paddle.ones([2, opt.z_dim])).numpy()

    got = picture("plain")
    paddle.set_device("cpu")
    near(got, picture("auto"))


def test_losses_are_those_of_the_cpu(device, opt):
    _, got = steps(opt)
    paddle.set_device("cpu")
    near(got, steps(dataclasses.replace(opt, kernels="auto"))[1])


@pytest.mark.parametrize("form", ["sorted", "dense"])
def test_the_forms_of_the_modulation_agree(device, opt, form):
    near(steps(dataclasses.replace(opt, modulation=form))[1], steps(opt)[1])


def test_a_resumed_run_takes_the_same_steps(device, opt):
    whole, losses = steps(opt, 3)
    first, _ = steps(opt, 2)
    again = Trainer(dataclasses.replace(opt, seed=opt.seed))
    for name, net in again.networks().items():
        net.set_state_dict(first.networks()[name].state_dict())
    again.load_state_dict(first.state_dict(), "memory")
    got = list(again.step(batch_of(opt, 2)).values())
    near(got, losses[2])
    for name, net in again.networks().items():
        for key, value in net.state_dict().items():
            near(value.numpy(), whole.networks()[name].state_dict()[key].numpy())


@pytest.mark.gpu
@pytest.mark.skipif(not GPUS, reason="no CUDA device")
def test_mixed_precision_learns_and_stays_finite(opt):
    paddle.set_device("gpu")
    trainer, losses = steps(dataclasses.replace(opt, amp=True), 5)
    assert np.isfinite(losses).all() and trainer.scaler_G.state_dict()["scale"] > 0
    near(np.array(losses[0]) / 100, np.array(steps(opt, 1)[1][0]) / 100)  # float16's own rounding


@pytest.mark.gpu
@pytest.mark.skipif(not GPUS, reason="no CUDA device")
def test_memory_does_not_grow(opt):
    paddle.set_device("gpu")
    trainer, _ = steps(opt, 3)
    before = paddle.device.cuda.memory_allocated()
    for seed in range(20):
        trainer.step(batch_of(opt, seed))
    assert paddle.device.cuda.memory_allocated() <= before * 1.05


@pytest.mark.gpu
@pytest.mark.skipif(GPUS < 2, reason="fewer than two CUDA devices")
def test_two_gpus_train_over_nccl(tmp_path):
    command = "-m paddle.distributed.launch --nproc_per_node 2 train.py --preset sample --batchSize 1 --max_steps 3"
    places = [f"--{name}={tmp_path / name}" for name in ("dataroot", "output", "log_dir")]
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    subprocess.run([sys.executable, *command.split(), *places], check=True, timeout=900, env=environment)
    assert np.isfinite(np.load(tmp_path / "log_dir" / "log.npy")).all()
