"""Compiled loops over NumPy arrays for CPUs: what lies between matrix products.

Paddle's CPU operators outside of matrix products run on one thread, one pass over memory each; these fuse the passes,
release the interpreter lock and are called from a small pool of threads. Every array is float32 and C-contiguous unless
said otherwise. Inner loops run over channels and touch at most three arrays, which lets the compiler vectorise them.

Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray 2016, section 4) computes a 3x3 convolution with 16 products per
2x2 outputs and channel pair instead of 36; its constants are 0, 1 and 1/2, so it rounds about as a direct sum does:

    Y = A^T [ (G w G^T) * (B^T d B) ] A,   d a 4x4 window, w the kernel, Y 2x2, * summed over input channels.
"""

from typing import NamedTuple

import numpy as np
from numba import njit


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


_jit = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})


@_jit
def _modulated_span(source, image, y, first, last, out):
    """Pixels [first, last) of an image's row of act((x - mean) * a + b) into out [last - first, C]."""
    x, means, table_a, table_b, index, height, width, up, slope = source
    channels = x.shape[1]
    mean = means[min(image, means.shape[0] - 1)]
    start = (image * height + y) * width
    place = (image * (height // 2) + y // 2) * (width // 2) if up else start
    for i in range(first, last):
        row = x[place + (i // 2 if up else i)]
        p = index[start + i]
        a = table_a[p]
        b = table_b[p]
        o = out[i - first]
        for c in range(channels):
            value = (row[c] - mean[c]) * a[c] + b[c]
            o[c] = max(value, slope * value)


@_jit
def _modulated_line(source, image, y, pad, line):
    """One image row of act((x - mean) * a + b) into line[pad : pad + width], zeros around it and for rows outside."""
    if y < 0 or y >= source.height:
        line[:] = 0
        return
    line[:pad] = 0
    line[pad + source.width :] = 0
    _modulated_span(source, image, y, 0, source.width, line[pad:])


@_jit
def winograd_input(source, first, count, lines, half, out):
    """B^T d B of the modulated map for `count` rows of 2x2 tiles from tile row `first` on.

    Args:
        source: the map, a `Source`.
        lines: scratch [4, width + 2, C]; half: scratch [4, (width + 2) * C].
        out: [16, count * width / 2, C].
    """
    height, width, channels = source.height, source.width, source.x.shape[1]
    tiles = width // 2
    previous = -1
    span = (width + 2) * channels
    for t in range(count):
        image = (first + t) // (height // 2)
        top = 2 * ((first + t) % (height // 2)) - 1
        fresh = 0 if image != previous else 2  # two of the four rows are still there from the tile row above
        previous = image
        for r in range(fresh, 4):
            y = top + r
            _modulated_line(source, image, y, 1, lines[(y + 1) % 4])
        l0 = lines[(top + 1) % 4].reshape(span)
        l1 = lines[(top + 2) % 4].reshape(span)
        l2 = lines[(top + 3) % 4].reshape(span)
        l3 = lines[(top + 4) % 4].reshape(span)
        h0 = half[0]
        h1 = half[1]
        h2 = half[2]
        h3 = half[3]
        for i in range(span):
            h0[i] = l0[i] - l2[i]
        for i in range(span):
            h1[i] = l1[i] + l2[i]
        for i in range(span):
            h2[i] = l2[i] - l1[i]
        for i in range(span):
            h3[i] = l1[i] - l3[i]
        for r in range(4):
            row = half[r]
            for j in range(tiles):
                d0 = row[2 * j * channels : (2 * j + 1) * channels]
                d1 = row[(2 * j + 1) * channels : (2 * j + 2) * channels]
                d2 = row[(2 * j + 2) * channels : (2 * j + 3) * channels]
                d3 = row[(2 * j + 3) * channels : (2 * j + 4) * channels]
                o0 = out[4 * r, t * tiles + j]
                o1 = out[4 * r + 1, t * tiles + j]
                o2 = out[4 * r + 2, t * tiles + j]
                o3 = out[4 * r + 3, t * tiles + j]
                for c in range(channels):
                    o0[c] = d0[c] - d2[c]
                for c in range(channels):
                    o1[c] = d1[c] + d2[c]
                for c in range(channels):
                    o2[c] = d2[c] - d1[c]
                for c in range(channels):
                    o3[c] = d1[c] - d3[c]


@_jit
def winograd_input_grad(grad, height, width, first, count, lines, out, own_top, own_bottom, top_line, bottom_line):
    """The adjoint of `winograd_input` behind the modulation: adds B dV B^T into the gradient of the modulated map.

    Args:
        grad: [16, count * width / 2, C].
        lines: scratch [4, width + 2, C].
        out: [N*height*width, C], added to. Where another thread owns the row above the first tile row (not own_top) or
            the one below the last (not own_bottom), it goes to `top_line`, `bottom_line` [width, C] instead.
    """
    channels = out.shape[1]
    tiles = width // 2
    for t in range(count):
        image = (first + t) // (height // 2)
        i = (first + t) % (height // 2)
        lines[:] = 0
        for r in range(4):
            for j in range(tiles):
                v0 = grad[4 * r, t * tiles + j]
                v1 = grad[4 * r + 1, t * tiles + j]
                v2 = grad[4 * r + 2, t * tiles + j]
                v3 = grad[4 * r + 3, t * tiles + j]
                d0 = lines[r, 2 * j]
                d1 = lines[r, 2 * j + 1]
                d2 = lines[r, 2 * j + 2]
                d3 = lines[r, 2 * j + 3]
                for c in range(channels):
                    d0[c] += v0[c]
                for c in range(channels):
                    d1[c] += v1[c] - v2[c]
                for c in range(channels):
                    d1[c] += v3[c]
                for c in range(channels):
                    d2[c] += v1[c] + v2[c]
                for c in range(channels):
                    d2[c] -= v0[c]
                for c in range(channels):
                    d3[c] -= v3[c]
        for r in range(4):
            y = 2 * i - 1 + r
            if y < 0 or y >= height:
                continue
            start = (image * height + y) * width
            above = t == 0 and r == 0 and not own_top
            below = t == count - 1 and r == 3 and not own_bottom
            for j in range(width):
                if above:
                    target = top_line[j]
                elif below:
                    target = bottom_line[j]
                else:
                    target = out[start + j]
                g0 = lines[0, j + 1]
                g1 = lines[1, j + 1]
                g2 = lines[2, j + 1]
                g3 = lines[3, j + 1]
                if r == 0:
                    for c in range(channels):
                        target[c] += g0[c]
                elif r == 1:
                    for c in range(channels):
                        target[c] += g1[c] - g2[c]
                    for c in range(channels):
                        target[c] += g3[c]
                elif r == 2:
                    for c in range(channels):
                        target[c] += g1[c] + g2[c]
                    for c in range(channels):
                        target[c] -= g0[c]
                else:
                    for c in range(channels):
                        target[c] -= g3[c]


@_jit
def winograd_output(products, bias, residual, has_residual, height, width, first, count, half, out):
    """Y = A^T M A of `count` tile rows, plus bias and, if given, a residual map.

    Args:
        products: M [16, count * width / 2, K]; bias: [K]; residual, out: [N*height*width, K]; half: scratch [8, K].
    """
    channels = out.shape[1]
    tiles = width // 2
    for t in range(count):
        image = (first + t) // (height // 2)
        y = 2 * ((first + t) % (height // 2))
        for j in range(tiles):
            for r in range(4):
                m0 = products[4 * r, t * tiles + j]
                m1 = products[4 * r + 1, t * tiles + j]
                m2 = products[4 * r + 2, t * tiles + j]
                m3 = products[4 * r + 3, t * tiles + j]
                s0 = half[2 * r]
                s1 = half[2 * r + 1]
                for c in range(channels):
                    s0[c] = m0[c] + m1[c]
                for c in range(channels):
                    s0[c] += m2[c]
                for c in range(channels):
                    s1[c] = m1[c] - m2[c]
                for c in range(channels):
                    s1[c] -= m3[c]
            for q in range(2):
                s0 = half[q]
                s1 = half[2 + q]
                s2 = half[4 + q]
                s3 = half[6 + q]
                upper = (image * height + y) * width + 2 * j + q
                o0 = out[upper]
                o1 = out[upper + width]
                for c in range(channels):
                    o0[c] = s0[c] + s1[c]
                for c in range(channels):
                    o0[c] += s2[c] + bias[c]
                for c in range(channels):
                    o1[c] = s1[c] - s2[c]
                for c in range(channels):
                    o1[c] += bias[c] - s3[c]
                if has_residual:
                    r0 = residual[upper]
                    r1 = residual[upper + width]
                    for c in range(channels):
                        o0[c] += r0[c]
                    for c in range(channels):
                        o1[c] += r1[c]


@_jit
def winograd_output_grad(grad, factor, height, width, first, count, half, out):
    """The adjoint of `winograd_output`: factor * A dY A^T of `count` tile rows.

    Args:
        grad: [N*height*width, K]; factor: float32; half: scratch [8, K]; out: [16, count * width / 2, K].
    """
    channels = grad.shape[1]
    tiles = width // 2
    for t in range(count):
        image = (first + t) // (height // 2)
        y = 2 * ((first + t) % (height // 2))
        for j in range(tiles):
            for q in range(2):
                upper = (image * height + y) * width + 2 * j + q
                g0 = grad[upper]
                g1 = grad[upper + width]
                e0 = half[q]
                e1 = half[2 + q]
                e2 = half[4 + q]
                e3 = half[6 + q]
                for c in range(channels):
                    e0[c] = factor * g0[c]
                for c in range(channels):
                    e1[c] = factor * (g0[c] + g1[c])
                for c in range(channels):
                    e2[c] = factor * (g0[c] - g1[c])
                for c in range(channels):
                    e3[c] = -factor * g1[c]
            for r in range(4):
                e0 = half[2 * r]
                e1 = half[2 * r + 1]
                o0 = out[4 * r, t * tiles + j]
                o1 = out[4 * r + 1, t * tiles + j]
                o2 = out[4 * r + 2, t * tiles + j]
                o3 = out[4 * r + 3, t * tiles + j]
                for c in range(channels):
                    o0[c] = e0[c]
                for c in range(channels):
                    o1[c] = e0[c] + e1[c]
                for c in range(channels):
                    o2[c] = e0[c] - e1[c]
                for c in range(channels):
                    o3[c] = -e1[c]


@_jit
def winograd_weight(weight, factor, out):
    """factor * G w G^T: weight [K, C, 9], factor float32 -> out [16, K, C]."""
    channels = weight.shape[1]
    half = np.float32(0.5)
    taps = np.empty((9, channels), np.float32)  # one filter, channels innermost, so that the rest is vectors
    rows = np.empty((12, channels), np.float32)
    for k in range(weight.shape[0]):
        for c in range(channels):
            for i in range(9):
                taps[i, c] = factor * weight[k, c, i]
        for i in range(3):
            w0 = taps[i]
            w1 = taps[3 + i]
            w2 = taps[6 + i]
            r1 = rows[3 + i]
            r2 = rows[6 + i]
            rows[i] = w0
            rows[9 + i] = w2
            for c in range(channels):
                r1[c] = half * (w0[c] + w2[c])
            for c in range(channels):
                r2[c] = r1[c] - half * w1[c]
            for c in range(channels):
                r1[c] += half * w1[c]
        for r in range(4):
            w0 = rows[3 * r]
            w1 = rows[3 * r + 1]
            w2 = rows[3 * r + 2]
            o1 = out[4 * r + 1, k]
            o2 = out[4 * r + 2, k]
            out[4 * r, k] = w0
            out[4 * r + 3, k] = w2
            for c in range(channels):
                o1[c] = half * (w0[c] + w2[c])
            for c in range(channels):
                o2[c] = o1[c] - half * w1[c]
            for c in range(channels):
                o1[c] += half * w1[c]


@_jit
def winograd_weight_grad(grad, out):
    """The adjoint of `winograd_weight`: grad [16, K, C] -> out [K, C, 9]."""
    cols = np.empty((4, 3), np.float32)
    for k in range(grad.shape[1]):
        for c in range(grad.shape[2]):
            for r in range(4):
                g1 = np.float32(0.5) * grad[4 * r + 1, k, c]
                g2 = np.float32(0.5) * grad[4 * r + 2, k, c]
                cols[r, 0] = grad[4 * r, k, c] + g1 + g2
                cols[r, 1] = g1 - g2
                cols[r, 2] = g1 + g2 + grad[4 * r + 3, k, c]
            for i in range(3):
                h1 = np.float32(0.5) * cols[1, i]
                h2 = np.float32(0.5) * cols[2, i]
                out[k, c, i] = cols[0, i] + h1 + h2
                out[k, c, 3 + i] = h1 - h2
                out[k, c, 6 + i] = h1 + h2 + cols[3, i]


@_jit
def filters_by_window(weight, out):
    """weight [K, C, area] -> out [K, area, C]."""
    for k in range(weight.shape[0]):
        for i in range(weight.shape[2]):
            for c in range(weight.shape[1]):
                out[k, i, c] = weight[k, c, i]


@_jit
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
    lines = np.empty((size, width + 2 * pad, channels), np.float32)
    held = np.full(size, -1, np.int64)  # the rows that they are
    r = 0
    while r < out.shape[0]:  # a part of an output row each time
        row = (begin + r) // out_width
        left = begin + r - row * out_width
        image = row // out_height
        y = row % out_height * stride
        count = min(out_width - left, out.shape[0] - r)
        if size == 1 and stride == 1:
            _modulated_span(source, image, y, left, left + count, out[r : r + count])
            r += count
            continue
        for k in range(y, y + size):
            number = image * (height + 2 * pad) + k
            if held[k % size] != number:
                held[k % size] = number
                _modulated_line(source, image, k - pad, pad, lines[k % size])
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
        r += count


@_jit
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


@_jit
def modulation_grad(grad, source, begin, end, scratch, grad_x, grad_a, grad_b):
    """The adjoint of act((x - mean) * a + b): gradients of x and, summed over a table row's pixels, of the tables.

    Args:
        grad: gradient of the modulated map [N*height*width, C].
        begin, end: a range of x's pixels.
        scratch: [C]; grad_x: like x, written; grad_a, grad_b: [P, C], added to (no tables' gradient if P is 0).
    """
    x, means, table_a, table_b, index, height, width, up, slope = source
    channels = x.shape[1]
    low_width = width // 2 if up else width
    low_height = height // 2 if up else height
    copies = 4 if up else 1
    tables = grad_a.shape[0] > 0
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


@_jit
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


@_jit
def column_sum(x, begin, end, total):
    """Sum of x's rows [begin, end) into total, float64 [C]."""
    channels = x.shape[1]
    for r in range(begin, end):
        row = x[r]
        for c in range(channels):
            total[c] += np.float64(row[c])


@_jit
def dot(a, b, begin, end):
    """Sum of the products of entries [begin, end) of two vectors, in float64."""
    total = 0.0
    for i in range(begin, end):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@_jit
def column_dot(a, b, begin, end, total):
    """Sum of the products of two maps' rows [begin, end) into total, float64 [C]."""
    channels = a.shape[1]
    for r in range(begin, end):
        left = a[r]
        right = b[r]
        for c in range(channels):
            total[c] += np.float64(left[c]) * np.float64(right[c])


@_jit
def affine(x, scale, shift, begin, end, out):
    """out = x * scale + shift for rows [begin, end); scale, shift [C], float64 as the arithmetic."""
    for r in range(begin, end):
        row = x[r]
        o = out[r]
        for c in range(x.shape[1]):
            o[c] = row[c] * scale[c] + shift[c]


@_jit
def window_hidden(table, bias, windows, out):
    """relu(bias + sum over k of table[k, windows[:, k]]): the shared layer of SPADE on numbered windows.

    Args:
        table: [area, codes + 1, H], the last row of each position (outside the map) zero; windows: int32 [Q, area].
        out: [Q + 1, H]; its last row, the window outside the map, is zero as the convolution's padding is.
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
    out[windows.shape[0], :] = 0


@_jit
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


@_jit
def window_filters(weight, first, last, out):
    """Filters [first, last) of weight [C, H, area] as the rows (position, filter) of out [area * count, H]."""
    count = last - first
    for c in range(count):
        source = weight[first + c]
        for k in range(source.shape[1]):
            target = out[k * count + c]
            for h in range(source.shape[0]):
                target[h] = source[h, k]


@_jit
def window_filters_grad(grad, first, last, out):
    """The adjoint of `window_filters`: writes filters [first, last) of out [C, H, area]."""
    count = last - first
    for c in range(count):
        target = out[first + c]
        for h in range(target.shape[0]):
            for k in range(target.shape[1]):
                target[h, k] = grad[k * count + c, h]


@_jit
def window_sums(products, windows, bias, shift, scale, first, last, out):
    """(a convolution on numbered windows + shift) * scale, channels [first, last), from what each position adds.

    Args:
        products: [Q + 1, area * count], of each inner window and position; windows: int32 [P, area], rows of it.
        bias, scale: [C]; shift: float32. out: [P, C], those channels written.
    """
    count = last - first
    factor = scale[first:last]
    for p in range(windows.shape[0]):
        o = out[p, first:last]
        for c in range(count):
            o[c] = bias[first + c]
        for k in range(windows.shape[1]):
            row = products[windows[p, k], k * count : (k + 1) * count]
            for c in range(count):
                o[c] += row[c]
        for c in range(count):
            o[c] = (o[c] + shift) * factor[c]


@_jit
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


@_jit
def pool_max(x, out):
    """2x2 maxima: x [N,H,W,C] -> out [N,H/2,W/2,C]."""
    for n in range(out.shape[0]):
        for y in range(out.shape[1]):
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


@_jit
def pool_max_grad(grad, x, pooled, out):
    """The adjoint of `pool_max`: each gradient goes to the first of the four that is the maximum."""
    for n in range(grad.shape[0]):
        for y in range(grad.shape[1]):
            for i in range(grad.shape[2]):
                for c in range(grad.shape[3]):
                    g = grad[n, y, i, c]
                    top = pooled[n, y, i, c]
                    for k in range(4):
                        hit = x[n, 2 * y + k // 2, 2 * i + k % 2, c] == top
                        out[n, 2 * y + k // 2, 2 * i + k % 2, c] = g if hit else np.float32(0)
                        if hit:
                            g = np.float32(0)


@_jit
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


@_jit
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
