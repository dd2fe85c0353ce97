"""The parameter-free norms and SPADE in closed form."""

import numpy as np
import paddle
import pytest
from common import GRADIENT, ROUNDING, close
from reference_cases import entry, evaluating, training

from model.normalization import SPADE, BatchNorm, InstanceNorm
from model.options import OPT
from model.semantics import Semantics

EPSILON = 1e-5


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32") * 2 + 3


def normalised(x, axes):
    mean, var = x.mean(axes, keepdims=True, dtype=np.float64), x.var(axes, keepdims=True, dtype=np.float64)
    return (x - mean) / np.sqrt(var + EPSILON)


def test_instance_norm_by_hand(through):
    x = drawn(2, 3, 4, 5)
    norm = InstanceNorm()
    for mode in ("train", "eval"):
        getattr(norm, mode)()
        close(through(norm, x), normalised(x, (2, 3)), ROUNDING)
    assert not norm.state_dict()


def test_batch_norm_by_hand(through):
    x = drawn(2, 3, 4, 5)
    norm = training(BatchNorm(3))
    close(through(norm, x), normalised(x, (0, 2, 3)), ROUNDING)


def test_running_variance_is_unbiased(through):
    x = drawn(1, 3, 2, 2)
    norm = training(BatchNorm(3))
    through(norm, x)
    close(norm.running_mean, 0.1 * x.mean((0, 2, 3)), 0, ROUNDING)
    close(norm.running_var, 0.9 + 0.1 * x.var((0, 2, 3), ddof=1), 0, ROUNDING)
    through(norm, x)
    close(norm.running_var, 0.81 + 0.19 * x.var((0, 2, 3), ddof=1), 0, ROUNDING)
    assert int(norm.num_batches_tracked) == 2


def test_evaluation_uses_and_keeps_the_running_statistics(through):
    norm = evaluating(BatchNorm(2))
    norm.running_mean.set_value(np.array([1.0, -2.0], "float32"))
    norm.running_var.set_value(np.array([4.0, 0.25], "float32"))
    x = drawn(2, 2, 3, 3)
    want = (x - np.array([1, -2]).reshape(1, 2, 1, 1)) / np.sqrt(np.array([4, 0.25]) + EPSILON).reshape(1, 2, 1, 1)
    close(through(norm, x), want, ROUNDING, GRADIENT)
    assert norm.running_mean.numpy().tolist() == [1, -2] and int(norm.num_batches_tracked) == 0


def test_affine_batch_norm(through):
    norm = training(BatchNorm(2, affine=True))
    norm.weight.set_value(np.array([2.0, -1.0], "float32"))
    norm.bias.set_value(np.array([0.5, 3.0], "float32"))
    x = drawn(2, 2, 3, 3)
    want = normalised(x, (0, 2, 3)) * np.array([2, -1]).reshape(1, 2, 1, 1) + np.array([0.5, 3]).reshape(1, 2, 1, 1)
    close(through(norm, x), want, GRADIENT)


def test_keys_do_not_depend_on_sync():
    assert list(BatchNorm(2, sync=True).state_dict()) == list(BatchNorm(2).state_dict())
    assert set(BatchNorm(2).state_dict()) == {"running_mean", "running_var", "num_batches_tracked"}
    assert set(BatchNorm(2, affine=True).state_dict()) > {"weight", "bias", "running_mean"}


def test_gradients_pass_through_the_batch_statistics(through):
    # A normalised batch does not change when its channel is shifted: the gradient of any loss sums to nothing.
    x = paddle.to_tensor(drawn(2, 3, 4, 4))
    x.stop_gradient = False
    out = through(training(BatchNorm(3)), x)
    (out * paddle.to_tensor(drawn(2, 3, 4, 4, seed=1))).sum().backward()
    assert float(x.grad.abs().max()) > 0.1
    assert float(x.grad.sum([0, 2, 3]).abs().max()) < GRADIENT


# ---- SPADE ----


def semantics(form, height=8, width=8, batch=2, instances=True):
    opt = OPT(label_nc=4, no_instance=not instances, crop_size=64, modulation=form)
    rng = np.random.default_rng(5)
    label = rng.integers(0, 5, (batch, height // 2, width // 2)).repeat(2, 1).repeat(2, 2)
    instance = rng.integers(0, 3, (batch, height // 4, width // 4)).repeat(4, 1).repeat(4, 2)
    return Semantics(label, instance, opt), opt


def layer(norm="batch", kernel_size=3, channels=3, semantic_nc=6):
    spade = SPADE(channels, semantic_nc, kernel_size, norm)
    for name, p in spade.named_parameters():
        p.set_value(entry(name, p.shape))
    return spade


FORMS = pytest.mark.parametrize("form", ["pattern", "dense"])


@FORMS
@pytest.mark.parametrize("norm", ["batch", "syncbatch", "instance"])
def test_zero_gamma_and_beta_give_the_normalised_input(through, form, norm):
    spade = training(layer(norm))
    for conv in (spade.mlp_gamma, spade.mlp_beta):
        conv.weight.set_value(paddle.zeros_like(conv.weight))
        conv.bias.set_value(paddle.zeros_like(conv.bias))
    x = drawn(2, 3, 8, 8)
    out = through(spade, x, semantics(form)[0]).numpy()
    close(out, normalised(x, (2, 3) if norm == "instance" else (0, 2, 3)), ROUNDING)


@FORMS
def test_constant_gamma_and_beta_scale_and_shift(through, form):
    spade = training(layer())
    for conv, bias in ((spade.mlp_gamma, [0.5, -1.0, 0.0]), (spade.mlp_beta, [2.0, 7.0, -1.0])):
        conv.weight.set_value(paddle.zeros_like(conv.weight))
        conv.bias.set_value(np.array(bias, "float32"))
    x = drawn(2, 3, 8, 8)
    out = through(spade, x, semantics(form)[0]).numpy()
    gamma, beta = (np.array(v).reshape(1, 3, 1, 1) for v in ([0.5, -1, 0], [2, 7, -1]))
    close(out, normalised(x, (0, 2, 3)) * (1 + gamma) + beta, ROUNDING)


def convolve(x, weight, bias):
    """Zero-padded convolution [C,H,W] -> [O,H,W] in float64, from its definition."""
    k = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (k, k), (k, k)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(1, 2))
    return np.einsum("chwij,ocij->ohw", windows, weight.astype(np.float64)) + bias.reshape(-1, 1, 1)


@FORMS
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("size, instances", [((8, 8), True), ((4, 12), True), ((16, 8), False), ((2, 1), True)])
def test_spade_from_its_definition(through, form, kernel_size, size, instances):
    spade = evaluating(layer("instance", kernel_size, semantic_nc=5 + instances))
    sem, opt = semantics(form, 16, 24, instances=instances)
    assert opt.semantic_nc == 5 + instances
    x = drawn(2, 3, *size)
    out = through(spade, x, sem).numpy()
    maps = semantics("dense", 16, 24, instances=instances)[0].one_hot(*size).numpy()
    base = normalised(x, (2, 3))
    for n in range(2):
        conv = {name: (m.weight.numpy(), m.bias.numpy()) for name, m in
                (("shared", spade.mlp_shared[0]), ("gamma", spade.mlp_gamma), ("beta", spade.mlp_beta))}  # fmt: skip
        hidden = np.maximum(convolve(maps[n], *conv["shared"]), 0)
        want = base[n] * (1 + convolve(hidden, *conv["gamma"])) + convolve(hidden, *conv["beta"])
        close(out[n], want, GRADIENT, GRADIENT)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_both_forms_have_the_same_gradients(through, kernel_size):
    results = []
    for form in ("pattern", "dense"):
        spade, x = training(layer("batch", kernel_size)), paddle.to_tensor(drawn(2, 3, 8, 8))
        x.stop_gradient = False
        (through(spade, x, semantics(form)[0]) * paddle.to_tensor(drawn(2, 3, 8, 8, seed=1))).sum().backward()
        results.append([x.grad.numpy()] + [p.grad.numpy() for p in spade.parameters()])
    for a, b in zip(*results, strict=True):
        close(a, b, GRADIENT * np.abs(b).max())
