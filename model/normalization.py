"""SPADE and the norms without parameters that it modulates."""

import paddle
from paddle import nn

from model import distributed
from model.convolution import Conv2D

EPSILON = 1e-5
MOMENTUM = 0.1  # share of the new batch in the running statistics, torch's convention
HIDDEN = 128  # channels of mlp_shared (SPADE, appendix A, fig. 10)


class InstanceNorm(nn.Layer):
    """Each image and channel to mean 0, variance 1; no parameters, no running statistics (Ulyanov et al. 2016)."""

    def statistics(self, x):
        """x [N,C,H,W] -> mean and 1/deviation, each [N,C,1,1]."""
        mean = x.mean([2, 3], keepdim=True)
        var = ((x - mean) ** 2).mean([2, 3], keepdim=True)
        return mean, (var + EPSILON).rsqrt()

    def forward(self, x):
        mean, scale = self.statistics(x)
        return (x - mean) * scale


class BatchNorm(nn.Layer):
    """Each channel to mean 0, variance 1 over the batch (Ioffe & Szegedy 2015), in torch's conventions.

    Differs from paddle.nn.BatchNorm2D in what it keeps: `running_var` is the unbiased variance, n/(n-1) times the
    biased one that normalises (test_normalization.py::test_running_variance_is_unbiased). batch, syncbatch and
    single-process training share one class, so their checkpoints have the same keys.

    Args:
        channels: C.
        sync: take the statistics over all processes' batches.
        affine: whether `weight` and `bias` are applied.
    """

    def __init__(self, channels, sync=False, affine=False):
        super().__init__()
        self.sync, self.affine = sync, affine
        if affine:
            self.weight = self.create_parameter([channels], default_initializer=nn.initializer.Constant(1.0))
            self.bias = self.create_parameter([channels], is_bias=True)
        self.register_buffer("running_mean", paddle.zeros([channels]))
        self.register_buffer("running_var", paddle.ones([channels]))
        self.register_buffer("num_batches_tracked", paddle.zeros([], dtype="int64"))

    def statistics(self, x):
        """x [N,C,H,W] -> mean and 1/deviation, each [1,C,1,1]; in training mode of this batch, which it records."""
        if not self.training:
            mean, var = self.running_mean, self.running_var
        else:
            mean, var, count = distributed.batch_moments(x, self.sync)
            self.record(mean, var, count)
        shape = [1, -1, 1, 1]
        return mean.reshape(shape), (var + EPSILON).rsqrt().reshape(shape)

    @paddle.no_grad()
    def record(self, mean, var, count):
        """Move the running statistics towards a batch's mean and biased variance [C] over `count` values."""
        unbiased = var.detach() * (count / max(count - 1, 1))
        self.running_mean.set_value((1 - MOMENTUM) * self.running_mean + MOMENTUM * mean.detach())
        self.running_var.set_value((1 - MOMENTUM) * self.running_var + MOMENTUM * unbiased)
        self.num_batches_tracked.set_value(self.num_batches_tracked + 1)

    def forward(self, x):
        mean, scale = self.statistics(x)
        x = (x - mean) * scale
        if self.affine:
            x = x * self.weight.reshape([1, -1, 1, 1]) + self.bias.reshape([1, -1, 1, 1])
        return x


class SPADE(nn.Layer):
    """Spatially-adaptive normalisation: norm(x) * (1 + gamma(m)) + beta(m) (SPADE, section 3.1, eq. 1).

    gamma and beta come from the semantics m, brought to x's size by nearest-neighbour sampling, through a shared
    convolution with ReLU and one convolution each.

    Args:
        norm_nc: channels of x.
        semantic_nc: channels of the semantics.
        kernel_size: 3 or 5, of all three convolutions.
        norm: batch, syncbatch or instance.
    """

    def __init__(self, norm_nc, semantic_nc, kernel_size=3, norm="syncbatch"):
        super().__init__()
        self.kernel_size = kernel_size
        self.param_free_norm = InstanceNorm() if norm == "instance" else BatchNorm(norm_nc, sync=norm == "syncbatch")
        padding = kernel_size // 2
        self.mlp_shared = nn.Sequential(Conv2D(semantic_nc, HIDDEN, kernel_size, padding=padding), nn.ReLU())
        self.mlp_gamma = Conv2D(HIDDEN, norm_nc, kernel_size, padding=padding)
        self.mlp_beta = Conv2D(HIDDEN, norm_nc, kernel_size, padding=padding)

    def modulation(self, semantics, height, width):
        """gamma and beta at a size, each [N, norm_nc, height, width]."""
        hidden = self.mlp_shared(semantics.one_hot(height, width))
        return self.mlp_gamma(hidden), self.mlp_beta(hidden)

    def forward(self, x, semantics):
        """x [N,C,H,W], semantics of N maps -> [N,C,H,W]."""
        gamma, beta = self.modulation(semantics, x.shape[2], x.shape[3])
        return self.param_free_norm(x) * (1 + gamma) + beta
