"""The style encoder."""

import dataclasses

import numpy as np
import paddle
import pytest
from common import ROUNDING, close
from reference_cases import PREFIX, evaluating, fill

from model.encoder import ConvEncoder, define_E


def photo(n, height, width, seed=0):
    small = np.random.default_rng(seed).uniform(-1, 1, (n, 3, 8, 8)).astype("float32")
    return paddle.nn.functional.interpolate(paddle.to_tensor(small), size=[height, width], mode="bilinear")


@pytest.fixture
def encoder():
    return evaluating(fill(ConvEncoder(ngf=2, z_dim=5), PREFIX["E"]))


@pytest.mark.parametrize("crop_size", [32, 64, 128])
def test_small_crops_work(tiny_opt, crop_size):
    net = define_E(dataclasses.replace(tiny_opt, crop_size=crop_size, use_vae=True, z_dim=7))
    mu, logvar = net(photo(2, crop_size, crop_size))
    assert mu.shape == logvar.shape == [2, 7]
    assert bool(paddle.isfinite(mu).all()) and bool(paddle.isfinite(logvar).all())


@pytest.mark.parametrize("size", [(256, 256), (512, 512), (100, 300)])
def test_any_size_works(encoder, size):
    assert [t.shape for t in encoder(photo(1, *size))] == [[1, 5], [1, 5]]


def test_images_are_resized_to_256(encoder):
    image = photo(1, 64, 96)
    large = paddle.nn.functional.interpolate(image, size=[256, 256], mode="bilinear")
    for a, b in zip(encoder(image), encoder(large), strict=True):
        close(a, b, ROUNDING)


def test_the_linear_heads_read_all_of_the_last_map():
    net = ConvEncoder(ngf=4, z_dim=6)
    shapes = {name: list(p.shape) for name, p in net.named_parameters()}
    assert shapes["fc_mu.weight"] == shapes["fc_var.weight"] == [8 * 4 * 16, 6]
    widths = [shapes[f"layer{i}.0.weight_orig"] for i in range(1, 7)]
    assert widths == [[4, 3, 3, 3], [8, 4, 3, 3], [16, 8, 3, 3], [32, 16, 3, 3], [32, 32, 3, 3], [32, 32, 3, 3]]


def test_images_of_a_batch_do_not_see_each_other(encoder):
    image = photo(3, 64, 64)
    whole = encoder(image)
    for i in range(3):
        for a, b in zip(encoder(image[i : i + 1]), whole, strict=True):
            close(a.numpy()[0], b.numpy()[i], ROUNDING)
