"""Sums over feature maps on CPUs: batch moments, distances, maxima; accumulated in float64, with their gradients."""

import numpy as np
import paddle
from paddle.autograd import PyLayer

from model.ops import group, loops
from model.ops.memory import buffer, contiguous, copied, view
from model.ops.threads import parallel_for


def dot(a, b):
    """Sum of the products of two tensors' entries, a float summed up in float64."""
    a, b = (view(contiguous(t)).ravel() for t in (a, b))
    return sum(parallel_for(lambda part, begin, end: loops.dot(a, b, begin, end), len(a), len(a)))


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

    return copied(sum(parallel_for(work, len(arrays[0]), arrays[0].size)))


class BatchMoments(PyLayer):
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

        parts = parallel_for(work, rows, data.size)
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
        return copied(mean), copied(var)

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

        parallel_for(work, rows, data.size)
        return out_tensor


class ReluDistance(PyLayer):
    """mean |relu(x) - relu(target)| of two maps [N,H,W,C]; the target gets no gradient."""

    @staticmethod
    def forward(ctx, x, target):
        """x, target [N,H,W,C] -> the distance [], float32."""
        x, target = contiguous(x), contiguous(target)
        channels = x.shape[3]
        a, b = (view(t).reshape(-1, channels) for t in (x, target))
        total = sum(parallel_for(lambda part, first, last: loops.relu_distance(a, b, first, last), len(a)))
        ctx.save_for_backward(x, target)
        return copied(total / a.size)

    @staticmethod
    def backward(ctx, grad):
        x, target = ctx.saved_tensor()
        channels = x.shape[3]
        a, b = (view(t).reshape(-1, channels) for t in (x, target))
        scale = np.float32(float(grad) / a.size)
        out_tensor, out = buffer(*x.shape)
        out = out.reshape(-1, channels)
        parallel_for(lambda part, first, last: loops.relu_distance_grad(a, b, scale, first, last, out), len(a))
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
        parallel_for(lambda part, b, e: loops.pool_max(data, b, e, out), h // 2)
        ctx.save_for_backward(x, out_tensor)
        return out_tensor

    @staticmethod
    def backward(ctx, grad):
        x, pooled = ctx.saved_tensor()
        grad = contiguous(grad)
        out_tensor, out = buffer(*x.shape)
        g, data, top = view(grad), view(x), view(pooled)

        def work(part, b, e):
            loops.pool_max_grad(g, data, top, b, e, out)

        parallel_for(work, g.shape[1])
        return out_tensor
