"""The convolution layer and its spectral normalisation."""

import numpy as np
import paddle
import pytest
from common import GRADIENT, ROUNDING, close
from reference_cases import evaluating, training

from model.convolution import Conv2D


def image(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def set_weight(conv, seed=1):
    """A well-conditioned random weight; returns it as a matrix [out, in*k*k]."""
    shape = conv.raw_weight.shape
    value = np.random.default_rng(seed).standard_normal(shape).astype("float32")
    conv.raw_weight.set_value(value)
    return value.reshape(shape[0], -1).astype(np.float64)


def test_convolution_by_hand(through):
    conv = Conv2D(2, 3, 3, stride=2, padding=1)
    w = set_weight(conv).reshape(3, 2, 3, 3)
    conv.bias.set_value(np.array([1.0, 2.0, 3.0], "float32"))
    x = image(1, 2, 5, 4)
    padded = np.pad(x.numpy()[0], ((0, 0), (1, 1), (1, 1)))
    want = np.zeros((3, 3, 2))
    for o in range(3):
        for i in range(3):
            for j in range(2):
                want[o, i, j] = (padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * w[o]).sum() + o + 1
    close(through(conv, x).numpy()[0], want, ROUNDING)


def test_entries_have_the_official_names():
    assert set(Conv2D(2, 3, 3).state_dict()) == {"weight", "bias"}
    conv = Conv2D(2, 3, 4, bias=False, spectral=True)
    assert {k: tuple(v.shape) for k, v in conv.state_dict().items()} == {
        "weight_orig": (3, 2, 4, 4), "weight_u": (3,), "weight_v": (32,),
    }  # fmt: skip
    assert [name for name, _ in conv.named_parameters()] == ["weight_orig"]
    for side in (conv.weight_u, conv.weight_v):
        assert float(side.norm()) == pytest.approx(1, abs=ROUNDING)


def test_sigma_converges_to_the_largest_singular_value(through):
    conv = training(Conv2D(6, 8, 3, spectral=True))
    matrix = set_weight(conv)
    x = image(1, 6, 3, 3)
    with paddle.no_grad():
        for _ in range(200):
            through(conv, x)
    largest = np.linalg.svd(matrix, compute_uv=False)[0]
    u, v = conv.weight_u.numpy(), conv.weight_v.numpy()
    assert u @ matrix @ v == pytest.approx(largest, rel=GRADIENT)
    conv.bias.set_value(np.zeros(8, "float32"))
    want = matrix @ x.numpy().ravel() / largest
    close(through(evaluating(conv), x).numpy().ravel(), want, GRADIENT)


def test_one_power_iteration_a_training_pass_and_none_in_evaluation(through):
    conv = Conv2D(4, 5, 3, spectral=True)
    matrix, x = set_weight(conv), image(1, 4, 4, 4)
    u = conv.weight_u.numpy().astype(np.float64)
    conv.train()
    for training_pass in range(3):
        through(conv, x)
        v = matrix.T @ u / np.linalg.norm(matrix.T @ u)
        u = matrix @ v / np.linalg.norm(matrix @ v)
        close(conv.weight_v, v, ROUNDING, what=f"pass {training_pass}")
        close(conv.weight_u, u, ROUNDING, what=f"pass {training_pass}")
    before = conv.weight_u.numpy(), conv.weight_v.numpy()
    conv.eval()
    first, second = through(conv, x).numpy(), through(conv, x).numpy()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(before[0], conv.weight_u.numpy())
    np.testing.assert_array_equal(before[1], conv.weight_v.numpy())


def test_training_passes_without_a_graph_iterate_too(through):
    conv = training(Conv2D(2, 3, 3, spectral=True))
    before = conv.weight_u.numpy()
    with paddle.no_grad():
        through(conv, image(1, 2, 4, 4))
    assert np.abs(conv.weight_u.numpy() - before).max() > 1e-4


def test_gradient_flows_through_sigma_with_u_and_v_held(through):
    # The loss is R . (W / u^T W v * x) + R . b; differentiated numerically in float64 for fixed u and v.
    conv = evaluating(Conv2D(2, 3, 3, spectral=True))
    matrix = set_weight(conv)
    x, probe = image(1, 2, 3, 3, seed=2), image(1, 3, 1, 1, seed=3)
    (through(conv, x) * probe).sum().backward()
    u, v = (t.numpy().astype(np.float64) for t in (conv.weight_u, conv.weight_v))

    def loss(w):
        return probe.numpy().ravel() @ (w @ x.numpy().ravel().astype(np.float64)) / (u @ w @ v)

    numeric = np.zeros_like(matrix)
    for at in np.ndindex(*matrix.shape):
        step = np.zeros_like(matrix)
        step[at] = 1e-6
        numeric[at] = (loss(matrix + step) - loss(matrix - step)) / 2e-6
    got = conv.weight_orig.grad.numpy().reshape(matrix.shape)
    close(got, numeric, GRADIENT * np.abs(numeric).max())
    close(conv.bias.grad.numpy(), probe.numpy().ravel(), 0, ROUNDING)


def test_output_does_not_change_with_the_weight_s_scale(through):
    conv = evaluating(Conv2D(2, 3, 3, bias=False, spectral=True))
    set_weight(conv)
    x = image(1, 2, 4, 4)
    before = through(conv, x).numpy()
    conv.weight_orig.set_value(conv.weight_orig * 7.0)
    close(through(conv, x), before, ROUNDING, GRADIENT)
