"""Residual blocks, conv + norm pairs, names of norms, initial weights."""

import math

import numpy as np
import paddle
import pytest
from common import ROUNDING, close, refuses
from paddle import nn
from reference_cases import entry, evaluating, training

from model.architecture import SPADEResnetBlock, conv_norm, initialize
from model.convolution import Conv2D
from model.normalization import BatchNorm
from model.options import OPT
from model.semantics import Semantics


def semantics(n=1, size=8):
    label = np.random.default_rng(0).integers(0, 4, (n, size, size))
    return Semantics(label, label, OPT(label_nc=4, crop_size=64, contain_dontcare_label=False))


def filled(net):
    for name, p in net.named_parameters():
        p.set_value(entry(name, p.shape))
    return net


def drawn(*shape):
    return paddle.to_tensor(np.random.default_rng(1).standard_normal(shape).astype("float32"))


# ---- the block ----


def test_block_keeps_its_input_when_its_last_convolution_is_zero(through):
    block = evaluating(filled(SPADEResnetBlock(4, 4, "spadebatch3x3", 5)))
    block.conv_1.weight.set_value(paddle.zeros_like(block.conv_1.weight))
    block.conv_1.bias.set_value(paddle.full([4], 0.5))
    x = drawn(1, 4, 8, 8)
    close(through(block, x, semantics()), x.numpy() + 0.5, ROUNDING)


def test_shortcut_is_learned_when_the_width_changes_and_has_no_activation(through):
    block = evaluating(filled(SPADEResnetBlock(4, 2, "spadeinstance3x3", 5)))
    block.conv_1.weight.set_value(paddle.zeros_like(block.conv_1.weight))
    block.conv_1.bias.set_value(paddle.zeros_like(block.conv_1.bias))
    x, sem = drawn(1, 4, 8, 8), semantics()
    want = np.einsum("oc,nchw->nohw", block.conv_s.weight.numpy()[:, :, 0, 0], through(block.norm_s, x, sem).numpy())
    close(through(block, x, sem), want, ROUNDING)


# ---- norms by name ----


@pytest.mark.parametrize(
    "norm, keys",
    [
        ("spectralinstance", {"0.weight_orig", "0.weight_u", "0.weight_v"}),
        ("instance", {"0.weight"}),
        ("none", {"weight", "bias"}),
        ("spectralnone", {"weight_orig", "weight_u", "weight_v", "bias"}),
        ("batch", {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"}),
    ],
)
def test_conv_norm_has_the_released_names(norm, keys):
    assert set(conv_norm(2, 3, 3, 1, 1, norm).state_dict()) == keys
    if norm == "batch":
        assert set(conv_norm(2, 3, 3, 1, 1, "syncbatch").state_dict()) == keys


def test_unknown_conv_norm_is_refused():
    refuses("norm 'layer' is unknown", conv_norm, 2, 3, 3, 1, 1, "layer")


def test_conv_norm_normalises(through):
    x = drawn(2, 2, 6, 6)
    out = through(training(conv_norm(2, 3, 3, 1, 1, "spectralinstance")), x).numpy()
    assert np.abs(out.mean((2, 3))).max() < ROUNDING
    np.testing.assert_allclose(out.var((2, 3)), 1, atol=1e-2)


# ---- initial weights ----


class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = Conv2D(32, 64, 3)
        self.spectral = Conv2D(64, 32, 3, spectral=True)
        self.linear = nn.Linear(300, 100)
        self.norm = BatchNorm(4000, affine=True)


FANS = {"conv": (288, 576), "spectral": (576, 288), "linear": (300, 100)}  # (in, out)


def start(init_type, gain=0.02):
    np.random.seed(3)
    net = initialize(Net(), init_type, gain)
    return net, {"conv": net.conv.weight, "spectral": net.spectral.weight_orig, "linear": net.linear.weight}


@pytest.mark.parametrize(
    "init_type, deviation",
    [
        ("normal", lambda fan_in, fan_out: 0.02),
        ("xavier", lambda fan_in, fan_out: 0.02 * math.sqrt(2 / (fan_in + fan_out))),
        ("xavier_uniform", lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out))),
        ("kaiming", lambda fan_in, fan_out: math.sqrt(2 / fan_in)),
        ("none", lambda fan_in, fan_out: 1 / math.sqrt(3 * fan_in)),
    ],
)
def test_moments_of_the_initial_weights(init_type, deviation):
    for name, weight in start(init_type)[1].items():
        weight, want = weight.numpy().astype(np.float64), deviation(*FANS[name])
        assert weight.std() == pytest.approx(want, rel=0.03), name
        assert abs(weight.mean()) < 0.04 * want, name
        kurtosis = ((weight / weight.std()) ** 4).mean()
        assert kurtosis == pytest.approx(1.8 if init_type in ("xavier_uniform", "none") else 3.0, rel=0.06), name


def test_gain_scales_xavier():
    small, large = (start("xavier", gain)[1] for gain in (0.02, 0.2))
    for name in small:
        close(large[name], 10 * small[name], 0, ROUNDING)


def test_orthogonal_weights_are_orthogonal():
    for name, weight in start("orthogonal", 0.5)[1].items():
        weight = weight.numpy().astype(np.float64)
        matrix = weight.T if name == "linear" else weight.reshape(len(weight), -1)
        close(matrix @ matrix.T, 0.25 * np.eye(len(matrix)), ROUNDING, what=name)
    tall = initialize(Conv2D(1, 20, 2), "orthogonal", 1.0).weight.numpy().reshape(20, 4).astype(np.float64)
    close(tall.T @ tall, np.eye(4), ROUNDING)


@pytest.mark.parametrize("init_type", ["xavier", "normal", "kaiming", "orthogonal", "none"])
def test_biases_start_at_zero_and_affine_norms_near_one(init_type):
    net, _ = start(init_type)
    for bias in (net.conv.bias, net.spectral.bias, net.linear.bias, net.norm.bias):
        assert not bias.numpy().any()
    scale = net.norm.weight.numpy()
    assert scale.mean() == pytest.approx(1, abs=2e-3) and scale.std() == pytest.approx(0.02, rel=0.05)


def test_unknown_init_type_is_refused():
    refuses("init_type 'glorot' is unknown", initialize, Net(), "glorot")
