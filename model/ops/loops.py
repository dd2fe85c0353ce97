"""Compiled loops over NumPy arrays for CPUs: what lies between matrix products.

Paddle's CPU operators outside of matrix products run on one thread, one pass over memory each; these fuse the passes,
release the interpreter lock and are called from a small pool of threads. Every array is float32 and C-contiguous unless
said otherwise. Inner loops run over channels, which lets the compiler vectorise them.
"""

from typing import NamedTuple

import numpy as np
from numba import boolean, float32, int64, types

from model.ops.jit import SUMS, Cube, Doubles, Matrix, Numbers, Tensor, Vector, Windows, compiled, inner


class Source(NamedTuple):
    """A map y = act((x - mean) * a[index] + b[index]) as the loops read it.

    Attributes:
        x: [N*h*w, C]. means: [1, C] or [N, C]. table_a, table_b: [P, C].
        index: int32 [N*height*width], the table row of each pixel.
        height, width: of the map; with `up`, x is half the size and is upsampled by nearest neighbour.
        slope: of the activation below 0.
    """

    x: np.ndarray
    means: np.ndarray
    table_a: np.ndarray
    table_b: np.ndarray
    index: np.ndarray
    height: int
    width: int
    up: bool
    slope: np.float32


class Window(NamedTuple):
    """A convolution's size x size windows over a map, and the pixels of its result."""

    size: int
    stride: int
    pad: int
    out_height: int
    out_width: int


SOURCE = types.NamedTuple((*[Matrix] * 4, Numbers, int64, int64, boolean, float32), Source)
WINDOW = types.NamedUniTuple(int64, 5, Window)


@inner
def modulated_span(source, image, y, first, last, out, at):
    """Pixels [first, last) of an image's row of act((x - mean) * a + b) into places of out from `at` on.

    Args:
        y: the row; one outside the image is zero.
        out: [parts, places / parts, C], interleaved: of two parts, the first holds the even places.
    """
    x, means, table_a, table_b, index, height, width, up, slope = source
    if y < 0 or y >= height:
        out[:] = 0
        return
    channels = x.shape[1]
    mean = means[min(image, means.shape[0] - 1)]
    start = (image * height + y) * width
    place = (image * (height // 2) + y // 2) * (width // 2) if up else start
    parts = out.shape[0]
    part = at % parts
    within = at // parts
    for i in range(first, last):
        row = x[place + (i // 2 if up else i)]
        p = index[start + i]
        a = table_a[p]
        b = table_b[p]
        o = out[part, within]
        for c in range(channels):
            value = (row[c] - mean[c]) * a[c] + b[c]
            o[c] = max(value, slope * value)
        part += 1
        if part == parts:
            part = 0
            within += 1


@compiled(SOURCE, WINDOW, int64, boolean, Matrix)
def columns(source, window, begin, by_window, out):
    """The modulated map's size x size windows as rows, zero outside the map.

    Args:
        source: the map, a `Source`. window: a `Window`. begin: the first output pixel.
        by_window: whether out's columns have the window position outer and the channel inner, or the other way round.
        out: [pixels, size * size * C].
    """
    size, stride, pad, out_height, out_width = window
    height, width, channels = source.height, source.width, source.x.shape[1]
    area = size * size
    span = size * channels
    lines = np.zeros((size, 1, width + 2 * pad, channels), np.float32)
    held = np.empty(size, np.int64)  # the rows that they are
    for k in range(size):
        held[k] = -1
    rows = out.reshape(1, out.shape[0], out.shape[1])
    end = begin + out.shape[0]
    pixel = begin
    while pixel < end:  # a part of an output row each time
        row = pixel // out_width
        left = pixel - row * out_width
        image = row // out_height
        y = row % out_height * stride
        count = min(out_width - left, end - pixel)
        r = pixel - begin
        pixel += count
        if size == 1 and stride == 1:
            modulated_span(source, image, y, left, left + count, rows, r)
            continue
        for k in range(y, y + size):
            number = image * (height + 2 * pad) + k
            if held[k % size] != number:
                held[k % size] = number
                modulated_span(source, image, k - pad, np.int64(0), width, lines[k % size], pad)
        for k in range(size):
            line = lines[(y + k) % size].reshape(-1)
            for i in range(count):
                values = line[(left + i) * stride * channels :]
                target = out[r + i]
                if by_window:
                    goal = target[k * span : (k + 1) * span]
                    for c in range(span):
                        goal[c] = values[c]
                else:
                    for j in range(size):
                        for c in range(channels):
                            target[c * area + k * size + j] = values[j * channels + c]


@compiled(Matrix, int64, int64, WINDOW, int64, boolean, int64, int64, Matrix)
def columns_grad(grad, height, width, window, begin, by_window, low, high, out):
    """The adjoint of `columns` behind the modulation.

    Args:
        grad: [pixels, size * size * C], of output pixels from `begin` on.
        low, high: the rows of all images, from 0 to N*H, to add to; others are left alone.
        out: [N*H*W, C], added to.
    """
    size, stride, pad, out_height, out_width = window
    channels = out.shape[1]
    area = size * size
    flat = out.reshape(-1)
    for r in range(grad.shape[0]):
        row = (begin + r) // out_width
        left = (begin + r - row * out_width) * stride - pad
        image = row // out_height
        top = row % out_height * stride - pad
        first = max(0, -left)
        last = min(size, width - left)
        source = grad[r]
        for k in range(max(0, -top), min(size, height - top)):
            y = image * height + top + k
            if y < low or y >= high:
                continue
            target = flat[(y * width + left + first) * channels :]
            if by_window:
                part = source[(k * size + first) * channels : (k * size + last) * channels]
                for c in range(part.shape[0]):
                    target[c] += part[c]
            else:
                for j in range(first, last):
                    for c in range(channels):
                        target[(j - first) * channels + c] += source[c * area + k * size + j]


@compiled(Matrix, SOURCE, int64, int64, Matrix, Matrix, Matrix)
def modulation_grad(grad, source, begin, end, grad_x, grad_a, grad_b):
    """The adjoint of act((x - mean) * a + b): gradients of x and, summed over a table row's pixels, of the tables.

    Args:
        grad: gradient of the modulated map [N*height*width, C].
        begin, end: a range of x's pixels.
        grad_x: like x, written there; grad_a, grad_b: [P, C], written, or [0, C] if the tables need none.
    """
    x, means, table_a, table_b, index, height, width, up, slope = source
    channels = x.shape[1]
    low_width = width // 2 if up else width
    low_height = height // 2 if up else height
    copies = 4 if up else 1
    tables = grad_a.shape[0] > 0
    scratch = np.empty(channels, np.float32)
    grad_a[:] = 0
    grad_b[:] = 0
    for place in range(begin, end):
        line = place // low_width
        image = line // low_height
        mean = means[min(image, means.shape[0] - 1)]
        row = x[place]
        dx = grad_x[place]
        for k in range(copies):
            pixel = place
            if up:
                pixel = (2 * line + k // 2) * width + 2 * (place - line * low_width) + k % 2
            g = grad[pixel]
            p = index[pixel]
            a = table_a[p]
            b = table_b[p]
            for c in range(channels):
                value = (row[c] - mean[c]) * a[c] + b[c]
                scratch[c] = g[c] if value > 0 else slope * g[c]
            if k == 0:
                for c in range(channels):
                    dx[c] = scratch[c] * a[c]
            else:
                for c in range(channels):
                    dx[c] += scratch[c] * a[c]
            if tables:
                da = grad_a[p]
                db = grad_b[p]
                for c in range(channels):
                    da[c] += scratch[c] * (row[c] - mean[c])
                for c in range(channels):
                    db[c] += scratch[c]


@compiled(Vector)
def has_values(x):
    """Whether an entry of a vector is not 0."""
    for i in range(x.shape[0]):
        if x[i] != 0:
            return True
    return False


@compiled(Matrix, int64, int64, Doubles, Doubles)
def moments(x, begin, end, total, square):
    """Sum and sum of squares of x's rows [begin, end) into total, square: float64 [C]."""
    channels = x.shape[1]
    for r in range(begin, end):
        row = x[r]
        for c in range(channels):
            total[c] += np.float64(row[c])
        for c in range(channels):
            value = np.float64(row[c])
            square[c] += value * value


@compiled(Matrix, int64, int64, Doubles)
def column_sum(x, begin, end, total):
    """Sum of x's rows [begin, end) into total, float64 [C]."""
    channels = x.shape[1]
    for r in range(begin, end):
        row = x[r]
        for c in range(channels):
            total[c] += np.float64(row[c])


@compiled(Vector, Vector, int64, int64, fastmath=SUMS)
def dot(a, b, begin, end):
    """Sum of the products of entries [begin, end) of two vectors, stretches of which are added up in float64."""
    total = 0.0
    for start in range(begin, end, 1024):
        x = a[start : min(end, start + 1024)]
        y = b[start : min(end, start + 1024)]
        part = np.float32(0)
        for i in range(x.shape[0]):
            part += x[i] * y[i]
        total += np.float64(part)
    return total


@compiled(Matrix, Matrix, int64, int64, Doubles)
def column_dot(a, b, begin, end, total):
    """Sum of the products of two maps' rows [begin, end) into total, float64 [C]."""
    channels = a.shape[1]
    for r in range(begin, end):
        left = a[r]
        right = b[r]
        for c in range(channels):
            total[c] += np.float64(left[c]) * np.float64(right[c])


@compiled(Matrix, Doubles, Doubles, int64, int64, Matrix)
def affine(x, scale, shift, begin, end, out):
    """out = x * scale + shift for rows [begin, end); scale, shift [C], float64 as the arithmetic."""
    for r in range(begin, end):
        row = x[r]
        o = out[r]
        for c in range(x.shape[1]):
            o[c] = row[c] * scale[c] + shift[c]


@compiled(Cube, Vector, Windows, Matrix)
def window_hidden(table, bias, windows, out):
    """relu(bias + sum over k of table[k, windows[:, k]]): the shared layer of SPADE on numbered windows.

    Args:
        table: [area, codes + 1, H], the last row of each position (outside the map) zero; windows: int32 [Q, area].
        out: [Q, H].
    """
    hidden = bias.shape[0]
    for q in range(windows.shape[0]):
        o = out[q]
        for c in range(hidden):
            o[c] = bias[c]
        for k in range(windows.shape[1]):
            row = table[k, windows[q, k]]
            for c in range(hidden):
                o[c] += row[c]
        for c in range(hidden):
            o[c] = max(o[c], np.float32(0))


@compiled(Matrix, Matrix, Windows, Cube, Vector)
def window_hidden_grad(grad, hidden, windows, grad_table, grad_bias):
    """The adjoint of `window_hidden`; grad [Q + 1, H] is overwritten, the other two are added to."""
    for q in range(windows.shape[0]):
        g = grad[q]
        h = hidden[q]
        for c in range(h.shape[0]):
            g[c] = g[c] if h[c] > 0 else np.float32(0)
        for c in range(h.shape[0]):
            grad_bias[c] += g[c]
        for k in range(windows.shape[1]):
            row = grad_table[k, windows[q, k]]
            for c in range(h.shape[0]):
                row[c] += g[c]


@compiled(Cube, int64, int64, Matrix)
def window_filters(weight, first, last, out):
    """Filters [first, last) of weight [C, H, area] as the rows (position, filter) of out [area * count, H]."""
    count = last - first
    for c in range(count):
        source = weight[first + c]
        for k in range(source.shape[1]):
            target = out[k * count + c]
            for h in range(source.shape[0]):
                target[h] = source[h, k]


@compiled(Matrix, Windows, Vector, float32, Vector, int64, int64, Matrix)
def window_sums(products, windows, bias, shift, scale, first, last, out):
    """(a convolution on numbered windows + shift) * scale, channels [first, last), from what each position adds.

    Args:
        products: [Q + 1, area * count], of each inner window and position; windows: int32 [P, area], rows of it.
        bias, scale: [C]; shift: float32. out: [P, C], those channels written.
    """
    count, area = last - first, windows.shape[1]
    start = bias[first:last]
    factor = scale[first:last]
    rows = products.reshape(-1, count)
    for p in range(windows.shape[0]):
        w = windows[p]
        o = out[p, first:last]
        for c in range(count):
            o[c] = start[c]
        for k in range(0, area - 2, 3):  # three at a time, which loads and stores the sum less often
            r0 = rows[w[k] * area + k]
            r1 = rows[w[k + 1] * area + k + 1]
            r2 = rows[w[k + 2] * area + k + 2]
            for c in range(count):
                o[c] = ((o[c] + r0[c]) + r1[c]) + r2[c]
        for k in range(area - area % 3, area):
            row = rows[w[k] * area + k]
            for c in range(count):
                o[c] += row[c]
        for c in range(count):
            o[c] = (o[c] + shift) * factor[c]


@compiled(Matrix, Windows, Vector, int64, int64, Matrix)
def window_sums_grad(grad, windows, scale, first, last, out):
    """The adjoint of `window_sums`: adds grad [P, C] of channels [first, last) into out [Q + 1, area * count]."""
    count = last - first
    factor = scale[first:last]
    for p in range(windows.shape[0]):
        g = grad[p, first:last]
        for k in range(windows.shape[1]):
            row = out[windows[p, k], k * count : (k + 1) * count]
            for c in range(count):
                row[c] += factor[c] * g[c]


@compiled(Tensor, int64, int64, Tensor)
def pool_max(x, begin, end, out):
    """2x2 maxima: x [N,H,W,C] -> rows [begin, end) of out [N,H/2,W/2,C]."""
    for n in range(out.shape[0]):
        for y in range(begin, end):
            for i in range(out.shape[2]):
                a = x[n, 2 * y, 2 * i]
                b = x[n, 2 * y, 2 * i + 1]
                o = out[n, y, i]
                for c in range(out.shape[3]):
                    o[c] = max(a[c], b[c])
                a = x[n, 2 * y + 1, 2 * i]
                b = x[n, 2 * y + 1, 2 * i + 1]
                for c in range(out.shape[3]):
                    o[c] = max(o[c], max(a[c], b[c]))


@compiled(Tensor, Tensor, Tensor, int64, int64, Tensor)
def pool_max_grad(grad, x, pooled, begin, end, out):
    """The adjoint of `pool_max`: each gradient goes to the first of the four that is the maximum."""
    for n in range(grad.shape[0]):
        for y in range(begin, end):
            for i in range(grad.shape[2]):
                for c in range(grad.shape[3]):
                    g = grad[n, y, i, c]
                    top = pooled[n, y, i, c]
                    for k in range(4):
                        hit = x[n, 2 * y + k // 2, 2 * i + k % 2, c] == top
                        out[n, 2 * y + k // 2, 2 * i + k % 2, c] = g if hit else np.float32(0)
                        if hit:
                            g = np.float32(0)


@compiled(Matrix, Matrix, int64, int64, fastmath=SUMS)
def relu_distance(x, target, begin, end):
    """Sum of |relu(x) - relu(target)| over rows [begin, end), in float64."""
    total = 0.0
    for r in range(begin, end):
        a = x[r]
        b = target[r]
        part = np.float32(0)
        for c in range(a.shape[0]):
            part += abs(max(a[c], np.float32(0)) - max(b[c], np.float32(0)))
        total += np.float64(part)
    return total


@compiled(Matrix, Matrix, float32, int64, int64, Matrix)
def relu_distance_grad(x, target, scale, begin, end, out):
    """scale * the derivative of `relu_distance` by x."""
    for r in range(begin, end):
        a = x[r]
        b = target[r]
        o = out[r]
        for c in range(a.shape[0]):
            t = max(b[c], np.float32(0))
            sign = np.float32(1) if a[c] > t else (np.float32(-1) if a[c] < t else np.float32(0))
            o[c] = scale * sign if a[c] > 0 else np.float32(0)


@compiled(Vector, Vector, Vector, Vector, float32, float32, float32, float32)
def adam(param, grad, moment1, moment2, beta1, beta2, rate, epsilon):
    """Adam's step of vectors; with beta1 0, moment1 is the gradient itself.

    Args:
        rate, epsilon: float32, times what the moments' start at 0 asks for (Kingma & Ba 2015, end of section 2).
    """
    if beta1 != 0:
        for i in range(param.shape[0]):
            moment1[i] = (np.float32(1) - beta1) * grad[i] + beta1 * moment1[i]
    for i in range(param.shape[0]):
        second = beta2 * moment2[i] + (np.float32(1) - beta2) * (grad[i] * grad[i])
        moment2[i] = second
        param[i] -= rate * (moment1[i] / (np.sqrt(second) + epsilon))
