"""The optimiser against Paddle's own, which keeps what ours leaves out."""

import numpy as np
import paddle
import pytest
from common import GRADIENT, ROUNDING, close

from model.training.adam import Adam, with_betas
from model.training.optimizer_state import load_optimizer, optimizer_state


def trained(kind, beta1, steps=4):
    """Weights after some steps on fixed gradients, and the optimiser."""
    rng = np.random.default_rng(0)
    layer = paddle.nn.Linear(37, 11)  # odd: vectorised kernels have a remainder
    for p in layer.parameters():
        p.set_value(rng.standard_normal(p.shape).astype(np.float32))
    optimizer = kind(1e-2, beta1=beta1, beta2=0.9, epsilon=1e-8, parameters=layer.parameters())
    for _ in range(steps):
        (layer(paddle.to_tensor(rng.standard_normal((5, 37)).astype(np.float32))) ** 2).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
    return [p.numpy() for p in layer.parameters()], optimizer


@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_the_same_weights_as_paddles_adam(beta1):
    for ours, theirs in zip(trained(Adam, beta1)[0], trained(paddle.optimizer.Adam, beta1)[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_first_moments_are_kept_only_where_they_matter():
    kept = {beta1: sum("moment1" in key for key in trained(Adam, beta1)[1].state_dict()) for beta1 in (0.0, 0.5)}
    assert kept == {0.0: 0, 0.5: 2}
    assert sum("moment2" in key for key in trained(Adam, 0.0)[1].state_dict()) == 2


def resumed_steps(betas, gradients, lr=1e-2):
    """The weights after each step, where each step is that of an optimiser resumed from the one before."""
    state, weight, path = None, np.array([0.3, -0.7], np.float32), []
    for i, (pair, gradient) in enumerate(zip(betas, gradients, strict=True)):
        layer = paddle.nn.Linear(1, 2, bias_attr=False)
        layer.weight.set_value(weight[None])
        optimizer = Adam(lr, *pair, epsilon=1e-8, parameters=layer.parameters())
        if state:
            load_optimizer(optimizer, {"n": layer}, with_betas(state, betas[i - 1], pair), "state.pdopt")
        (layer.weight * paddle.to_tensor(np.float32(gradient))).sum().backward()
        optimizer.step()
        state, weight = optimizer_state(optimizer, {"n": layer}), layer.weight.numpy()[0]
        path.append(weight)
    return np.array(path), state


BETAS = {
    "first moments begin": [(0, 0.9)] * 3 + [(0.5, 0.9)] * 4,
    "first moments end": [(0.5, 0.9)] * 3 + [(0, 0.9)] * 3,
    "and begin again": [(0.5, 0.9)] * 2 + [(0, 0.9)] * 2 + [(0.5, 0.9)] * 3,
    "other ones": [(0.5, 0.9)] * 2 + [(0.9, 0.9)] * 3 + [(0.1, 0.9)] * 2,
    "second moments": [(0, 0.9)] * 3 + [(0, 0.999)] * 3 + [(0, 0.5)] * 2,
    "as with no_TTUR": [(0, 0.9)] * 3 + [(0.5, 0.999)] * 4,
    "no average": [(0, 0)] * 3 + [(0.5, 0.9)] * 3 + [(0, 0)] * 2,
    "the same": [(0.5, 0.9)] * 5,
}


@pytest.mark.parametrize("name", BETAS)
def test_steps_with_changed_betas_follow_the_closed_form(name):
    """Weighted means of the gradients, with the weights that the betas of their steps give them."""
    betas = BETAS[name]
    gradients = np.random.default_rng(0).normal(size=(len(betas), 2))
    path, state = resumed_steps(betas, gradients)
    weight, first, second = np.array([0.3, -0.7], np.float32).astype(float), [], []
    for (beta1, beta2), gradient, got in zip(betas, gradients, path, strict=True):
        first = [(beta1 * w, g) for w, g in first] + [(1 - beta1, gradient)]
        if beta1 == 0:
            first = []
        second = [(beta2 * w, g) for w, g in second] + [(1 - beta2, gradient)]
        mean = sum(w * g for w, g in first) / sum(w for w, _ in first) if first else gradient
        square = sum(w * g**2 for w, g in second) / sum(w for w, _ in second)
        weight -= 1e-2 * mean / np.sqrt(square)
        close(got, weight, 0, ROUNDING)
    assert any("moment1" in key for key in state) == (betas[-1][0] > 0)


@pytest.mark.parametrize("name", BETAS)
def test_a_constant_gradient_s_steps_are_as_long_as_the_rate(name):
    path, _ = resumed_steps(BETAS[name], [[0.02, -3.0]] * len(BETAS[name]))
    close(np.diff(path, axis=0), np.broadcast_to([-1e-2, 1e-2], path[1:].shape), 0, 2 * GRADIENT)


def test_a_state_for_the_same_betas_is_itself():
    state = resumed_steps([(0.5, 0.9)] * 2, np.ones((2, 2)))[1]
    assert with_betas(state, (0.5, 0.9), (0.5, 0.9)) == state
