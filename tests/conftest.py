"""What tests share: threads and import order as the program has them, and a tiny configuration."""

import dataclasses
import importlib
import os
import signal
import time

import model  # noqa: F401  sets the threads before Paddle is imported

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import paddle  # noqa: E402
import pytest  # noqa: E402

from model.options import OPT  # noqa: E402

LAST_START = float(os.environ.get("TESTS_LAST_START", "inf"))  # seconds since 1970, after which no test begins

# A shell that starts the tests in the background lets them ignore Ctrl-C, and what they start to be interrupted, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    if time.time() > LAST_START:
        pytest.skip("no time left")


@pytest.fixture(params=["plain", "cpu"])
def through(request):
    """through(layer, x, ...): a layer's result on an array or tensor [N,C,H,W], on each backend; a tensor [N,C,H,W]."""
    Map = importlib.import_module(f"model.ops.{request.param}").Map

    def call(layer, x, *more):
        return layer(Map.enter(x if isinstance(x, paddle.Tensor) else paddle.to_tensor(x)), *more).leave()

    return call


@pytest.fixture
def float64():
    """The test runs in float64, as after `paddle.set_default_dtype("float64")`."""
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype("float32")


@pytest.fixture
def tiny_opt():
    """Options of a network that runs in a fraction of a second: 64x64, 6 classes + unknown, instances."""
    return OPT(ngf=4, ndf=4, label_nc=6, crop_size=64, load_size=64, use_vae=False, no_vgg_loss=True, nThreads=0)


@pytest.fixture
def opt(tiny_opt):
    """Options of a small training with styles, for whole steps; some files have others."""
    return dataclasses.replace(tiny_opt, ngf=2, crop_size=32, load_size=32, z_dim=4, use_vae=True)


@pytest.fixture
def main(capsys):
    """main(program, *words): what a program's main prints, run in this process, which is quicker."""

    def run(program, *words):
        capsys.readouterr()
        assert program.main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    return run
