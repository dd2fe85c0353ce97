"""Operators whose factors Paddle keeps in float32: closed forms in float64, Paddle's own numbers in float32."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from common import DOUBLE

from model.ops import exact

SIZES = [(8, 8), (7, 9), (1, 6), (2, 1), (43, 64)]


def averages(x):
    """3x3 averages at stride 2 of the pixels inside, one after the other."""
    height, width = ((side + 1) // 2 for side in x.shape[2:])
    out = np.empty((*x.shape[:2], height, width))
    for i, j in np.ndindex(height, width):
        out[:, :, i, j] = x[:, :, max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2].mean((2, 3))
    return out


def along(x, axis, target):
    """Linear interpolation between the centres of an axis's pixels, the nearest outside them."""
    size = x.shape[axis]
    at = (np.arange(target) + 0.5) * size / target
    return np.apply_along_axis(lambda line: np.interp(at, np.arange(size) + 0.5, line), axis, x)


def bilinear(size):
    return lambda x: along(along(x, 2, size[0]), 3, size[1])


CASES = [
    pytest.param(lambda x: exact.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, x / 5), id="leaky_relu"),
    pytest.param(exact.halved, averages, id="halved"),
    *(
        pytest.param(lambda x, s=s: exact.resized(x, s), bilinear(s), id=f"resized-{s[0]}x{s[1]}")
        for s in ((16, 16), (13, 5), (1, 3))
    ),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operator, want", CASES)
def test_float64(operator, want, size):
    rng = np.random.default_rng(0)
    array = rng.standard_normal((2, 3, *size))
    x = paddle.to_tensor(array, stop_gradient=False)
    y = operator(x)
    np.testing.assert_allclose(y.numpy(), want(array), rtol=0, atol=1e-14)
    probe = rng.standard_normal(y.shape)
    (y * paddle.to_tensor(probe)).sum().backward()
    # of degree one: f(x) = f'(x) x, and so in every direction
    assert float((x.grad * x).sum()) == pytest.approx((want(array) * probe).sum(), rel=DOUBLE)
    other = array * rng.uniform(0.5, 2, array.shape)  # of the same signs
    assert float((x.grad.numpy() * other).sum()) == pytest.approx((want(other) * probe).sum(), rel=DOUBLE)


@pytest.mark.parametrize("size", SIZES)
def test_float32_is_paddles(size):
    x = paddle.to_tensor(np.random.default_rng(1).standard_normal((2, 3, *size)).astype("float32"))
    for got, want in (
        (exact.leaky_relu(x, 0.2), F.leaky_relu(x, 0.2)),
        (exact.halved(x), F.avg_pool2d(x, 3, stride=2, padding=1)),
        (exact.resized(x, (16, 16)), F.interpolate(x, size=(16, 16), mode="bilinear")),
    ):
        np.testing.assert_array_equal(got.numpy(), want.numpy())
