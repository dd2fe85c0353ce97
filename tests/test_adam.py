"""The optimiser against Paddle's own, which keeps what ours leaves out."""

import numpy as np
import paddle
import pytest

from model.adam import Adam


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
