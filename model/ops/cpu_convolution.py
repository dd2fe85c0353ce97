"""Modulated convolutions on CPUs, exact, forward and backward.

Feature maps are [N,H,W,C] here. A layer is processed in pieces that stay in the cache, on one thread a core: compiled
loops (`model.ops.loops`) fuse normalisation, modulation, activation and the window transform, and the products are
Paddle's. Nothing between two convolutions is kept for the backward pass but the convolutions' own inputs and the small
tables; the rest is computed again, which is cheaper than its memory traffic.
"""

import numpy as np
import paddle
from paddle.autograd import PyLayer

from model.ops import loops, winograd
from model.ops.cpu_reductions import column_sum, dot, group_sum
from model.ops.memory import buffer, contiguous, copied, view, zeros
from model.ops.threads import parallel_for

PIECE = 6 << 20  # bytes of a piece's transformed input and output together
FEWEST_TILES = 128  # of a piece: with fewer, reading the weights outweighs the products
FEWEST_PIXELS = 1024  # of the batch, from which each thread has a part of its own
LARGE_TILE = 4
# By kernel size and tile, pixels of the batch from which Winograd's form pays for its transforms,
WINOGRAD_PIXELS = {(3, LARGE_TILE): 4096, (3, 2): 512, (4, 2): 512}
WINOGRAD_CHANNELS = 32  # and input channels


class _Modulated:
    """A modulated map as kernels read it: x, its tables, each pixel's table row, and the geometry."""

    def __init__(self, x, mean, table_a, table_b, size, index, up=False, slope=1.0, stride=1, pad=None):
        self.shape = n, h, w, c = tuple(x.shape)
        self.height, self.width = (2 * h, 2 * w) if up else (h, w)
        self.pixels, self.channels = n * self.height * self.width, c
        self.size, self.stride, self.pad = size, stride, size // 2 if pad is None else pad
        self.out_height = (self.height + 2 * self.pad - size) // stride + 1
        self.out_width = (self.width + 2 * self.pad - size) // stride + 1
        self.images, self.out_pixels = n, n * self.out_height * self.out_width
        self.is_plain = index is None and slope == 1 and not up
        if index is None:
            index = np.zeros(self.pixels, np.int32)
        tables = view(mean), view(table_a), view(table_b)
        self.source = loops.Source(
            view(x).reshape(-1, c), *tables, index, self.height, self.width, up, np.float32(slope)
        )
        self.window = loops.Window(size, stride, self.pad, self.out_height, self.out_width)
        if index.shape != (self.pixels,) or index.dtype != np.int32:
            raise ValueError(f"index is {index.dtype}{index.shape}, expected int32 ({self.pixels},)")

    def gradients(self, grad, need_x, need_mean, need_a, need_b):
        """Gradients of x, mean and the tables from the modulated map's [pixels, C]; None for those not needed."""
        if self.is_plain:
            return [grad.reshape(self.shape), None, None, None]
        grad, means, (tensor, gx) = view(grad), len(self.source.means), buffer(*self.shape)
        gx = gx.reshape(-1, self.channels)
        shape = len(self.source.table_a) if need_a or need_b else 0, self.channels

        def work(part, begin, end):
            tables = buffer(*shape), buffer(*shape)
            loops.modulation_grad(grad, self.source, begin, end, gx, *(array for _, array in tables))
            return tables

        (tables, *others), rows = parallel_for(work, len(gx), gx.size), shape[0]

        def add(part, begin, end):
            for other in others:
                for (_, total), (_, more) in zip(tables, other, strict=True):
                    total[begin:end] += more[begin:end]

        if others and rows:
            parallel_for(add, rows, rows * self.channels)
        (grad_a, _), (grad_b, _) = tables
        return [
            tensor if need_x else None,
            -group_sum(tensor.reshape([means, -1, self.channels])) if need_mean else None,
            grad_a if need_a else None,
            grad_b if need_b else None,
        ]

    def rows(self, first, last):
        """Pixels [first, last) of the modulated map as rows."""
        tensor, out = buffer(last - first, self.channels)
        loops.columns(self.source, loops.Window(1, 1, 0, self.height, self.width), first, True, out)
        return tensor

    def columns(self, first, last, by_window):
        """The windows of output pixels [first, last) as rows."""
        tensor, out = buffer(last - first, self.channels * self.size**2)

        def work(part, begin, end):
            loops.columns(self.source, self.window, first + begin, by_window, out[begin:end])

        self._share(work, len(out))
        return tensor

    def add_columns(self, grad, first, by_window, low, high, grad_map):
        """Adds the gradient of such rows into the map's, where its rows are in [low, high)."""

        def work(part, begin, end):
            place = (first, by_window, low + begin, low + end)
            loops.columns_grad(grad, self.height, self.width, self.window, *place, grad_map)

        self._share(work, high - low)

    def _share(self, work, count):
        """All threads work for a small map, of which no thread has a part of its own."""
        if self.is_small:
            parallel_for(work, count)
        else:
            work(0, 0, count)

    @property
    def is_small(self):
        """A few rows against large weights: the products' own threads share them better."""
        return self.out_pixels < FEWEST_PIXELS

    def form(self, exact=False):
        """The form of Winograd's that pays for its transforms, None for a direct sum; `exact` rules out large tiles."""
        if self.stride > 1 or self.channels < WINOGRAD_CHANNELS:
            return None
        for (size, tile), pixels in WINOGRAD_PIXELS.items():
            fits = self.window.out_height % tile == 0 and self.window.out_width % tile == 0
            if size == self.size and fits and self.out_pixels >= pixels and not (exact and tile == LARGE_TILE):
                return winograd.form(size, tile)
        return None

    def pieces(self, form, out_channels):
        """Tile rows of all images, and those of a piece."""
        tiles = max(FEWEST_TILES, PIECE // (4 * form.size**2 * (self.channels + out_channels)))
        rows = self.images * self.window.out_height // form.tile
        return rows, max(1, form.tile * tiles // self.window.out_width)


def _winograd_weight(weight, form, factor):
    """factor * G w G^T as a tensor [n^2, K, C]."""
    k, channels = weight.shape[:2]
    tensor, out = buffer(form.size**2, k, channels)
    w = view(weight).reshape(k, channels, -1)
    parallel_for(lambda part, b, e: winograd.weight_tiles(w, form.weight, factor, b, e, out), k)
    return tensor


def _winograd_forward(m, form, weight, factor, bias, residual, out):
    k = weight.shape[0]
    transformed = _winograd_weight(weight, form, factor)
    tiles, (rows, step) = m.window.out_width // form.tile, m.pieces(form, k)

    def work(part, begin, end):
        for first in range(begin, end, step):
            count = min(step, end - first)
            v_tensor, v = buffer(len(transformed), count * tiles, m.channels)
            winograd.input_tiles(m.source, m.window, form.input, first, count, v)
            products = paddle.matmul(v_tensor, transformed, transpose_y=True)
            added = out if residual is None else residual
            place = (m.window.out_width, first, count)
            winograd.output_tiles(view(products), form.output, bias, added, residual is not None, *place, out)

    parallel_for(work, rows)


def _winograd_backward(m, form, weight, factor, grad, need_weight, grad_map):
    """Adds the gradient of the modulated map into grad_map, unless that is None; returns the weight's, or None."""
    k = weight.shape[0]
    values = view(grad).reshape(-1, k)
    transformed = _winograd_weight(weight, form, np.float32(1))
    tiles, (rows, step) = m.window.out_width // form.tile, m.pieces(form, k)

    def shared(row):
        """The first of the map's lines that the windows above a tile row share with its own; -s at an image's edge."""
        image, t = divmod(row, m.window.out_height // form.tile)
        return image * m.height + max(0, form.tile * t - m.pad) if t else -form.kernel

    def work(part, begin, end):
        total = None
        edges = np.zeros((2, form.kernel - 1, m.width, m.channels), np.float32)
        cuts = shared(begin), shared(end)
        for first in range(begin, end, step):
            count = min(step, end - first)
            g_tensor, g = buffer(len(transformed), count * tiles, k)
            winograd.output_tiles_grad(values, form.output_adjoint, factor, m.window.out_width, first, count, g)
            if need_weight:
                v_tensor, v = buffer(len(transformed), count * tiles, m.channels)
                winograd.input_tiles(m.source, m.window, form.input, first, count, v)
                product = paddle.matmul(g_tensor, v_tensor, transpose_x=True)
                total = product if total is None else total.add_(product)
            if grad_map is None:
                continue
            spread = view(paddle.matmul(g_tensor, transformed))
            place = (m.height, m.width, m.window, first, count)
            winograd.input_tiles_grad(spread, form.input_adjoint, *place, *cuts, edges, grad_map)
        return zip(cuts, edges, strict=True), total

    results = parallel_for(work, rows)
    for edges, _ in results if grad_map is not None else ():
        lines = grad_map.reshape(-1, m.width, m.channels)
        for cut, edge in edges:
            if cut >= 0:
                last = min(cut + len(edge), (cut // m.height + 1) * m.height)  # not the next image's
                lines[cut:last] += edge[: last - cut]
    if not need_weight:
        return None
    out_tensor, out = buffer(*weight.shape)
    flat, (total, *others) = out.reshape(k, m.channels, -1), [view(total) for _, total in results]

    def finish(part, begin, end):
        for other in others:
            total[:, begin:end] += other[:, begin:end]
        winograd.weight_tiles_grad(total, form.weight_adjoint, begin, end, flat)

    parallel_for(finish, k)
    return out_tensor


def _by_window(m, k):
    """Whether permuting the weight, so that windows are copied as vectors, costs less than it gains."""
    return m.size > 1 and m.out_pixels > 2 * k


def _flat_weight(weight, by_window):
    """The weight as a matrix [K, columns]."""
    k, channels, size = weight.shape[:3]
    if not by_window:
        return weight.reshape([k, -1])
    tensor, out = buffer(k, size * size * channels)
    _swap(view(weight).reshape(k, channels, -1), out.reshape(k, -1, channels))
    return tensor


def _swap(source, out):
    """Transposes each of k matrices, [k, a, b] -> [k, b, a]."""

    def work(part, begin, end):
        out[begin:end] = source[begin:end].transpose(0, 2, 1)

    parallel_for(work, len(out), out.size)


def _direct_forward(m, weight, factor, bias, residual, out):
    k = weight.shape[0]
    by_window = _by_window(m, k)
    flat = _flat_weight(weight, by_window)

    def work(part, begin, end, rows):
        for first in range(begin, end, rows):
            last = min(end, first + rows)
            col_tensor = m.columns(first, last, by_window)
            product = view(paddle.matmul(col_tensor, flat, transpose_y=True))
            np.multiply(product, factor, out=out[first:last])
            out[first:last] += bias
            if residual is not None:
                out[first:last] += residual[first:last]

    if m.is_small:
        work(0, 0, m.out_pixels, m.out_pixels)
        return
    rows = max(FEWEST_TILES, PIECE // (4 * (flat.shape[1] + k)))
    parallel_for(lambda part, b, e: work(part, b, e, rows), m.out_pixels)


def _direct_backward(m, weight, factor, grad, need_weight, grad_map):
    """Adds the gradient of the modulated map into grad_map, unless that is None; returns the weight's, or None."""
    k = weight.shape[0]
    by_window = _by_window(m, k)
    flat = _flat_weight(weight, by_window)
    tensor = grad.reshape([-1, k])
    if factor != 1:
        tensor = tensor * float(factor)
    height, width, lines = m.window.out_height, m.window.out_width, m.images * m.window.out_height
    reach = -(-(m.size - 1) // m.stride)  # output rows above that touch the map's rows below a cut

    def own(row):
        """The first row of the map that belongs to this output row and those below it."""
        image, y = divmod(row, height)
        return image * m.height + (0 if y == 0 else y * m.stride - m.pad)

    def work(part, begin, end, rows):
        """Output rows [begin, end), and the map's rows from the first one's window to the next part's."""
        total = None
        above = begin - min(begin % height, reach) if grad_map is not None else begin
        cuts = [*range(above * width, begin * width, rows), *range(begin * width, end * width, rows), end * width]
        for first, last in zip(cuts[:-1], cuts[1:], strict=True):
            g = tensor[first:last]
            if need_weight and first >= begin * width:
                product = paddle.matmul(g, m.columns(first, last, by_window), transpose_x=True)
                total = product if total is None else total.add_(product)
            if grad_map is not None:
                m.add_columns(view(paddle.matmul(g, flat)), first, by_window, own(begin), own(end), grad_map)
        return total

    if m.is_small:
        results = [work(0, 0, lines, m.out_pixels)]
    else:
        rows = max(FEWEST_TILES, PIECE // (8 * flat.shape[1]))
        results = parallel_for(lambda part, b, e: work(part, b, e, rows), lines)
    if not need_weight:
        return None
    total = results[0]
    for more in results[1:]:
        total = total.add_(more)
    if not by_window:
        return total.reshape(weight.shape)
    out_tensor, out = buffer(*weight.shape)
    _swap(view(total).reshape(k, m.size**2, -1), out.reshape(k, -1, m.size**2))
    return out_tensor


def _is_narrow(m, k):
    """Whether a pixel's products with all taps of all filters are fewer numbers than the pixel's own."""
    return m.stride == 1 < m.size and k * m.size**2 < m.channels


def _taps(weight):
    """The weight [K, C, s, s] as a matrix [s * s * K, C], the last tap first: what a pixel adds to those around it."""
    w = view(weight)[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
    tensor, out = buffer(w.shape[0] * w.shape[1] * w.shape[2], w.shape[3])
    out.reshape(w.shape)[...] = w
    return tensor


def _results(tensor, m):
    """The map of a convolution's results [N,H',W',K], whose windows are the results that a pixel of `m` adds to."""
    nothing = paddle.zeros([1, tensor.shape[3]])
    return _Modulated(tensor, nothing, nothing + 1, nothing, m.size, None, pad=m.size - 1 - m.pad)


def _narrow_forward(m, weight, factor, bias, residual, tensor):
    taps, results = _taps(weight), _results(tensor, m)
    products_tensor, products = buffer(m.pixels, taps.shape[0])
    step = max(FEWEST_TILES, PIECE // (4 * (m.channels + taps.shape[0])))

    def multiply(part, begin, end):
        for first in range(begin, end, step):
            last = min(end, first + step)
            product = view(paddle.matmul(m.rows(first, last), taps, transpose_y=True))
            np.multiply(product, factor, out=products[first:last])

    def add(part, begin, end):
        width, height = results.width, results.height
        lines = out[begin * width : end * width]
        lines[...] = bias if residual is None else residual[begin * width : end * width] + bias
        images = range(begin // height, -(-end // height))
        pixels = slice(images[0] * m.height * m.width, (images[-1] + 1) * m.height * m.width)
        results.add_columns(products[pixels], pixels.start, True, begin, end, out)

    out = view(tensor).reshape(-1, weight.shape[0])
    values = 0 if results.is_small else m.pixels * m.channels  # whose loops share themselves
    parallel_for(multiply, m.pixels, values)
    parallel_for(add, m.images * results.height, values)


def _narrow_backward(m, weight, factor, grad, need_weight, grad_map):
    """As `_direct_backward`."""
    taps, results = _taps(weight), _results(grad, m)
    step = max(FEWEST_TILES, PIECE // (4 * (m.channels + taps.shape[0])))

    def work(part, begin, end):
        total = 0
        for first in range(begin, end, step):
            last = min(end, first + step)
            g = results.columns(first, last, True) * float(factor)
            if need_weight:
                total = total + paddle.matmul(g, m.rows(first, last), transpose_x=True)
            if grad_map is not None:
                grad_map[first:last] = view(paddle.matmul(g, taps))
        return total

    total = sum(parallel_for(work, m.pixels, 0 if results.is_small else m.pixels * m.channels))
    if not need_weight:
        return None
    size, k = m.size, weight.shape[0]
    out_tensor, out = buffer(*weight.shape)
    out[...] = view(total).reshape(size, size, k, -1)[::-1, ::-1].transpose(2, 3, 0, 1)
    return out_tensor


class _Images:
    """The images of a batch whose gradient is not 0: the photos' half has none when D serves G's step."""

    def __init__(self, grad):
        n = grad.shape[0]
        values = view(grad).reshape(n, -1)
        found = [i for i in range(n) if loops.has_values(values[i])] or [0]
        self.count, self.first, self.last = n, found[0], found[-1] + 1

    def of(self, tensor):
        """Their part of a tensor that has a row for each image."""
        is_all = len(tensor) < self.count or self.last - self.first == self.count
        return tensor if is_all else tensor[self.first : self.last]

    def source(self, spec):
        """`spec` for them."""
        if spec["index"] is None:
            return spec
        pixels = len(spec["index"]) // self.count
        return spec | {"index": spec["index"][self.first * pixels : self.last * pixels]}

    def whole(self, tensor, like):
        """The gradient of all images from theirs."""
        if tensor is None or tensor.shape == like.shape:
            return tensor
        result, out = zeros(*like.shape)
        out[self.first : self.last] = view(tensor)
        return result


class ModulatedConv(PyLayer):
    """scale * convolution(act((x - mean) * a[index] + b[index])) + bias + residual, the activations padded with 0."""

    @staticmethod
    def forward(ctx, x, mean, table_a, table_b, weight, bias, residual, scale, exact, spec):
        """
        Args:
            x: [N,h,w,C]. mean: [1,C] or [N,C]. table_a, table_b: [P,C]. weight: [K,C,s,s]. bias: [K] or None.
            residual: like the result, or None.
            scale: a number, [], that multiplies the convolution, or None for 1.
            exact: whether gradients are to be those of this very pass: activations that are rounded to the other side
                of 0 have another one, so that the pass must round as a direct sum does.
            spec: dict of index (int32 [N*H*W], the table row of each pixel, None for the first), up (x is upsampled by
                2 first), slope (of the activation below 0), stride and pad (default: 1 and "same").

        Returns:
            [N,H',W',K].
        """
        x, mean, table_a, table_b, weight = (contiguous(t) for t in (x, mean, table_a, table_b, weight))
        m = _Modulated(x, mean, table_a, table_b, weight.shape[2], **spec)
        k = weight.shape[0]
        out_tensor, out = buffer(m.images, m.out_height, m.out_width, k)
        offset = np.zeros(k, np.float32) if bias is None else view(bias)
        added = None
        if residual is not None:
            residual = contiguous(residual)
            added = view(residual).reshape(-1, k)
        ctx.factor = np.float32(1 if scale is None else scale.item())
        arguments = weight, ctx.factor, offset, added
        if _is_narrow(m, k):
            _narrow_forward(m, *arguments, out_tensor)
        elif form := m.form(exact):
            _winograd_forward(m, form, *arguments, out.reshape(-1, k))
        else:
            _direct_forward(m, *arguments, out.reshape(-1, k))
        ctx.save_for_backward(x, mean, table_a, table_b, weight)
        ctx.spec = spec
        inputs = (x, mean, table_a, table_b, weight, bias, residual, scale)
        ctx.needs = [None if t is None else not t.stop_gradient for t in inputs]
        return out_tensor

    @staticmethod
    def backward(ctx, grad):
        x, mean, table_a, table_b, weight = ctx.saved_tensor()
        grad_residual, images = grad, _Images(contiguous(grad))
        grad = images.of(contiguous(grad))
        m = _Modulated(images.of(x), images.of(mean), table_a, table_b, weight.shape[2], **images.source(ctx.spec))
        k = weight.shape[0]
        need_x, need_mean, need_a, need_b, need_weight, need_bias, need_residual, need_scale = ctx.needs
        need_map = need_x or need_mean or need_a or need_b
        map_tensor, grad_map = buffer(m.pixels, m.channels) if need_map else (None, None)
        if need_map:
            parallel_for(lambda part, b, e: grad_map[b:e].fill(0), m.pixels, grad_map.size)
        arguments = weight, ctx.factor, grad, need_weight or need_scale, grad_map
        if _is_narrow(m, k):
            grad_weight = _narrow_backward(m, *arguments)
        elif form := m.form():
            grad_weight = _winograd_backward(m, form, *arguments)
        else:
            grad_weight = _direct_backward(m, *arguments)
        grads = m.gradients(map_tensor, need_x, need_mean, need_a, need_b) if need_map else [None] * 4
        grads[:2] = images.whole(grads[0], x), images.whole(grads[1], mean)
        grads.append(grad_weight if need_weight else None)
        if need_bias is not None:
            grads.append(column_sum(grad.reshape([-1, k])) if need_bias else None)
        if need_residual is not None:
            grads.append(grad_residual if need_residual else None)
        if need_scale is not None:  # the convolution is linear in the weight: its own gradient tells the scale's
            grads.append(copied(dot(grad_weight, weight) / ctx.factor) if need_scale else None)
        return tuple(grads)


class Modulate(PyLayer):
    """act((x - mean) * a[index] + b[index]) as a map of its own, for losses on it."""

    @staticmethod
    def forward(ctx, x, mean, table_a, table_b, spec):
        """Arguments and result as `ModulatedConv`'s, without the convolution."""
        x, mean, table_a, table_b = (contiguous(t) for t in (x, mean, table_a, table_b))
        m = _Modulated(x, mean, table_a, table_b, 1, **spec)
        out_tensor, out = buffer(*x.shape)
        out = out.reshape(-1, m.channels)
        parallel_for(lambda part, b, e: loops.columns(m.source, m.window, b, True, out[b:e]), m.pixels)
        ctx.save_for_backward(x, mean, table_a, table_b)
        ctx.spec = spec
        ctx.needs = [not t.stop_gradient for t in (x, mean, table_a, table_b)]
        return out_tensor

    @staticmethod
    def backward(ctx, grad):
        x, mean, table_a, table_b = ctx.saved_tensor()
        images = _Images(contiguous(grad))
        grad = images.of(contiguous(grad))
        m = _Modulated(images.of(x), images.of(mean), table_a, table_b, 1, **images.source(ctx.spec))
        grads = m.gradients(grad.reshape([-1, m.channels]), *ctx.needs)
        return images.whole(grads[0], x), images.whole(grads[1], mean), *grads[2:]
