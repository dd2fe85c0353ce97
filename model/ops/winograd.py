"""Winograd's minimal filtering for 3x3 convolutions: compiled loops around products of matrices.

F(m x m, 3x3) (Lavin & Gray 2016, section 4) computes m x m outputs from a window d of (m + 2) x (m + 2) inputs with
(m + 2)^2 products for each pair of channels, where a direct sum takes 9 m^2:

    Y = A^T [ (G w G^T) * (B^T d B) ] A,   w the kernel, * summed over input channels.

A line of a map lies here in m interleaved parts, pixels x of the same (x + 1) mod m together. Pixel i of all windows of
the line is then one stretch of memory, and every transform a blend of long vectors. Arrays are float32.
"""

from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np

from model.ops.loops import compiled, modulated_span

# Where the polynomials are evaluated, beside infinity: of the sets for m = 4 that Barabasz et al. 2020 compare, one of
# the most exact, with 3.5 times a direct sum's rounding; for m = 2 it is a direct sum's.
POINTS = {2: (0, 1, -1), 4: (0, 1, -1, Fraction(1, 2), -2)}


class Blend(NamedTuple):
    """A matrix whose rows are applied to vectors: each row's non-zero entries, pairwise, zeros behind them.

    Attributes:
        index: int64 [rows, terms], the columns. factor: float32 [rows, terms], the entries.
    """

    index: np.ndarray
    factor: np.ndarray


class Form(NamedTuple):
    """The transforms of F(m x m, 3x3), and their adjoints."""

    tile: int  # m
    b: Blend  # B^T [m + 2, m + 2]
    b_adjoint: Blend
    g: Blend  # G [m + 2, 3]
    g_adjoint: Blend
    a: Blend  # A^T [m, m + 2]
    a_adjoint: Blend


def matrices(points):
    """A [n + 1, n - 1], G [n + 1, 3], B^T [n + 1, n + 1] in exact fractions, for n finite points (Cook-Toom).

    A product of polynomials is found from its values at the points and its leading coefficient (infinity); minimal
    filtering is the transposed problem. The denominators of B^T stand in G, which is applied to weights.
    """
    count = len(points) + 1

    def values(degree):
        finite = [[Fraction(point) ** i for i in range(degree)] for point in points]
        return [*finite, [Fraction(int(i == degree - 1)) for i in range(degree)]]

    a, g, b = values(count - 2), values(3), []
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
def form(tile):
    """The `Form` for m = tile, 2 or 4."""
    a, g, b = (np.array(matrix, np.float64) for matrix in matrices(POINTS[tile]))
    return Form(tile, *(_blend_of(matrix) for matrix in (b, b.T, g, g.T, a.T, a)))


def _blend_of(matrix):
    terms = int((matrix != 0).sum(1).max() + 1) // 2 * 2
    index, factor = np.zeros((len(matrix), terms), np.int64), np.zeros((len(matrix), terms), np.float32)
    for row, values in enumerate(matrix):
        columns = np.flatnonzero(values)
        index[row, : len(columns)], factor[row, : len(columns)] = columns, values[columns]
    return Blend(index, factor)


@compiled
def _blend(blend, row, source, starts, out, add):
    """A row of a blend of the stretches of `source` from `starts` on into out, or added to it."""
    length = out.shape[0]
    for n in range(0, blend.index.shape[1], 2):
        f = blend.factor[row, n]
        g = blend.factor[row, n + 1]
        if f == 0 and g == 0:
            break
        first = starts[blend.index[row, n]]
        second = starts[blend.index[row, n + 1]] if g != 0 else first
        a = source[first : first + length]
        b = source[second : second + length]
        if n == 0 and not add:
            for c in range(length):
                out[c] = f * a[c] + g * b[c]
        else:
            for c in range(length):
                out[c] += f * a[c] + g * b[c]


@compiled
def input_tiles(source, form, first, count, out):
    """B^T d B of a modulated map, `count` rows of tiles from tile row `first` of all images on.

    Args:
        source: the map, a `Source`. out: [(m + 2)^2, count * width / m, C].
    """
    m, height, width, channels = form.tile, source.height, source.width, source.x.shape[1]
    size, tiles, rows = m + 2, width // m, height // m
    part, plane, stretch = (tiles + 1) * channels, count * tiles * channels, tiles * channels
    lines = np.zeros((size, m * (tiles + 1), channels), np.float32)
    flat = lines.reshape(-1)
    goal = out.reshape(-1)
    half = np.empty(m * part, np.float32)
    line_starts = np.empty(size, np.int64)
    starts = np.array([i % m * part + i // m * channels for i in range(size)])
    previous = -1
    for t in range(count):
        image = (first + t) // rows
        top = m * ((first + t) % rows) - 1
        fresh = 0 if image != previous else 2  # two lines are still there from the tile row above
        previous = image
        for k in range(size):
            y = top + k
            slot = (y + 1) % size
            line_starts[k] = slot * m * part
            if k < fresh:
                continue
            if y < 0 or y >= height:
                lines[slot] = 0
            else:
                modulated_span(source, image, y, 0, width, lines[slot], 1, m)
        for r in range(size):
            _blend(form.b, r, flat, line_starts, half, False)
            for q in range(size):
                start = (size * r + q) * plane + t * stretch
                _blend(form.b, q, half, starts, goal[start : start + stretch], False)


@compiled
def input_tiles_grad(grad, form, height, width, first, count, own_top, own_bottom, top_line, bottom_line, out):
    """The adjoint of `input_tiles` behind the modulation: adds B dV B^T into the gradient of the modulated map.

    Args:
        grad: [(m + 2)^2, count * width / m, C].
        out: [N*height*width, C], added to. Where another thread owns the row above the first tile row (not own_top) or
            the one below the last (not own_bottom), it goes to `top_line`, `bottom_line` [width, C] instead.
    """
    m, channels = form.tile, out.shape[1]
    size, tiles, rows = m + 2, width // m, height // m
    part, plane, stretch = (tiles + 1) * channels, count * tiles * channels, tiles * channels
    source = grad.reshape(-1)
    half = np.empty((size, m * part), np.float32)
    flat = half.reshape(-1)
    line = np.empty((m * (tiles + 1), channels), np.float32)
    planes = np.array([q * plane for q in range(size)])
    halves = np.array([r * m * part for r in range(size)])
    for t in range(count):
        image = (first + t) // rows
        top = m * ((first + t) % rows) - 1
        half[:] = 0
        for r in range(size):
            values = source[size * r * plane + t * stretch :]
            for i in range(size):
                start = i % m * part + i // m * channels
                _blend(form.b_adjoint, i, values, planes, half[r, start : start + stretch], True)
        for k in range(size):
            y = top + k
            if y < 0 or y >= height:
                continue
            _blend(form.b_adjoint, k, flat, halves, line.reshape(-1), False)
            if t == 0 and k == 0 and not own_top:
                target = top_line
            elif t == count - 1 and k == size - 1 and not own_bottom:
                target = bottom_line
            else:
                start = (image * height + y) * width
                target = out[start : start + width]
            for x in range(width):
                values = line[(x + 1) % m * (tiles + 1) + (x + 1) // m]
                goal = target[x]
                for c in range(channels):
                    goal[c] += values[c]


@compiled
def output_tiles(products, form, bias, residual, has_residual, height, width, first, count, out):
    """Y = A^T M A of `count` tile rows, plus bias and, if given, a residual map.

    Args:
        products: M [(m + 2)^2, count * width / m, K]; bias: [K]; residual, out: [N*height*width, K].
    """
    m, channels = form.tile, out.shape[1]
    size, tiles = m + 2, width // m
    plane, stretch = count * tiles * channels, tiles * channels
    source = products.reshape(-1)
    half = np.empty((size, stretch), np.float32)
    line = np.empty((m, tiles, channels), np.float32)
    rows = np.array([r * size * plane for r in range(size)])
    halves = np.array([q * stretch for q in range(size)])
    for t in range(count):
        for p in range(m):
            for q in range(size):
                _blend(form.a, p, source[q * plane + t * stretch :], rows, half[q], False)
            for s in range(m):
                _blend(form.a, s, half.reshape(-1), halves, line[s].reshape(-1), False)
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


@compiled
def output_tiles_grad(grad, form, factor, height, width, first, count, out):
    """The adjoint of `output_tiles`: factor * A dY A^T of `count` tile rows.

    Args:
        grad: [N*height*width, K]; factor: float32; out: [(m + 2)^2, count * width / m, K].
    """
    m, channels = form.tile, grad.shape[1]
    size, tiles = m + 2, width // m
    plane, stretch = count * tiles * channels, tiles * channels
    goal = out.reshape(-1)
    lines = np.empty((m, m, tiles, channels), np.float32)
    flat = lines.reshape(-1)
    half = np.empty((m, stretch), np.float32)
    rows = np.array([p * m * stretch for p in range(m)])
    halves = np.array([s * stretch for s in range(m)])
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
                _blend(form.a_adjoint, r, flat[s * stretch :], rows, half[s], False)
            for q in range(size):
                start = (size * r + q) * plane + t * stretch
                _blend(form.a_adjoint, q, half.reshape(-1), halves, goal[start : start + stretch], False)


@compiled
def weight_tiles(weight, form, factor, out):
    """factor * G w G^T: weight [K, C, 9], factor float32 -> out [(m + 2)^2, K, C]."""
    size, channels = form.tile + 2, weight.shape[1]
    taps = np.empty((3, 3 * channels), np.float32)
    half = np.empty(3 * channels, np.float32)
    rows = np.array([0, 3 * channels, 6 * channels])
    parts = np.array([0, channels, 2 * channels])
    for k in range(weight.shape[0]):
        for i in range(3):
            for j in range(3):
                target = taps[i, j * channels : (j + 1) * channels]
                for c in range(channels):
                    target[c] = factor * weight[k, c, 3 * i + j]
        for r in range(size):
            _blend(form.g, r, taps.reshape(-1), rows, half, False)
            for q in range(size):
                _blend(form.g, q, half, parts, out[size * r + q, k], False)


@compiled
def weight_tiles_grad(grad, form, begin, end, out):
    """The adjoint of `weight_tiles` without its factor, for filters [begin, end).

    Args:
        grad: [(m + 2)^2, K, C]. out: [K, C, 9], written.
    """
    size, channels = form.tile + 2, out.shape[1]
    plane = grad.shape[1] * channels
    source = grad.reshape(-1)
    half = np.empty((size, 3 * channels), np.float32)
    taps = np.empty(3 * channels, np.float32)
    planes = np.array([q * plane for q in range(size)])
    rows = np.array([r * 3 * channels for r in range(size)])
    for k in range(begin, end):
        for r in range(size):
            values = source[size * r * plane + k * channels :]
            for j in range(3):
                _blend(form.g_adjoint, j, values, planes, half[r, j * channels : (j + 1) * channels], False)
        for i in range(3):
            _blend(form.g_adjoint, i, half.reshape(-1), rows, taps, False)
            for j in range(3):
                values = taps[j * channels : (j + 1) * channels]
                for c in range(channels):
                    out[k, c, 3 * i + j] = values[c]
