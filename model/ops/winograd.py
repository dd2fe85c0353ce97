"""Winograd's minimal filtering for convolutions of stride 1: compiled loops around products of matrices.

F(m x m, s x s) (Lavin & Gray 2016, section 4) computes m x m outputs of an s x s kernel from a window d of n x n
inputs, n = m + s - 1, with n^2 products for each pair of channels, where a direct sum takes m^2 s^2:

    Y = A^T [ (G w G^T) * (B^T d B) ] A,   w the kernel, * summed over input channels.

A line of a map lies here in m interleaved parts, pixels x of the same (x + pad) mod m together. Pixel i of all windows
of the line is then one stretch of memory, and every transform a blend of long vectors. Arrays are float32.
"""

from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import boolean, float32, int64, types

from model.ops.jit import Cube, Matrix, Tensor, Vector, compiled, inner
from model.ops.loops import SOURCE, WINDOW, modulated_span

# Where the polynomials are evaluated, beside infinity, by s and m. Of the sets for F(4x4, 3x3) that Barabasz et al.
# 2020 compare, one of the most exact, with 3.5 times a direct sum's rounding; F(2x2, 3x3) has a direct sum's.
POINTS = {(3, 2): (0, 1, -1), (3, 4): (0, 1, -1, Fraction(1, 2), -2), (4, 2): (0, 1, -1, Fraction(1, 2))}


class Transform(NamedTuple):
    """A matrix of F(m x m, s x s), to be applied to vectors: each row's non-zero entries, pairwise, zeros behind them.

    Attributes:
        kernel: s. tile: m. size: n.
        index: int64 [rows, terms], the columns. factor: float32 [rows, terms], the entries.
    """

    kernel: int
    tile: int
    size: int
    index: np.ndarray
    factor: np.ndarray


class Form(NamedTuple):
    """The transforms of F(m x m, s x s), and their adjoints."""

    kernel: int  # s
    tile: int  # m
    size: int  # n
    input: Transform  # B^T [n, n]
    input_adjoint: Transform
    weight: Transform  # G [n, s]
    weight_adjoint: Transform
    output: Transform  # A^T [m, n]
    output_adjoint: Transform


def matrices(points, kernel):
    """A [n, m], G [n, s], B^T [n, n] in exact fractions, for n - 1 finite points and s = kernel (Cook-Toom).

    A product of polynomials is found from its values at the points and its leading coefficient (infinity); minimal
    filtering is the transposed problem. The denominators of B^T stand in G, which is applied to weights.
    """
    count = len(points) + 1

    def values(degree):
        finite = [[Fraction(point) ** i for i in range(degree)] for point in points]
        return [*finite, [Fraction(int(i == degree - 1)) for i in range(degree)]]

    a, g, b = values(count - kernel + 1), values(kernel), []
    product = _polynomial(points)
    for k, point in enumerate(points):  # Lagrange's polynomials, times their denominators
        others = [p for p in points if p != point]
        scale = np.prod([Fraction(point - p) for p in others])
        b.append([*_polynomial(others), Fraction(0)])
        g[k] = [value / scale for value in g[k]]
    b.append(product)
    for k, row in enumerate(b):
        whole = int(np.lcm.reduce([value.denominator for value in row]))
        b[k], g[k] = [value * whole for value in row], [value / whole for value in g[k]]
    return a, g, b


def _polynomial(roots):
    """The coefficients of the product of (x - root), lowest degree first."""
    result = [Fraction(1)]
    for root in roots:
        result = [low - root * high for low, high in zip([0, *result], [*result, 0], strict=True)]
    return [Fraction(value) for value in result]


@cache
def form(kernel, tile):
    """The `Form` for s = kernel and m = tile, one of `POINTS`."""
    a, g, b = (np.array(matrix, np.float64) for matrix in matrices(POINTS[kernel, tile], kernel))
    sizes = kernel, tile, len(b)
    return Form(*sizes, *(Transform(*sizes, *_terms(matrix)) for matrix in (b, b.T, g, g.T, a.T, a)))


def _terms(matrix):
    terms = int((matrix != 0).sum(1).max() + 1) // 2 * 2
    index, factor = np.zeros((len(matrix), terms), np.int64), np.zeros((len(matrix), terms), np.float32)
    for row, values in enumerate(matrix):
        columns = np.flatnonzero(values)
        index[row, : len(columns)], factor[row, : len(columns)] = columns, values[columns]
    return index, factor


TRANSFORM = types.NamedTuple((int64, int64, int64, int64[:, ::1], Matrix), Transform)


@inner
def _multiples(count, step):
    """0, step, 2 * step, ..., int64 [count]."""
    numbers = np.empty(count, np.int64)
    for i in range(count):
        numbers[i] = i * step
    return numbers


@inner
def _blend(transform, row, source, starts, out, add):
    """A row of a blend of the stretches of `source` from `starts` on into out, or added to it."""
    length = out.shape[0]
    for n in range(0, transform.index.shape[1], 2):
        f = transform.factor[row, n]
        g = transform.factor[row, n + 1]
        if f == 0 and g == 0:
            break
        first = starts[transform.index[row, n]]
        second = starts[transform.index[row, n + 1]] if g != 0 else first
        a = source[first : first + length]
        b = source[second : second + length]
        if n == 0 and not add:
            for c in range(length):
                out[c] = f * a[c] + g * b[c]
        else:
            for c in range(length):
                out[c] += f * a[c] + g * b[c]


@compiled(SOURCE, WINDOW, TRANSFORM, int64, int64, Cube)
def input_tiles(source, window, transform, first, count, out):
    """B^T d B of a modulated map, `count` rows of tiles from tile row `first` of all images on.

    Args:
        source: the map, a `Source`. window: the convolution's `Window`.
        out: [n^2, count * out_width / m, C].
    """
    m, size, pad = transform.tile, transform.size, window.pad
    width, channels = source.width, source.x.shape[1]
    tiles, rows, places = window.out_width // m, window.out_height // m, -(-(width + 2 * pad) // m)
    part, plane, stretch = places * channels, count * tiles * channels, tiles * channels
    lines = np.zeros((size, m, places, channels), np.float32)
    flat = lines.reshape(-1)
    goal = out.reshape(-1)
    half = np.empty(m * part, np.float32)
    line_starts = np.empty(size, np.int64)
    starts = np.empty(size, np.int64)
    for i in range(size):
        starts[i] = i % m * part + i // m * channels
    previous = -1
    for t in range(count):
        image = (first + t) // rows
        top = m * ((first + t) % rows) - pad
        fresh = 0 if image != previous else size - m  # the others are still there from the tile row above
        previous = image
        for k in range(size):
            y = top + k
            slot = (y + pad) % size
            line_starts[k] = slot * m * part
            if k < fresh:
                continue
            modulated_span(source, image, y, np.int64(0), width, lines[slot], pad)
        for r in range(size):
            _blend(transform, r, flat, line_starts, half, False)
            for q in range(size):
                start = (size * r + q) * plane + t * stretch
                _blend(transform, q, half, starts, goal[start : start + stretch], False)


@compiled(Cube, TRANSFORM, int64, int64, WINDOW, int64, int64, int64, int64, Tensor, Matrix)
def input_tiles_grad(grad, transform, height, width, window, first, count, above, below, edges, out):
    """The adjoint of `input_tiles` behind the modulation: adds B dV B^T into the gradient of the modulated map.

    Args:
        grad: [n^2, count * out_width / m, C].
        above, below: the first of the s - 1 lines of all images that are shared with the thread of the tile rows above
            and below, -s for none. edges: [2, s - 1, width, C], which take what goes there.
        out: [N*height*width, C], added to.
    """
    m, size, pad, channels = transform.tile, transform.size, window.pad, out.shape[1]
    tiles, rows, places = window.out_width // m, window.out_height // m, -(-(width + 2 * pad) // m)
    part, plane, stretch = places * channels, count * tiles * channels, tiles * channels
    shared = transform.kernel - 1
    source = grad.reshape(-1)
    half = np.empty((size, m * part), np.float32)
    flat = half.reshape(-1)
    line = np.empty((m * places, channels), np.float32)
    planes = _multiples(size, plane)
    halves = _multiples(size, m * part)
    for t in range(count):
        image = (first + t) // rows
        top = m * ((first + t) % rows) - pad
        half[:] = 0
        for r in range(size):
            values = source[size * r * plane + t * stretch :]
            for i in range(size):
                start = i % m * part + i // m * channels
                _blend(transform, i, values, planes, half[r, start : start + stretch], True)
        for k in range(size):
            y = top + k
            if y < 0 or y >= height:
                continue
            _blend(transform, k, flat, halves, line.reshape(-1), False)
            number = image * height + y
            if above <= number < above + shared:
                target = edges[0, number - above]
            elif below <= number < below + shared:
                target = edges[1, number - below]
            else:
                target = out[number * width : (number + 1) * width]
            for x in range(width):
                values = line[(x + pad) % m * places + (x + pad) // m]
                goal = target[x]
                for c in range(channels):
                    goal[c] += values[c]


@compiled(Cube, TRANSFORM, Vector, Matrix, boolean, int64, int64, int64, Matrix)
def output_tiles(products, transform, bias, residual, has_residual, width, first, count, out):
    """Y = A^T M A of `count` tile rows, plus bias and, if given, a residual map.

    Args:
        products: M [n^2, count * width / m, K]; bias: [K]; residual, out: [N*height*width, K].
    """
    m, size, channels, tiles = transform.tile, transform.size, out.shape[1], width // transform.tile
    plane, stretch = count * tiles * channels, tiles * channels
    source = products.reshape(-1)
    half = np.empty((size, stretch), np.float32)
    line = np.empty((m, tiles, channels), np.float32)
    rows = _multiples(size, size * plane)
    halves = _multiples(size, stretch)
    for t in range(count):
        for p in range(m):
            for q in range(size):
                _blend(transform, p, source[q * plane + t * stretch :], rows, half[q], False)
            for s in range(m):
                _blend(transform, s, half.reshape(-1), halves, line[s].reshape(-1), False)
            start = (m * (first + t) + p) * width
            for x in range(width):
                values = line[x % m, x // m]
                goal = out[start + x]
                for c in range(channels):
                    goal[c] = values[c] + bias[c]
                if has_residual:
                    added = residual[start + x]
                    for c in range(channels):
                        goal[c] += added[c]


@compiled(Matrix, TRANSFORM, float32, int64, int64, int64, Cube)
def output_tiles_grad(grad, transform, factor, width, first, count, out):
    """The adjoint of `output_tiles`: factor * A dY A^T of `count` tile rows.

    Args:
        grad: [N*height*width, K]; factor: float32; out: [n^2, count * width / m, K].
    """
    m, size, channels, tiles = transform.tile, transform.size, grad.shape[1], width // transform.tile
    plane, stretch = count * tiles * channels, tiles * channels
    goal = out.reshape(-1)
    lines = np.empty((m, m, tiles, channels), np.float32)
    flat = lines.reshape(-1)
    half = np.empty((m, stretch), np.float32)
    rows = _multiples(m, m * stretch)
    halves = _multiples(m, stretch)
    for t in range(count):
        for p in range(m):
            start = (m * (first + t) + p) * width
            for x in range(width):
                values = grad[start + x]
                target = lines[p, x % m, x // m]
                for c in range(channels):
                    target[c] = factor * values[c]
        for r in range(size):
            for s in range(m):
                _blend(transform, r, flat[s * stretch :], rows, half[s], False)
            for q in range(size):
                start = (size * r + q) * plane + t * stretch
                _blend(transform, q, half.reshape(-1), halves, goal[start : start + stretch], False)


@compiled(Cube, TRANSFORM, float32, int64, int64, Cube)
def weight_tiles(weight, transform, factor, begin, end, out):
    """factor * G w G^T of filters [begin, end): weight [K, C, s * s], factor float32 -> out [n^2, K, C]."""
    s, size, channels = transform.kernel, transform.size, weight.shape[1]
    taps = np.empty((s, s * channels), np.float32)
    half = np.empty(s * channels, np.float32)
    rows = _multiples(s, s * channels)
    parts = _multiples(s, channels)
    for k in range(begin, end):
        for i in range(s):
            for j in range(s):
                target = taps[i, j * channels : (j + 1) * channels]
                for c in range(channels):
                    target[c] = factor * weight[k, c, s * i + j]
        for r in range(size):
            _blend(transform, r, taps.reshape(-1), rows, half, False)
            for q in range(size):
                _blend(transform, q, half, parts, out[size * r + q, k], False)


@compiled(Cube, TRANSFORM, int64, int64, Cube)
def weight_tiles_grad(grad, transform, begin, end, out):
    """The adjoint of `weight_tiles` without its factor, for filters [begin, end).

    Args:
        grad: [n^2, K, C]. out: [K, C, s * s], written.
    """
    s, size, channels = transform.kernel, transform.size, out.shape[1]
    plane = grad.shape[1] * channels
    source = grad.reshape(-1)
    half = np.empty((size, s * channels), np.float32)
    taps = np.empty(s * channels, np.float32)
    planes = _multiples(size, plane)
    rows = _multiples(size, s * channels)
    for k in range(begin, end):
        for r in range(size):
            values = source[size * r * plane + k * channels :]
            for j in range(s):
                _blend(transform, j, values, planes, half[r, j * channels : (j + 1) * channels], False)
        for i in range(s):
            _blend(transform, i, half.reshape(-1), rows, taps, False)
            for j in range(s):
                values = taps[j * channels : (j + 1) * channels]
                for c in range(channels):
                    out[k, c, s * i + j] = values[c]
