"""The process group: ranks, gradient exchange, batch moments over all processes."""


def batch_moments(x, sync=False):
    """Mean and biased variance of each channel over batch and space.

    Args:
        x: [N,C,H,W].
        sync: over all processes' batches instead of this one's.

    Returns:
        mean [C], var [C] (both carry gradients), and the number of values a channel had.
    """
    mean = x.mean([0, 2, 3])
    var = ((x - mean.reshape([1, -1, 1, 1])) ** 2).mean([0, 2, 3])
    return combine_moments(mean, var, x.shape[0] * x.shape[2] * x.shape[3], sync)


def combine_moments(mean, var, count, sync=False):
    """Mean and biased variance [C] of `count` values of this process -> those over all processes, and their count."""
    return mean, var, count
