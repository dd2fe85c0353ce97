"""SPADE's layers on CPUs: modulated convolutions, batch moments and pattern tables, exact, forward and backward.

Feature maps are [N,H,W,C] here. A layer is processed in pieces that stay in the cache, on one thread a core: compiled
loops (`model.ops.loops`) fuse normalisation, modulation, activation and the window transform, and the products are
Paddle's. Nothing between two convolutions is kept for the backward pass but the convolutions' own inputs and the small
tables; the rest is computed again, which is cheaper than its memory traffic.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import paddle
from paddle.autograd import PyLayer
from threadpoolctl import ThreadpoolController

import model.ops.device  # noqa: F401  gives Paddle its threads
from model import THREADS
from model.errors import UserError
from model.ops import group, loops

PIECE = 6 << 20  # bytes of a piece's transformed input and output together,
TABLE_PIECE = 12 << 20  # and of a table's products: larger than a core's cache, but long rows and few calls gain more
FEWEST_CHANNELS = 8  # of a piece, lest its rows are too short to add,
FEWEST_TILES = 128  # and tiles, lest reading the weights outweighs the products
WINOGRAD_PIXELS = 1024  # of the batch, from which Winograd's form pays for its transforms,
WINOGRAD_CHANNELS = 32  # and input channels


def use_blocked(kernels):
    """Whether the options' `kernels` (auto, blocked, plain) mean this module: auto does on CPUs, in float32.

    Raises:
        UserError: blocked, and Paddle's default dtype is another one.
    """
    dtype = paddle.get_default_dtype()
    if kernels == "blocked" and dtype != "float32":
        raise UserError(f"kernels blocked compute in float32, and Paddle's default dtype is {dtype}: give kernels auto")
    return kernels == "blocked" or (kernels == "auto" and dtype == "float32" and paddle.get_device() == "cpu")


@cache
def _pool():
    controller = ThreadpoolController()
    # Each worker multiplies on its own core: the libraries' own threads would fight over the same ones.
    return ThreadPoolExecutor(THREADS, "blocked", initializer=lambda: controller.limit(limits=1))


def share(work, count):
    """Run work(part, begin, end) for near-equal parts of range(count), one a thread; the results in order."""
    parts = min(THREADS, count)
    if parts <= 1:
        return [work(0, 0, count)]
    edges = [count * i // parts for i in range(parts + 1)]
    return [f.result() for f in [_pool().submit(_guarded, work, i, edges[i], edges[i + 1]) for i in range(parts)]]


def _guarded(work, part, begin, end):
    with paddle.no_grad():  # the flag belongs to the thread
        return work(part, begin, end)


ARENA_MAX, MMAP_THRESHOLD = -8, -3  # mallopt's numbers


@cache
def _allocator():
    """glibc's allocator, set for a few large maps instead of many small objects; None with other C libraries.

    One arena for all threads, and maps of more than 4 MB back to the system when they are freed: what a forward pass
    leaves behind is too scattered for the gradients that follow.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(ARENA_MAX, 1)
        libc.mallopt(MMAP_THRESHOLD, 4 << 20)
        return libc if hasattr(libc, "malloc_trim") else None
    except (OSError, AttributeError):
        return None


def release_memory():
    """Give freed memory back to the system; of the whole COCO-Stuff step's 2,740 MB, 640 were kept between steps."""
    if _allocator() is not None:
        _allocator().malloc_trim(0)


class _Memory:
    """A tensor's memory as NumPy's array interface describes it; arrays made from it keep the tensor alive."""

    def __init__(self, tensor, shape):
        self.tensor = tensor
        kind = {paddle.float32: "<f4", paddle.int32: "<i4"}[tensor.dtype]
        self.__array_interface__ = {
            "version": 3, "typestr": kind, "shape": shape, "data": (tensor.data_ptr(), False)
        }  # fmt: skip


def view(tensor):
    """A NumPy view of a contiguous CPU tensor's memory."""
    shape = tuple(tensor.shape)
    return np.empty(shape, np.float32) if 0 in shape else np.asarray(_Memory(tensor, shape))


def buffer(*shape):
    """An uninitialised float32 tensor and its NumPy view."""
    tensor = paddle.empty(shape, "float32")
    return tensor, view(tensor)


def zeros(*shape):
    """A zero float32 tensor and its NumPy view."""
    tensor, array = buffer(*shape)
    array[...] = 0
    return tensor, array


def contiguous(tensor):
    """The tensor itself, or a contiguous copy."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()


class _Map:
    """A modulated map as kernels read it: x, its tables, each pixel's table row, and the geometry."""

    def __init__(self, x, mean, table_a, table_b, size, index, up=False, slope=1.0, stride=1, pad=None):
        self.shape = n, h, w, c = tuple(x.shape)
        self.height, self.width = (2 * h, 2 * w) if up else (h, w)
        self.pixels, self.channels, self.up, self.slope = n * self.height * self.width, c, up, np.float32(slope)
        self.tile_rows = n * self.height // 2
        self.size, self.stride, self.pad = size, stride, size // 2 if pad is None else pad
        self.out_height = (self.height + 2 * self.pad - size) // stride + 1
        self.out_width = (self.width + 2 * self.pad - size) // stride + 1
        self.images, self.out_area = n, self.out_height * self.out_width
        self.x = view(x).reshape(-1, c)
        self.tables = view(mean), view(table_a), view(table_b)
        self.index = index
        if index.shape != (self.pixels,) or index.dtype != np.int32:
            raise ValueError(f"index is {index.dtype}{index.shape}, expected int32 ({self.pixels},)")

    @property
    def source(self):
        return self.x, *self.tables, self.index

    @property
    def geometry(self):
        return self.height, self.width, self.up, self.slope

    @property
    def window(self):
        return self.size, self.stride, self.pad, self.out_height, self.out_width

    def gradients(self, grad_map, need_x, need_mean, need_a, need_b):
        """Gradients of x, mean and the tables from the modulated map's [pixels, C]; None for those not needed."""
        means, table_a, table_b = self.tables
        tensor, gx = buffer(*self.shape)
        rows = gx.reshape(-1, self.channels)
        count = len(table_a) if need_a or need_b else 0

        def work(part, begin, end):
            tables = np.zeros((2, count, self.channels), np.float32)
            scratch = np.empty(self.channels, np.float32)
            loops.modulation_grad(
                grad_map, *self.source, *self.geometry, begin, end, scratch, rows, tables[0], tables[1]
            )
            return tables

        tables = np.zeros((2, count, self.channels), np.float32)
        if need_x or need_mean or count:
            parts = share(work, len(rows))
            tables = sum(parts[1:], parts[0])
        return [
            tensor if need_x else None,
            -group_sum(tensor.reshape([len(means), -1, self.channels])) if need_mean else None,
            paddle.to_tensor(tables[0]) if need_a else None,
            paddle.to_tensor(tables[1]) if need_b else None,
        ]

    @property
    def takes_winograd(self):
        even = self.height % 2 == 0 and self.width % 2 == 0
        large = self.pixels >= WINOGRAD_PIXELS and self.channels >= WINOGRAD_CHANNELS
        return (self.size, self.stride, self.pad) == (3, 1, 1) and even and large

    def piece(self, out_channels):
        """Tile rows of a piece."""
        tiles = max(FEWEST_TILES, PIECE // (64 * (self.channels + out_channels)))
        return max(1, 2 * tiles // self.width)

    def scratch(self):
        span = self.width + 2
        lines = np.empty((4, span, self.channels), np.float32)
        return lines, np.empty((4, span * self.channels), np.float32)


def _winograd_weight(weight, factor):
    """factor * G w G^T as a tensor [16,K,C]."""
    k, channels = weight.shape[:2]
    tensor, out = buffer(16, k, channels)
    w = view(weight).reshape(k, channels, 9)
    share(lambda part, b, e: loops.winograd_weight(w[b:e], factor, out[:, b:e]), k)
    return tensor


def _winograd_forward(m, weight, factor, bias, residual, out):
    k = weight.shape[0]
    transformed = _winograd_weight(weight, factor)
    tiles, step = m.width // 2, m.piece(k)

    def work(part, begin, end):
        lines, half = m.scratch()
        out_half = np.empty((8, k), np.float32)
        for first in range(begin, end, step):
            count = min(step, end - first)
            v_tensor, v = buffer(16, count * tiles, m.channels)
            loops.winograd_input(*m.source, *m.geometry, first, count, lines, half, v)
            products = paddle.matmul(v_tensor, transformed, transpose_y=True)
            loops.winograd_output(
                view(products), bias, residual if residual is not None else out, residual is not None,
                m.height, m.width, first, count, out_half, out,
            )  # fmt: skip

    share(work, m.tile_rows)


def _winograd_backward(m, weight, factor, grad, need_weight, grad_map):
    """Adds the gradient of the modulated map into grad_map, unless that is None; returns the weight's, or None."""
    k = weight.shape[0]
    rows = view(grad).reshape(-1, k)
    transformed = _winograd_weight(weight, np.float32(1))
    tiles, step = m.width // 2, m.piece(k)

    def work(part, begin, end):
        lines, half = m.scratch()
        out_half = np.empty((8, k), np.float32)
        total = None
        edges = np.zeros((2, m.width, m.channels), np.float32)
        for first in range(begin, end, step):
            count = min(step, end - first)
            g_tensor, g = buffer(16, count * tiles, k)
            loops.winograd_output_grad(rows, factor, m.height, m.width, first, count, out_half, g)
            v_tensor, v = buffer(16, count * tiles, m.channels)
            if need_weight:
                loops.winograd_input(*m.source, *m.geometry, first, count, lines, half, v)
                product = paddle.matmul(g_tensor, v_tensor, transpose_x=True)
                total = product if total is None else total.add_(product)
            if grad_map is None:
                continue
            v_tensor = paddle.matmul(g_tensor, transformed)
            loops.winograd_input_grad(
                view(v_tensor), m.height, m.width, first, count, lines, grad_map,
                first > begin or begin == 0, first + count < end or end == m.tile_rows, edges[0], edges[1],
            )  # fmt: skip
        return begin, end, edges, total

    results = share(work, m.tile_rows)
    for begin, end, edges, _ in results if grad_map is not None else ():
        lines = grad_map.reshape(-1, m.width, m.channels)
        if begin > 0 and 2 * begin % m.height:
            lines[2 * begin - 1] += edges[0]
        if end < m.tile_rows and 2 * end % m.height:
            lines[2 * end] += edges[1]
    if not need_weight:
        return None
    total = results[0][3]
    for result in results[1:]:
        total = total.add_(result[3])
    out_tensor, out = buffer(*weight.shape)
    flat, source = out.reshape(k, m.channels, 9), view(total)
    share(lambda part, b, e: loops.winograd_weight_grad(source[:, b:e], flat[b:e]), k)
    return out_tensor


def _by_window(m, k):
    """Whether permuting the weight, so that windows are copied as vectors, costs less than it gains."""
    return m.size > 1 and m.images * m.out_area > 2 * k


def _flat_weight(weight, by_window):
    """The weight as a matrix [K, columns]."""
    k, channels, size = weight.shape[:3]
    if not by_window:
        return weight.reshape([k, -1])
    tensor, out = buffer(k, size * size * channels)
    loops.filters_by_window(view(weight).reshape(k, channels, -1), out.reshape(k, -1, channels))
    return tensor


def _direct_forward(m, weight, factor, bias, residual, out):
    k = weight.shape[0]
    by_window = _by_window(m, k)
    flat = _flat_weight(weight, by_window)
    pixels = m.images * m.out_area

    def work(part, begin, end, rows):
        for first in range(begin, end, rows):
            last = min(end, first + rows)
            col_tensor, col = buffer(last - first, flat.shape[1])
            loops.columns(*m.source, *m.geometry, *m.window, first, by_window, col)
            product = view(paddle.matmul(col_tensor, flat, transpose_y=True))
            np.multiply(product, factor, out=out[first:last])
            out[first:last] += bias
            if residual is not None:
                out[first:last] += residual[first:last]

    if pixels < WINOGRAD_PIXELS:  # a few rows against large weights: the product's own threads share it better
        work(0, 0, pixels, pixels)
        return
    rows = max(FEWEST_TILES, PIECE // (4 * (flat.shape[1] + k)))
    share(lambda part, b, e: work(part, b, e, rows), pixels)


def _direct_backward(m, weight, factor, grad, need_weight, grad_map):
    """Adds the gradient of the modulated map into grad_map, unless that is None; returns the weight's, or None."""
    k = weight.shape[0]
    by_window = _by_window(m, k)
    flat = _flat_weight(weight, by_window)
    tensor = grad.reshape([-1, k])
    if factor != 1:
        tensor = tensor * float(factor)
    values = view(grad).reshape(m.images, -1)
    # the photos' half of a batch has no gradient when D serves G's step
    images = [i for i in range(m.images) if values[i].any()]
    reach = -(-(m.size - 1) // m.stride)  # output rows above that touch the map's rows below a cut

    def work(image, begin, end, rows):
        """Output rows [begin, end) of an image, and the map's rows from the first one's window to the next part's."""
        low = 0 if begin == 0 else begin * m.stride - m.pad
        high = m.height if end == m.out_height else end * m.stride - m.pad
        total = None
        offset, stop = image * m.out_area, end * m.out_width
        start = begin * m.out_width
        if grad_map is not None:
            start = max(0, begin - reach) * m.out_width
        for first in [*range(start, begin * m.out_width, rows), *range(begin * m.out_width, stop, rows)]:
            own = first >= begin * m.out_width
            last = min(stop if own else begin * m.out_width, first + rows)
            g = tensor[offset + first : offset + last]
            if need_weight and own:
                col_tensor, col = buffer(last - first, flat.shape[1])
                loops.columns(*m.source, *m.geometry, *m.window, offset + first, by_window, col)
                product = paddle.matmul(g, col_tensor, transpose_x=True)
                total = product if total is None else total.add_(product)
            if grad_map is not None:
                back = view(paddle.matmul(g, flat))
                window = (offset + first, by_window, low, high)
                loops.columns_grad(back, m.height, m.width, *m.window, *window, grad_map)
        return total

    rows = max(FEWEST_TILES, PIECE // (8 * flat.shape[1]))
    if m.images * m.out_area < WINOGRAD_PIXELS:
        results = [work(image, 0, m.out_height, m.out_area) for image in images]
    elif len(images) >= THREADS:
        parts = share(lambda _, b, e: [work(image, 0, m.out_height, rows) for image in images[b:e]], len(images))
        results = [total for part in parts for total in part]
    else:
        results = []
        for image in images:
            results += share(lambda _, b, e, image=image: work(image, b, e, rows), m.out_height)
    if not need_weight:
        return None
    if not results:
        return paddle.zeros(weight.shape)
    total = results[0]
    for more in results[1:]:
        total = total.add_(more)
    if not by_window:
        return total.reshape(weight.shape)
    out_tensor, out = buffer(*weight.shape)
    area = m.size**2
    loops.filters_by_window(view(total).reshape(k, area, -1), out.reshape(k, -1, area))
    return out_tensor


class ModulatedConv(PyLayer):
    """scale * convolution(act((x - mean) * a[index] + b[index])) + bias + residual, the activations padded with 0."""

    @staticmethod
    def forward(ctx, x, mean, table_a, table_b, weight, bias, residual, scale, spec):
        """
        Args:
            x: [N,h,w,C]. mean: [1,C] or [N,C]. table_a, table_b: [P,C]. weight: [K,C,s,s]. bias: [K] or None.
            residual: like the result, or None.
            scale: a number, [], that multiplies the convolution, or None for 1.
            spec: dict of index (int32 [N*H*W], the table row of each pixel), up (x is upsampled by 2 first), slope (of
                the activation below 0), stride and pad (default: 1 and "same").

        Returns:
            [N,H',W',K].
        """
        x, mean, table_a, table_b, weight = (contiguous(t) for t in (x, mean, table_a, table_b, weight))
        m = _Map(x, mean, table_a, table_b, weight.shape[2], **spec)
        k = weight.shape[0]
        out_tensor, out = buffer(m.images, m.out_height, m.out_width, k)
        offset = np.zeros(k, np.float32) if bias is None else view(bias)
        added = None
        if residual is not None:
            residual = contiguous(residual)
            added = view(residual).reshape(-1, k)
        forward = _winograd_forward if m.takes_winograd else _direct_forward
        ctx.factor = np.float32(1 if scale is None else scale.item())
        forward(m, weight, ctx.factor, offset, added, out.reshape(-1, k))
        ctx.save_for_backward(x, mean, table_a, table_b, weight)
        ctx.spec = spec
        inputs = (x, mean, table_a, table_b, weight, bias, residual, scale)
        ctx.needs = [None if t is None else not t.stop_gradient for t in inputs]
        return out_tensor

    @staticmethod
    def backward(ctx, grad):
        x, mean, table_a, table_b, weight = ctx.saved_tensor()
        grad = contiguous(grad)
        m = _Map(x, mean, table_a, table_b, weight.shape[2], **ctx.spec)
        k = weight.shape[0]
        need_x, need_mean, need_a, need_b, need_weight, need_bias, need_residual, need_scale = ctx.needs
        need_map = need_x or need_mean or need_a or need_b
        grad_map = zeros(m.pixels, m.channels)[1] if need_map else None
        backward = _winograd_backward if m.takes_winograd else _direct_backward
        grad_weight = backward(m, weight, ctx.factor, grad, need_weight or need_scale, grad_map)
        grads = m.gradients(grad_map, need_x, need_mean, need_a, need_b) if need_map else [None] * 4
        grads.append(grad_weight if need_weight else None)
        if need_bias is not None:
            grads.append(column_sum(grad.reshape([-1, k])) if need_bias else None)
        if need_residual is not None:
            grads.append(grad if need_residual else None)
        if need_scale is not None:  # the convolution is linear in the weight: its own gradient tells the scale's
            grads.append(paddle.to_tensor(np.float32(dot(grad_weight, weight) / ctx.factor)) if need_scale else None)
        return tuple(grads)


def identity(x):
    """The modulation that leaves x [N,H,W,C] as it is."""
    channels = x.shape[3]
    zero = paddle.zeros([1, channels])
    return zero, paddle.ones([1, channels]), zero, np.zeros(x.size // channels, np.int32)


def conv(x, layer, modulation=None, slope=1.0, up=False, residual=None, weight=None, with_bias=True):
    """layer(act((x - mean) * a + b)) of a `Conv2D` on [N,H,W,C].

    Args:
        modulation: mean, a, b and index as `ModulatedConv` takes them; None for x itself.
        up: x is upsampled by 2 first.
        residual: added to the result.
        weight: used instead of the layer's; with_bias: whether its bias is added.
    """
    mean, a, b, index = modulation or identity(x)
    own_weight, sigma = layer.weight_and_sigma()
    scale = None if sigma is None else 1 / sigma
    bias = layer.bias if with_bias else None
    spec = {"index": index, "up": up, "slope": slope, "stride": layer.stride, "pad": layer.padding}
    return ModulatedConv.apply(x, mean, a, b, own_weight if weight is None else weight, bias, residual, scale, spec)


class Modulate(PyLayer):
    """act((x - mean) * a[index] + b[index]) as a map of its own, for losses on it."""

    @staticmethod
    def forward(ctx, x, mean, table_a, table_b, spec):
        """Arguments and result as `ModulatedConv`'s, without the convolution."""
        x, mean, table_a, table_b = (contiguous(t) for t in (x, mean, table_a, table_b))
        m = _Map(x, mean, table_a, table_b, 1, **spec)
        out_tensor, out = buffer(*x.shape)
        out, area = out.reshape(-1, m.channels), m.height * m.width
        share(lambda part, b, e: loops.modulated(*m.source, m.slope, area, b, e, out), m.pixels)
        ctx.save_for_backward(x, mean, table_a, table_b)
        ctx.spec = spec
        ctx.needs = [not t.stop_gradient for t in (x, mean, table_a, table_b)]
        return out_tensor

    @staticmethod
    def backward(ctx, grad):
        x, mean, table_a, table_b = ctx.saved_tensor()
        grad = contiguous(grad)
        m = _Map(x, mean, table_a, table_b, 1, **ctx.spec)
        return tuple(m.gradients(view(grad).reshape(-1, m.channels), *ctx.needs))


def modulate(x, modulation, slope):
    """act((x - mean) * a + b) of x [N,H,W,C] as a map of its own; mean, a, b and index as `conv` takes them."""
    mean, a, b, index = modulation
    return Modulate.apply(x, mean, a, b, {"index": index, "slope": slope})


class ReluDistance(PyLayer):
    """mean |relu(x) - relu(target)| of two maps [N,H,W,C]; the target gets no gradient."""

    @staticmethod
    def forward(ctx, x, target):
        """x, target [N,H,W,C] -> the distance [], float32."""
        x, target = contiguous(x), contiguous(target)
        channels = x.shape[3]
        a, b = (view(t).reshape(-1, channels) for t in (x, target))
        total = sum(share(lambda part, first, last: loops.relu_distance(a, b, first, last), len(a)))
        ctx.save_for_backward(x, target)
        return paddle.to_tensor(np.float32(total / a.size))

    @staticmethod
    def backward(ctx, grad):
        x, target = ctx.saved_tensor()
        channels = x.shape[3]
        a, b = (view(t).reshape(-1, channels) for t in (x, target))
        scale = np.float32(float(grad) / a.size)
        out_tensor, out = buffer(*x.shape)
        out = out.reshape(-1, channels)
        share(lambda part, first, last: loops.relu_distance_grad(a, b, scale, first, last, out), len(a))
        return out_tensor, None


class MaxPool(PyLayer):
    """2x2 maxima of [N,H,W,C], H and W even."""

    @staticmethod
    def forward(ctx, x):
        """x [N,H,W,C] -> [N,H/2,W/2,C]."""
        x = contiguous(x)
        n, h, w, c = x.shape
        out_tensor, out = buffer(n, h // 2, w // 2, c)
        data = view(x)
        share(lambda part, b, e: loops.pool_max(data[:, 2 * b : 2 * e], out[:, b:e]), h // 2)
        ctx.save_for_backward(x, out_tensor)
        return out_tensor

    @staticmethod
    def backward(ctx, grad):
        x, pooled = ctx.saved_tensor()
        grad = contiguous(grad)
        out_tensor, out = buffer(*x.shape)
        g, data, top = view(grad), view(x), view(pooled)

        def work(part, b, e):
            loops.pool_max_grad(g[:, b:e], data[:, 2 * b : 2 * e], top[:, b:e], out[:, 2 * b : 2 * e])

        share(work, g.shape[1])
        return out_tensor


def dot(a, b):
    """Sum of the products of two tensors' entries, a float of float64 accuracy."""
    a, b = (view(contiguous(t)).ravel() for t in (a, b))
    return sum(share(lambda part, begin, end: loops.dot(a, b, begin, end), len(a)))


def group_sum(maps):
    """Sum of a tensor [G, rows, C] over rows; see `column_sum`."""
    return paddle.concat([column_sum(rows).unsqueeze(0) for rows in maps])


def column_sum(rows):
    """Sum of a tensor [rows, C] over its rows, accumulated in float64."""
    return _totals(loops.column_sum, rows)


def column_dot(a, b):
    """Sum of the products of two tensors [rows, C] over their rows, accumulated in float64."""
    return _totals(loops.column_dot, a, b)


def _totals(kernel, *maps):
    arrays = [view(contiguous(rows)) for rows in maps]

    def work(part, begin, end):
        total = np.zeros(arrays[0].shape[1])
        kernel(*arrays, begin, end, total)
        return total

    return paddle.to_tensor(sum(share(work, len(arrays[0]))).astype(np.float32))


class Moments(PyLayer):
    """Mean and biased variance of each channel, accumulated in float64."""

    @staticmethod
    def forward(ctx, x, counts=None):
        """x [G, rows, C] -> mean, var, each [G, C], over the rows of each group.

        Args:
            counts: a list, to take them over the rows of all processes; the number of these rows is appended to it.
        """
        x = contiguous(x)
        groups, rows, channels = x.shape
        data = view(x)

        def work(part, begin, end):
            sums = np.zeros((2, groups, channels))
            for g in range(groups):
                loops.moments(data[g], begin, end, sums[0, g], sums[1, g])
            return sums

        parts = share(work, rows)
        total = sum(parts[1:], parts[0])
        ctx.rows, ctx.is_shared = rows, counts is not None
        if ctx.is_shared:
            total = group.summed(np.append(total, rows), "statistics")
            ctx.rows, total = total[-1], total[:-1].reshape(2, groups, channels)
            counts.append(ctx.rows)
        total = total / ctx.rows
        mean = total[0]
        var = np.maximum(total[1] - mean * mean, 0)
        ctx.save_for_backward(x)
        ctx.mean = mean
        return paddle.to_tensor(mean.astype(np.float32)), paddle.to_tensor(var.astype(np.float32))

    @staticmethod
    def backward(ctx, grad_mean, grad_var):
        (x,) = ctx.saved_tensor()
        groups, rows, channels = x.shape
        grad = np.stack([grad_mean.numpy(), grad_var.numpy()]).astype(np.float64)
        if ctx.is_shared:  # every process's losses depend on these moments
            grad = group.summed(grad, "statistics")
        scale = 2 / ctx.rows * grad[1]
        shift = grad[0] / ctx.rows - scale * ctx.mean
        data = view(x)
        out_tensor, out = buffer(*x.shape)

        def work(part, begin, end):
            for g in range(groups):
                loops.affine(data[g], scale[g], shift[g], begin, end, out[g])

        share(work, rows)
        return out_tensor


class PatternTables(PyLayer):
    """(1 + gamma) * scale and beta of SPADE for each distinct neighbourhood: its convolutions on numbered windows.

    The second convolutions are linear in the windows of the first: each distinct inner window is multiplied by the
    filter's positions once, and an outer window adds up area rows of the products. There are fewer inner windows than
    outer ones (at 256x256 a third), so these are fewer multiplications than one product for each outer window.
    """

    @staticmethod
    def forward(ctx, w_shared, b_shared, w_gamma, b_gamma, w_beta, b_beta, scale, patterns):
        """
        Args:
            w_shared: [H, semantic_nc, s, s]; b_shared [H]; w_gamma, w_beta: [C, H, s, s]; b_gamma, b_beta: [C].
            scale: [1, C].
            patterns: `semantics.Patterns`.

        Returns:
            (1 + gamma) * scale and beta, each [P, C].
        """
        hidden_tensor, hidden = PatternTables.hidden(w_shared, b_shared, patterns)
        weights = [contiguous(w) for w in (w_gamma, w_beta)]
        outs = [buffer(len(patterns.outer), w.shape[0]) for w in weights]
        affine = (np.float32(1), view(scale)[0]), (np.float32(0), np.ones(w_beta.shape[0], np.float32))

        def work(part, begin, end):
            for first, last in PatternTables.channels(patterns, begin, end):
                for w, b, (shift, factor), (_, out) in zip(weights, (b_gamma, b_beta), affine, outs, strict=True):
                    filters = PatternTables.filters(w, first, last)
                    products = paddle.matmul(hidden_tensor, filters, transpose_y=True)
                    loops.window_sums(view(products), patterns.outer, view(b), shift, factor, first, last, out)

        share(work, w_gamma.shape[0])
        ctx.save_for_backward(w_shared, b_shared, *weights, scale, outs[0][0])
        ctx.patterns, ctx.need_scale = patterns, not scale.stop_gradient
        return outs[0][0], outs[1][0]

    @staticmethod
    def table(w_shared, patterns):
        """What each code adds to the hidden layer at each window position: [area, codes + 1, H]."""
        w = view(contiguous(w_shared))
        w = w.reshape(w.shape[0], w.shape[1], -1)  # [H, semantic_nc, area]
        table = np.zeros((w.shape[2], len(patterns.labels) + 1, w.shape[0]), np.float32)
        table[:, :-1] = w[:, patterns.labels].transpose(2, 1, 0)
        if patterns.edges is not None:
            table[:, :-1] += patterns.edges[:, None] * w[:, -1].T[:, None]
        return table

    @staticmethod
    def hidden(w_shared, b_shared, patterns):
        """The hidden layer of each inner window, and of the one outside the map: a tensor [Q + 1, H] and its array."""
        table = PatternTables.table(w_shared, patterns)
        tensor, out = buffer(len(patterns.inner) + 1, table.shape[2])
        loops.window_hidden(table, view(b_shared), patterns.inner, out)
        return tensor, out

    @staticmethod
    def channels(patterns, begin, end):
        """Ranges of channels whose products with all inner windows are about a core's cache."""
        count, area = len(patterns.inner) + 1, patterns.outer.shape[1]
        step = max(FEWEST_CHANNELS, TABLE_PIECE // (4 * count * area))
        return [(first, min(end, first + step)) for first in range(begin, end, step)]

    @staticmethod
    def filters(weight, first, last):
        """Filters [first, last) of [C, H, s, s] as a matrix [s * s * count, H]."""
        w = view(weight).reshape(weight.shape[0], weight.shape[1], -1)
        tensor, out = buffer(w.shape[2] * (last - first), w.shape[1])
        loops.window_filters(w, first, last, out)
        return tensor

    @staticmethod
    def backward(ctx, grad_gamma, grad_beta):
        w_shared, b_shared, *weights, scale_tensor, table = ctx.saved_tensor()
        patterns, scale = ctx.patterns, view(scale_tensor)[0]
        hidden_tensor, hidden = PatternTables.hidden(w_shared, b_shared, patterns)
        grads = [contiguous(g) for g in (grad_gamma, grad_beta)]
        outs = [buffer(*w.shape) for w in weights]
        area = patterns.outer.shape[1]
        factors = scale, np.ones_like(scale)

        def work(part, begin, end):
            back = paddle.zeros(hidden_tensor.shape)
            for first, last in PatternTables.channels(patterns, begin, end):
                for w, g, factor, (_, out) in zip(weights, grads, factors, outs, strict=True):
                    spread_tensor, spread = zeros(len(hidden), area * (last - first))
                    loops.window_sums_grad(view(g), patterns.outer, factor, first, last, spread)
                    product = paddle.matmul(spread_tensor, hidden_tensor, transpose_x=True)
                    loops.window_filters_grad(view(product), first, last, out.reshape(*out.shape[:2], area))
                    back.add_(paddle.matmul(spread_tensor, PatternTables.filters(w, first, last)))
            return back

        parts = share(work, weights[0].shape[0])
        grad_hidden = view(parts[0])
        for more in parts[1:]:
            grad_hidden += view(more)
        grad_table = np.zeros_like(PatternTables.table(w_shared, patterns))
        grad_bias = np.zeros(b_shared.shape, np.float32)
        loops.window_hidden_grad(grad_hidden, hidden, patterns.inner, grad_table, grad_bias)
        d_shared_tensor, d_shared = zeros(*w_shared.shape)
        flat = d_shared.reshape(d_shared.shape[0], d_shared.shape[1], -1)
        for code, label in enumerate(patterns.labels):  # a label may stand twice, with and without an edge
            flat[:, label] += grad_table[:, code].T
        if patterns.edges is not None:
            flat[:, -1] += np.tensordot(patterns.edges, grad_table[:, :-1], (0, 1)).T
        grad_scale = column_dot(grads[0], table).unsqueeze(0) / scale_tensor if ctx.need_scale else None
        return (
            d_shared_tensor, paddle.to_tensor(grad_bias), outs[0][0], column_sum(grads[0]) * scale_tensor[0],
            outs[1][0], column_sum(grads[1]), grad_scale,
        )  # fmt: skip
