"""Operations on feature maps: one backend against the other, the CPU's against formulas; values and gradients."""

import operator

import numpy as np
import paddle
import pytest
from common import DOUBLE, GRADIENT, ROUNDING, close
from reference_cases import entry, evaluating

from model.convolution import Conv2D
from model.normalization import SPADE, BatchNorm, InstanceNorm
from model.ops import backend, cpu, plain, winograd
from model.ops.cpu_reductions import BatchMoments, column_sum
from model.ops.memory import zeros
from model.ops.threads import parallel_for
from model.options import OPT
from model.semantics import Semantics


@pytest.mark.parametrize(("kernel", "tile"), winograd.POINTS)
def test_minimal_filtering_is_a_convolution_in_exact_fractions(kernel, tile):
    a, g, b = winograd.matrices(winograd.POINTS[kernel, tile], kernel)
    d, w = [3, -1, 4, 1, -5, 9][: tile + kernel - 1], [2, 7, -1, 8][:kernel]
    dot = lambda left, right: sum(map(operator.mul, left, right))  # noqa: E731
    products = [dot(row, d) * dot(taps, w) for row, taps in zip(b, g, strict=True)]
    got = [sum(a[k][i] * products[k] for k in range(len(d))) for i in range(tile)]
    assert got == [sum(w[j] * d[i + j] for j in range(kernel)) for i in range(tile)]


def test_moments_and_their_gradient():
    rng = np.random.default_rng(2)
    data = (rng.standard_normal((2, 37, 5)) + 100).astype(np.float32)  # a mean far from 0 costs no digits
    x = paddle.to_tensor(data, stop_gradient=False)
    mean, var = BatchMoments.apply(x)
    np.testing.assert_allclose(mean.numpy(), data.mean(1, dtype=np.float64), rtol=ROUNDING / 10)
    np.testing.assert_allclose(var.numpy(), data.var(1, dtype=np.float64), rtol=ROUNDING)
    direction = rng.standard_normal((2, 2, 5)).astype(np.float32)
    ((mean * paddle.to_tensor(direction[0])).sum() + (var * paddle.to_tensor(direction[1])).sum()).backward()
    centred = data - data.mean(1, keepdims=True, dtype=np.float64)
    want = direction[0][:, None] / 37 + 2 / 37 * direction[1][:, None] * centred
    close(x.grad, want, ROUNDING, ROUNDING)


def test_views_share_memory_and_empty_parts_are_harmless():
    tensor, array = zeros(3, 4)
    array[1, 2] = 5
    assert float(tensor.sum()) == 5
    assert parallel_for(lambda part, b, e: (b, e), 1) == [(0, 1)]
    assert sum(e - b for b, e in parallel_for(lambda part, b, e: (b, e), 7)) == 7


@pytest.mark.parametrize("broken", [0, -1])
def test_what_a_part_of_a_loop_raises_reaches_its_caller(broken):
    parts = len(parallel_for(lambda part, b, e: part, 100))
    done = []

    def work(part, begin, end):
        if part == broken % parts:
            raise ArithmeticError(f"part {part}")
        done.append(part)

    with pytest.raises(ArithmeticError, match=f"part {broken % parts}"):
        parallel_for(work, 100)
    assert sorted(done) == [part for part in range(parts) if part != broken % parts]
    assert parallel_for(lambda part, b, e: part, 100) == list(range(parts))


def test_sums_do_not_lose_what_cancels():
    """Gradients of biases before a norm are sums of parts that cancel; Adam would magnify what rounding leaves."""
    part = np.random.default_rng(0).standard_normal((20_000, 3)).astype(np.float32) * 1000
    rows = np.concatenate([part, -part, np.full((1, 3), 0.125, np.float32)])
    assert np.allclose(column_sum(paddle.to_tensor(rows)).numpy(), 0.125, atol=ROUNDING / 10)


# ---- every operation, on both backends ----


def conv(cin, cout, size, stride=1, padding=None, spectral=False, bias=True, negative=False):
    """A convolution with drawn weights, in evaluation mode; `negative` turns its sigma's sign."""
    layer = evaluating(Conv2D(cin, cout, size, stride, size // 2 if padding is None else padding, bias, spectral))
    layer.raw_weight.set_value(entry(f"w{cin}{cout}{size}", layer.raw_weight.shape))
    if bias:
        layer.bias.set_value(entry("b", layer.bias.shape))
    if spectral:
        layer.weight_u.set_value(entry("u", layer.weight_u.shape))
        layer.train()
        layer.weight_and_sigma()
        layer.eval()
    if negative:
        layer.weight_u.set_value(-layer.weight_u)
    return layer


def spade(channels, semantic_nc, kernel_size, norm):
    layer = evaluating(SPADE(channels, semantic_nc, kernel_size, norm))
    for name, p in layer.named_parameters():
        p.set_value(entry(name, p.shape).astype(p.numpy().dtype))
    layer.train()
    return layer


def semantics(height, width, form="pattern", n=2, instances=True):
    opt = OPT(label_nc=4, no_instance=not instances, crop_size=64, modulation=form)
    rng = np.random.default_rng(5)
    label = rng.integers(0, 5, (n, -(-height // 2), -(-width // 2))).repeat(2, 1).repeat(2, 2)[:, :height, :width]
    return Semantics(label, label * 3 + np.arange(width) // 3, opt)


def affine(channels, sync=False):
    norm = BatchNorm(channels, sync=sync, affine=True)
    norm.weight.set_value(np.linspace(0.5, 2, channels).astype("float32"))
    norm.bias.set_value(np.linspace(-1, 1, channels).astype("float32"))
    norm.train()
    return norm


def modulated(x, form="pattern", norm="batch", kernel_size=3, instances=True, n=2):
    (height, width), channels = x.size, x.moments(1e-5).mean.shape[1]
    layer = spade(channels, 5 + instances, kernel_size, norm)
    return layer(x, semantics(height, width, form, n, instances)), list(layer.parameters())


def of(layer, *more):
    """An operation that applies a layer; its parameters' gradients are compared, too."""
    return lambda x: (layer(x, *more), list(layer.parameters()))


OPERATIONS = {
    "nothing": lambda x: (x, []),
    "upsampled": lambda x: (x.upsampled(), []),
    "halved": lambda x: (x.halved(), []),
    "activated": lambda x: (x.activated(0.2), []),
    "relu": lambda x: (x.activated(0), []),
    "3x3": of(conv(6, 5, 3)),
    "1x1 without bias": of(conv(6, 5, 1, bias=False)),
    "4x4, stride 2": of(conv(6, 5, 4, stride=2, padding=2)),
    "4x4, stride 1": of(conv(6, 1, 4, stride=1, padding=2)),
    "3x3, stride 2": of(conv(6, 5, 3, stride=2)),
    "spectral": of(conv(6, 5, 3, spectral=True)),
    "spectral, negative sigma": of(conv(6, 5, 3, spectral=True, negative=True)),
    "residual": lambda x: (conv(6, 6, 3)(x, x), []),
    "upsampled residual": lambda x: (conv(6, 6, 3)(x.upsampled(), x.upsampled()), []),
    "activated, 3x3": lambda x: of(conv(6, 5, 3))(x.activated(0.2)),
    "upsampled, activated, 3x3": lambda x: of(conv(6, 5, 3))(x.upsampled().activated(0.2)),
    "instance norm": of(InstanceNorm()),
    "instance norm, activated, 3x3": lambda x: of(conv(6, 5, 3))(InstanceNorm()(x).activated(0.2)),
    "batch norm": of(BatchNorm(6)),
    "affine batch norm": of(affine(6)),
    "affine batch norm, activated, 4x4": lambda x: of(conv(6, 5, 4, 2, 2))(affine(6)(x).activated(0.2)),
    "norm of an activated map": lambda x: (BatchNorm(6)(x.activated(0.2)), []),
    "modulated": modulated,
    "modulated, dense": lambda x: modulated(x, "dense"),
    "modulated, 5x5 windows": lambda x: modulated(x, kernel_size=5),
    "modulated, 5x5 windows, dense": lambda x: modulated(x, "dense", kernel_size=5),
    "modulated instance norm": lambda x: modulated(x, norm="instance"),
    "modulated instance norm, dense": lambda x: modulated(x, "dense", norm="instance"),
    "modulated without instances": lambda x: modulated(x, instances=False),
    "upsampled, modulated": lambda x: modulated(x.upsampled()),
    "modulated, activated": lambda x: (modulated(x)[0].activated(0.2), []),
    "all of it, 3x3": lambda x: of(conv(6, 5, 3))(modulated(x.upsampled(), n=len(x.data))[0].activated(0.2)),
    "two norms of one map": lambda x: (conv(6, 5, 3)(modulated(x)[0], conv(6, 5, 1)(modulated(x)[0])), []),
}
SHAPES = {"small": (2, 6, 8, 8), "odd": (2, 6, 7, 5), "a pixel high": (2, 6, 1, 9)}


def results(Map, operation, x, images=slice(None)):
    """A result [N,C,H,W] and the gradients of x and of parameters, of the images' sums with drawn factors."""
    x = paddle.to_tensor(x, stop_gradient=False)
    y, parameters = operation(Map.enter(x))
    for p in parameters:
        p.clear_gradient()
    size, y = y.size, y.leave()
    assert tuple(y.shape[2:]) == tuple(size)
    direction = np.zeros(y.shape, np.float32)
    direction[images] = entry("direction", y.shape)[images]
    (y * paddle.to_tensor(direction).astype(y.dtype)).sum().backward()
    return [y.numpy(), x.grad.numpy(), *(p.grad.numpy() for p in parameters)]


def compare(operation, x, images=slice(None)):
    got, want = (results(Map, operation, x, images) for Map in (cpu.Map, plain.Map))
    for g, w, factor in zip(got, want, [2] + [5] * len(want[1:]), strict=True):  # values, and their gradients
        close(g, w, factor * ROUNDING * max(1, np.abs(w).max()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_backends_agree(operation, shape):
    x = np.random.default_rng(1).standard_normal(SHAPES[shape]).astype("float32")
    compare(OPERATIONS[operation], x)


@pytest.mark.parametrize("images", [slice(1), slice(1, 3), slice(0)])
@pytest.mark.parametrize("operation", ["3x3", "4x4, stride 2", "residual", "instance norm", "all of it, 3x3"])
def test_backends_agree_where_some_images_have_no_gradient(operation, images):
    compare(OPERATIONS[operation], np.random.default_rng(1).standard_normal((4, 6, 8, 8)).astype("float32"), images)


def test_backends_agree_where_every_neighbourhood_is_another():
    layer = spade(6, 41, 3, "batch")
    label = np.random.default_rng(5).integers(0, 41, (2, 24, 32))
    maps = Semantics(label, None, OPT(label_nc=40, no_instance=True, crop_size=64))
    assert len(maps.patterns(24, 32, 3).inner) > 0.9 * label.size
    compare(of(layer, maps), np.random.default_rng(1).standard_normal((2, 6, 24, 32)).astype("float32"))


@pytest.mark.parametrize("used", [lambda p: np.arange(p.size) % 3, lambda p: p * 0, lambda p: p])
def test_gradients_summed_over_sorted_pixels_are_those_of_the_lookup(used, float64):
    """Rows that many pixels have, or none, in order and out of it; the same maps twice in a pass."""
    label = used(np.random.default_rng(6).integers(0, 5, (2, 16, 12))).reshape(2, 16, 12)
    x = np.random.default_rng(1).standard_normal((2, 6, 16, 12))
    found = []
    for form in ("pattern", "sorted"):
        maps = Semantics(label, None, OPT(label_nc=4, no_instance=True, crop_size=64, modulation=form))
        layer = spade(6, 5, 3, "batch")
        twice = lambda x, layer=layer, maps=maps: (layer(layer(x, maps), maps), list(layer.parameters()))  # noqa: E731
        found.append(results(plain.Map, twice, x))
    for lookup, ordered in zip(*found, strict=True):
        np.testing.assert_allclose(ordered, lookup, rtol=0, atol=DOUBLE * max(1, np.abs(lookup).max()))


# [N,H,W], channels in and out, whether upsampled: what a 3x3 convolution's form depends on.
SIZES = {
    "direct": (1, 8, 8, 6, 5, False),
    "direct, odd": (2, 5, 3, 6, 5, False),
    "direct, upsampled": (1, 4, 6, 7, 3, True),
    "direct, many pixels": (2, 32, 32, 6, 5, False),
    "winograd": (1, 32, 32, 33, 5, False),
    "winograd, batch": (3, 16, 32, 32, 7, False),
    "winograd, upsampled": (2, 16, 16, 35, 4, True),
    "winograd, odd number of tile rows": (1, 34, 32, 32, 4, False),
    "winograd, large tiles": (1, 68, 64, 32, 4, False),
    "winograd, large tiles, batch, upsampled": (3, 20, 24, 33, 5, True),
    "few filters": (2, 33, 17, 28, 3, False),
    "few filters, upsampled": (3, 24, 32, 64, 3, True),
    "few filters, small": (1, 3, 1, 10, 1, False),
}


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_backends_agree_in_every_form_of_a_convolution(size, kernel):
    """With gradients; and without, where Winograd's large tiles are allowed."""
    n, h, w, fin, fout, up = SIZES[size]
    layer, skip = conv(fin, fout, kernel, spectral=True), conv(fin, fout, 1, bias=False)

    def operation(x):
        x = x.upsampled() if up else x
        return layer(modulated(x, n=n)[0].activated(0.2), skip(x)), [*layer.parameters(), *skip.parameters()]

    x = np.random.default_rng(1).standard_normal((n, fin, h, w)).astype("float32")
    compare(operation, x)
    with paddle.no_grad():
        got, want = (operation(Map.enter(paddle.to_tensor(x)))[0].leave().numpy() for Map in (cpu.Map, plain.Map))
    close(got, want, 2 * ROUNDING * np.abs(want).max())


@pytest.mark.parametrize(
    "shape, fout",
    [((2, 32, 17, 31), 5), ((1, 33, 33, 23), 3), ((3, 40, 13, 17), 8), ((3, 33, 13, 17), 2), ((2, 512, 3, 4), 1)],
)
def test_backends_agree_in_4x4_convolutions(shape, fout):
    """The discriminator's last layers, whose result is larger than the map by one."""
    layer = of(conv(shape[1], fout, 4, stride=1, padding=2))
    x = np.random.default_rng(3).standard_normal(shape).astype("float32")
    compare(lambda x: layer(InstanceNorm()(x).activated(0.2)), x)


def test_maxima_and_distances_agree():
    rng = np.random.default_rng(2)
    x, target = (rng.standard_normal((2, 6, 8, 10)).astype("float32") for _ in range(2))
    found = []
    for Map in (cpu.Map, plain.Map):
        tensor, other = paddle.to_tensor(x, stop_gradient=False), paddle.to_tensor(target, stop_gradient=False)
        one, two = (Map.enter(t).activated(0).max_pooled() for t in (tensor, other))
        raw = Map.enter(tensor).distance(Map.enter(other))
        rectified, pooled = Map.enter(tensor).activated(0).distance(Map.enter(other).activated(0)), one.distance(two)
        (raw + 2 * rectified + 3 * pooled).backward()
        assert other.grad is None
        found.append([float(raw), float(rectified), float(pooled), tensor.grad.numpy(), one.leave().numpy()])
    want = [np.abs(x - target).mean(), np.abs(x.clip(0) - target.clip(0)).mean()]
    close(found[0][:2], want, 0, ROUNDING)
    for a, b in zip(*found, strict=True):
        close(a, b, 1e-8, ROUNDING)


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("instances", [True, False])
@pytest.mark.parametrize("halvings", [0, 1])
def test_joined_semantics_and_pictures_agree(copies, instances, halvings):
    image = np.random.default_rng(3).standard_normal((2 * copies, 3, 12, 16)).astype("float32")
    layer = conv(5 + instances + 3, 4, 4, stride=2, padding=2)
    found = []
    for Map in (cpu.Map, plain.Map):
        layer.clear_gradients()
        tensor = paddle.to_tensor(image, stop_gradient=False)
        x = Map.join(semantics(12, 16, instances=instances), tensor)
        for _ in range(halvings):
            x = x.halved()
        y = layer(x).leave()
        (y * paddle.to_tensor(entry("direction", y.shape)).astype(y.dtype)).sum().backward()
        found.append([y.numpy(), tensor.grad.numpy(), layer.weight.grad.numpy(), layer.bias.grad.numpy()])
    for a, b in zip(*found, strict=True):
        close(a, b, GRADIENT, GRADIENT)


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("Map", [cpu.Map, plain.Map])
def test_moments_in_closed_form_and_once_a_map(Map, per_image):
    x = np.random.default_rng(4).standard_normal((3, 2, 4, 5)).astype("float32") * 3 + 7
    found = Map.enter(paddle.to_tensor(x))
    moments = found.moments(0.5, per_image)
    axes = (2, 3) if per_image else (0, 2, 3)
    close(moments.mean.squeeze(), x.mean(axes), 0, ROUNDING)
    close(moments.var.squeeze(), x.var(axes), 0, GRADIENT)
    close(moments.scale.squeeze(), (x.var(axes) + 0.5) ** -0.5, 0, GRADIENT)
    assert moments.count == (20 if per_image else 60)
    assert found.moments(0.5, per_image) is moments
    assert found.upsampled().moments(0.5, per_image).count == 4 * moments.count


def test_the_backend_is_chosen_by_option_and_dtype():
    assert [backend(kernels) for kernels in ("auto", "blocked", "plain")] == [cpu.Map, cpu.Map, plain.Map]
