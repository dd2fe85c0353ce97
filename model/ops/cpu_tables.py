"""SPADE's hidden layer, gamma and beta on CPUs: a row for each distinct neighbourhood, with gradients."""

import numpy as np
import paddle
from paddle.autograd import PyLayer

from model.ops import loops
from model.ops.cpu_reductions import column_dot, column_sum
from model.ops.memory import buffer, contiguous, copied, view, zeros
from model.ops.threads import parallel_for

TABLE_PIECE = 12 << 20  # bytes of a piece's products: larger than a core's cache, but long rows and few calls gain more
FEWEST_CHANNELS = 8  # of a piece: with fewer, its rows are too short to add


class WindowHidden(PyLayer):
    """The hidden layer of SPADE, a convolution and its ReLU, on the distinct windows of codes."""

    @staticmethod
    def forward(ctx, weight, bias, patterns):
        """
        Args:
            weight: [H, semantic_nc, s, s]. bias: [H].
            patterns: `model.semantics.Patterns`, of Q inner windows.

        Returns:
            [Q + 1, H]; the last row is that outside the map, zero as the convolution's padding is.
        """
        table, inner = WindowHidden.table(weight, patterns), patterns.inner
        tensor, out = buffer(len(inner) + 1, table.shape[2])
        out[-1] = 0
        start = view(bias)
        parallel_for(
            lambda part, b, e: loops.window_hidden(table, start, inner[b:e], out[b:e]),
            len(inner),
            inner.size * out.shape[1],
        )
        ctx.save_for_backward(weight, tensor)
        ctx.patterns = patterns
        return tensor

    @staticmethod
    def table(weight, patterns):
        """What each code adds to the hidden layer at each window position: [area, codes + 1, H]."""
        w = view(contiguous(weight))
        w = w.reshape(w.shape[0], w.shape[1], -1)  # [H, semantic_nc, area]
        table = np.zeros((w.shape[2], len(patterns.labels) + 1, w.shape[0]), np.float32)
        table[:, :-1] = w[:, patterns.labels].transpose(2, 1, 0)
        if patterns.edges is not None:
            table[:, :-1] += patterns.edges[:, None] * w[:, -1].T[:, None]
        return table

    @staticmethod
    def backward(ctx, grad):
        weight, hidden = ctx.saved_tensor()
        patterns = ctx.patterns
        codes, area = len(patterns.labels) + 1, patterns.inner.shape[1]
        grad_table = np.zeros((area, codes, hidden.shape[1]), np.float32)
        grad_bias = np.zeros(hidden.shape[1], np.float32)
        loops.window_hidden_grad(view(grad.clone()), view(hidden), patterns.inner, grad_table, grad_bias)
        tensor, out = zeros(*weight.shape)
        flat = out.reshape(out.shape[0], out.shape[1], -1)
        for code, label in enumerate(patterns.labels):  # a label may stand twice, with and without an edge
            flat[:, label] += grad_table[:, code].T
        if patterns.edges is not None:
            flat[:, -1] += np.tensordot(patterns.edges, grad_table[:, :-1], (0, 1)).T
        return tensor, copied(grad_bias)


class SpadeTables(PyLayer):
    """(1 + gamma) * scale and beta of SPADE for each distinct neighbourhood: its convolutions on numbered windows.

    The second convolutions are linear in the windows of the first: each distinct inner window is multiplied by the
    filter's positions once, and an outer window adds up area rows of the products. There are fewer inner windows than
    outer ones (at 256x256 a third), so these are fewer multiplications than one product for each outer window.
    """

    @staticmethod
    def forward(ctx, hidden, w_gamma, b_gamma, w_beta, b_beta, scale, patterns):
        """
        Args:
            hidden: [Q + 1, H], of `WindowHidden`. w_gamma, w_beta: [C, H, s, s]. b_gamma, b_beta: [C].
            scale: [1, C].
            patterns: `model.semantics.Patterns`, of P outer windows.

        Returns:
            (1 + gamma) * scale and beta, each [P, C].
        """
        weights = [contiguous(w) for w in (w_gamma, w_beta)]
        outs = [buffer(len(patterns.outer), w.shape[0]) for w in weights]
        affine = (np.float32(1), view(scale)[0]), (np.float32(0), np.ones(w_beta.shape[0], np.float32))

        def work(part, begin, end):
            for first, last in SpadeTables.channels(patterns, begin, end):
                for w, b, (shift, factor), (_, out) in zip(weights, (b_gamma, b_beta), affine, outs, strict=True):
                    filters = SpadeTables.filters(w, first, last)
                    products = paddle.matmul(hidden, filters, transpose_y=True)
                    loops.window_sums(view(products), patterns.outer, view(b), shift, factor, first, last, out)

        parallel_for(work, w_gamma.shape[0])
        ctx.save_for_backward(hidden, *weights, scale, outs[0][0])
        ctx.patterns, ctx.need_scale = patterns, not scale.stop_gradient
        return outs[0][0], outs[1][0]

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
        hidden, *weights, scale_tensor, table = ctx.saved_tensor()
        patterns, scale = ctx.patterns, view(scale_tensor)[0]
        grads = [contiguous(g) for g in (grad_gamma, grad_beta)]
        outs = [buffer(*w.shape) for w in weights]
        area = patterns.outer.shape[1]
        factors = scale, np.ones_like(scale)

        def work(part, begin, end):
            back = paddle.zeros(hidden.shape)
            for first, last in SpadeTables.channels(patterns, begin, end):
                for w, g, factor, (_, out) in zip(weights, grads, factors, outs, strict=True):
                    spread_tensor, spread = zeros(len(hidden), area * (last - first))
                    loops.window_sums_grad(view(g), patterns.outer, factor, first, last, spread)
                    product = paddle.matmul(spread_tensor, hidden, transpose_x=True)
                    positions = view(product).reshape(area, last - first, -1)
                    out.reshape(*out.shape[:2], area)[first:last] = positions.transpose(1, 2, 0)
                    back.add_(paddle.matmul(spread_tensor, SpadeTables.filters(w, first, last)))
            return back

        grad_hidden, *others = parallel_for(work, weights[0].shape[0])
        for other in others:
            grad_hidden.add_(other)
        grad_scale = column_dot(grads[0], table).unsqueeze(0) / scale_tensor if ctx.need_scale else None
        return (
            grad_hidden, outs[0][0], column_sum(grads[0]) * scale_tensor[0], outs[1][0], column_sum(grads[1]),
            grad_scale,
        )  # fmt: skip
