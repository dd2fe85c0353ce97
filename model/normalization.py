"""SPADE and the norms without parameters that it modulates."""

import paddle
from paddle import nn

from model.convolution import Conv2D
from model.ops.exact import inverse_deviation

EPSILON = 1e-5
MOMENTUM = 0.1  # weight of the new batch in the running statistics, torch's convention
HIDDEN = 128  # channels of mlp_shared (SPADE, appendix A, fig. 10)


class InstanceNorm(nn.Layer):
    """Each image and channel to mean 0, variance 1; no parameters, no running statistics (Ulyanov et al. 2016)."""

    def forward(self, x):
        """A `FeatureMap`, normalised."""
        moments = x.moments(EPSILON, per_image=True)
        return x.normalised(moments.mean, moments.scale)


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

    def forward(self, x):
        """A `FeatureMap`, normalised; in training with the batch's own statistics, which are recorded."""
        if self.training:
            moments = x.moments(EPSILON, sync=self.sync)
            self.record(moments)
            mean, scale = moments.mean, moments.scale
        else:
            mean, scale = self.running_mean.unsqueeze(0), inverse_deviation(self.running_var, EPSILON).unsqueeze(0)
        if self.affine:
            return x.normalised(mean, scale * self.weight, self.bias)
        return x.normalised(mean, scale)

    @paddle.no_grad()
    def record(self, moments):
        """Move the running statistics towards a batch's mean and unbiased variance."""
        mean, var, count = moments.mean[0].detach(), moments.var[0].detach(), moments.count
        if isinstance(count, paddle.Tensor):  # of several processes
            unbiased = var * (count / (count - 1).clip(min=1)).astype(var.dtype)
        else:
            unbiased = var * (count / max(count - 1, 1))
        self.running_mean.set_value((1 - MOMENTUM) * self.running_mean + MOMENTUM * mean)
        self.running_var.set_value((1 - MOMENTUM) * self.running_var + MOMENTUM * unbiased)
        self.num_batches_tracked.set_value(self.num_batches_tracked + 1)


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
        self.param_free_norm = InstanceNorm() if norm == "instance" else BatchNorm(norm_nc, sync=norm == "syncbatch")
        padding = kernel_size // 2
        self.mlp_shared = nn.Sequential(Conv2D(semantic_nc, HIDDEN, kernel_size, padding=padding), nn.ReLU())
        self.mlp_gamma = Conv2D(HIDDEN, norm_nc, kernel_size, padding=padding)
        self.mlp_beta = Conv2D(HIDDEN, norm_nc, kernel_size, padding=padding)

    def forward(self, x, semantics):
        """A `FeatureMap` and `Semantics` of the same N maps -> the map, modulated."""
        return self.param_free_norm(x).modulated(semantics, self.mlp_shared[0], self.mlp_gamma, self.mlp_beta)
