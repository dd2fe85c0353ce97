"""VGG19's features."""

import numpy as np
import paddle
import pytest
from common import GRADIENT, ROUNDING, close
from reference_cases import entry, filled_vgg, vgg_shapes

from model.vgg import VGG19
from model.weights import official_names


@pytest.fixture(scope="module")
def vgg():
    return filled_vgg()


def image(*shape):
    return paddle.to_tensor(np.random.default_rng(0).uniform(-1, 1, shape).astype("float32"))


def test_names_and_shapes_are_torchvisions(vgg):
    assert {k: tuple(v.shape) for k, v in vgg.state_dict().items()} == vgg_shapes()
    assert set(official_names(vgg).values()) == set(vgg_shapes())
    assert sum(v.size for v in vgg.parameters()) == 12_944_960 and "features.28.weight" in vgg.state_dict()


def test_features_are_five_and_not_negative(vgg):
    features = vgg(image(2, 3, 32, 48))
    assert [tuple(f.shape) for f in features] == [
        (2, 64, 32, 48), (2, 128, 16, 24), (2, 256, 8, 12), (2, 512, 4, 6), (2, 512, 2, 3),
    ]  # fmt: skip
    assert all(float(f.min()) == 0 for f in features)


def test_first_feature_by_hand(vgg):
    # No ImageNet mean or deviation comes between, as in the released code.
    x = image(1, 3, 16, 16)
    w, b = (entry(f"vgg.features.0.{k}", s) for k, s in (("weight", (64, 3, 3, 3)), ("bias", (64,))))
    centre = (w * x.numpy()[0, :, 4:7, 7:10]).sum((1, 2, 3)) + b
    close(vgg(x)[0].numpy()[0, :, 5, 8], np.maximum(centre, 0), ROUNDING)


def test_later_features_follow_from_earlier_ones_by_hand(vgg):
    first, second = (f.numpy()[0].astype(np.float64) for f in vgg(image(1, 3, 16, 16))[:2])
    names = [f"features.{i}" for i in (2, 5)]
    weights = [entry(f"vgg.{n}.weight", vgg_shapes()[f"{n}.weight"]) for n in names]
    biases = [entry(f"vgg.{n}.bias", vgg_shapes()[f"{n}.bias"]) for n in names]

    def layer(x, weight, bias):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return np.maximum(np.tensordot(weight, windows, ([1, 2, 3], [0, 3, 4])) + bias.reshape(-1, 1, 1), 0)

    x = layer(first, weights[0], biases[0])
    pooled = x.reshape(64, 8, 2, 8, 2).max((2, 4))
    close(second, layer(pooled, weights[1], biases[1]), GRADIENT)


def test_only_the_image_gets_a_gradient(vgg):
    x = image(1, 3, 16, 16)
    x.stop_gradient = False
    sum(f.mean() for f in vgg(x)).backward()
    assert float(x.grad.abs().sum()) > 0
    assert all(p.stop_gradient and p.grad is None for p in vgg.parameters())


def test_it_starts_in_evaluation_mode():
    assert not VGG19().training
