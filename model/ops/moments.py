"""Mean and variance by Paddle's operators, also over the batches of all processes."""

import paddle
from paddle.autograd import PyLayer

from model.ops import group


def batch_moments(x, sync=False):
    """Mean and biased variance of each channel over batch and space.

    Args:
        x: [N,C,H,W].
        sync: over all processes' batches instead of this one's.

    Returns:
        mean [C], var [C] (both carry gradients), and the number of values a channel had.
    """
    mean = spatial_mean(x).mean(0, keepdim=True)
    var = spatial_mean((x - mean) ** 2).mean(0)
    return combine_moments(mean.flatten(), var.flatten(), x.shape[0] * x.shape[2] * x.shape[3], sync)


def spatial_mean(x):
    """The mean [N,C,1,1] of x [N,C,H,W], a row's mean first.

    Paddle's CPU kernel adds one value after the other in float32: over rows first, gradients of a training step come
    out ten times more exact than over all pixels at once.
    """
    return x.mean(3, keepdim=True).mean(2, keepdim=True)


def combine_moments(mean, var, count, sync=False):
    """Mean and biased variance [C] of `count` values of this process -> those over all processes, and their count.

    The count of several processes is a 0-d tensor, so that nothing waits for a GPU.
    """
    if not sync or group.world() == 1:
        return mean, var, count
    total = []
    mean, var = _AllMoments.apply(mean, var, count, total)
    return mean, var, total[0]


class _AllMoments(PyLayer):
    """The moments of all processes' values from each one's: sums of counts, values and squares, in float64."""

    @staticmethod
    def forward(ctx, mean, var, count, total):
        channels = mean.shape[0]
        own_mean = mean.astype("float64")
        square = var.astype("float64") + own_mean * own_mean
        sums = paddle.concat([count * own_mean, count * square, paddle.full([1], count, "float64")])
        group.all_reduce(sums, "statistics")
        total.append(sums[-1])
        all_mean = sums[:channels] / sums[-1]
        all_var = (sums[channels:-1] / sums[-1] - all_mean * all_mean).clip(min=0)
        ctx.fraction = count / sums[-1]
        ctx.offset = (own_mean - all_mean).astype(mean.dtype)
        return all_mean.astype(mean.dtype), all_var.astype(mean.dtype)

    @staticmethod
    def backward(ctx, grad_mean, grad_var):
        sums = paddle.concat([grad_mean, grad_var]).astype("float64")  # every process's losses depend on these moments
        group.all_reduce(sums, "statistics")
        grad_mean, grad_var = paddle.split((ctx.fraction * sums).astype(grad_mean.dtype), 2)
        return grad_mean + 2 * ctx.offset * grad_var, grad_var
