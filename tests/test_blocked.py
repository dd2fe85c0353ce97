"""The blocked layers against the same formulas in Paddle's own operators, values and gradients."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from model.convolution import Conv2D
from model.ops import cpu
from model.ops.cpu import ModulatedConv, Moments, column_sum

SIZES = {
    "direct": (1, 8, 8, 6, 5, False),
    "direct, odd": (2, 5, 3, 6, 5, False),
    "direct, upsampled": (1, 4, 6, 7, 3, True),
    "direct, many pixels": (2, 32, 32, 6, 5, False),
    "winograd": (1, 32, 32, 33, 5, False),
    "winograd, batch": (3, 16, 32, 32, 7, False),
    "winograd, upsampled": (2, 16, 16, 35, 4, True),
    "winograd, odd number of tile rows": (1, 34, 32, 32, 3, False),
}


def plain(x, mean, a, b, weight, bias, residual, scale, index, up, slope):
    if up:
        x = F.interpolate(x.transpose([0, 3, 1, 2]), scale_factor=2, mode="nearest").transpose([0, 2, 3, 1])
    index = paddle.to_tensor(index.reshape(x.shape[:3]))
    y = F.leaky_relu((x - mean.unsqueeze([1, 2])) * F.embedding(index, a) + F.embedding(index, b), slope).transpose(
        [0, 3, 1, 2]
    )
    y = scale * F.conv2d(y, weight, padding=weight.shape[2] // 2).transpose([0, 2, 3, 1])
    return y + bias + residual


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_modulated_convolution_and_gradients(size, kernel):
    n, h, w, c, k, up = SIZES[size]
    rng = np.random.default_rng(0)
    height, width = (2 * h, 2 * w) if up else (h, w)
    index = rng.integers(0, 9, n * height * width).astype(np.int32)
    shapes = [
        (n, h, w, c),
        (n if kernel == 1 else 1, c),
        (9, c),
        (9, c),
        (k, c, kernel, kernel),
        (k,),
        (n, height, width, k),
        (),
    ]
    arrays = [np.asarray(rng.standard_normal(s), np.float32) for s in shapes]
    direction = rng.standard_normal((n, height, width, k)).astype(np.float32)

    def run(layer):
        tensors = [paddle.to_tensor(a, stop_gradient=False) for a in arrays]
        out = layer(*tensors)
        (out * paddle.to_tensor(direction)).sum().backward()
        return [out.numpy(), *(t.grad.numpy() for t in tensors)]

    spec = {"index": index, "up": up, "slope": 0.2}
    got = run(lambda *t: ModulatedConv.apply(*t, spec))
    want = run(lambda *t: plain(*t, index, up, 0.2))
    # The scale's is one sum of parts that cancel, in which Paddle's float32 loses three digits.
    *_, bias, residual, scale = (a.astype(np.float64) for a in arrays)
    parts = direction * (want[0] - bias - residual) / scale
    np.testing.assert_allclose(got.pop(), parts.sum(), atol=1e-6 * np.abs(parts).sum())
    names = ("out", "x", "mean", "a", "b", "weight", "bias", "residual")
    for name, g, e in zip(names, got, want[:-1], strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-5 * np.abs(e).max(), err_msg=name)


def test_weights_without_gradient_are_left_out():
    rng = np.random.default_rng(1)
    x = paddle.to_tensor(rng.standard_normal((1, 32, 32, 32)).astype(np.float32), stop_gradient=False)
    weight = paddle.to_tensor(rng.standard_normal((3, 32, 3, 3)).astype(np.float32))
    one, zero = paddle.ones([1, 32]), paddle.zeros([1, 32])
    spec = {"index": np.zeros(1024, np.int32), "up": False, "slope": 0.0}
    ModulatedConv.apply(x, zero, one, zero, weight, None, None, None, spec).sum().backward()
    assert weight.grad is None and one.grad is None and x.grad is not None


def test_moments_and_their_gradient():
    rng = np.random.default_rng(2)
    data = (rng.standard_normal((2, 37, 5)) + 100).astype(np.float32)  # a mean far from 0 costs no digits
    x = paddle.to_tensor(data, stop_gradient=False)
    mean, var = Moments.apply(x)
    np.testing.assert_allclose(mean.numpy(), data.mean(1, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(var.numpy(), data.var(1, dtype=np.float64), rtol=1e-5)
    direction = rng.standard_normal((2, 2, 5)).astype(np.float32)
    ((mean * paddle.to_tensor(direction[0])).sum() + (var * paddle.to_tensor(direction[1])).sum()).backward()
    centred = data - data.mean(1, keepdims=True, dtype=np.float64)
    want = direction[0][:, None] / 37 + 2 / 37 * direction[1][:, None] * centred
    np.testing.assert_allclose(x.grad.numpy(), want, atol=1e-5)


def test_views_share_memory_and_empty_parts_are_harmless():
    tensor, array = cpu.zeros(3, 4)
    array[1, 2] = 5
    assert float(tensor.sum()) == 5
    assert cpu.share(lambda part, b, e: (b, e), 1) == [(0, 1)]
    assert sum(e - b for b, e in cpu.share(lambda part, b, e: (b, e), 7)) == 7


def test_a_negative_sigma_divides_as_a_positive_one_does():
    layer = Conv2D(6, 5, 3, padding=1, spectral=True)
    layer.eval()
    rng = np.random.default_rng(3)
    layer.weight_orig.set_value(rng.standard_normal((5, 6, 3, 3)).astype(np.float32))
    if float(layer.weight_and_sigma()[1]) > 0:
        layer.weight_u.set_value(-layer.weight_u)
    x = paddle.to_tensor(rng.standard_normal((1, 6, 8, 8)).astype(np.float32))
    want = layer(F.leaky_relu(x, 0.2)).transpose([0, 2, 3, 1])
    got = cpu.conv(x.transpose([0, 2, 3, 1]), layer, slope=0.2)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-4, atol=1e-4)


def test_sums_do_not_lose_what_cancels():
    """Gradients of biases before a norm are sums of parts that cancel; Adam would magnify what rounding leaves."""
    part = np.random.default_rng(0).standard_normal((20_000, 3)).astype(np.float32) * 1000
    rows = np.concatenate([part, -part, np.full((1, 3), 0.125, np.float32)])
    assert np.allclose(column_sum(paddle.to_tensor(rows)).numpy(), 0.125, atol=1e-6)
