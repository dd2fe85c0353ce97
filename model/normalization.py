"""SPADE and the norms without parameters that it modulates."""

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from model.convolution import Conv2D
from model.ops import group

EPSILON = 1e-5
MOMENTUM = 0.1  # share of the new batch in the running statistics, torch's convention
HIDDEN = 128  # channels of mlp_shared (SPADE, appendix A, fig. 10)


def inverse_deviation(var):
    """1 / sqrt(var + EPSILON), with EPSILON in var's own precision: as a plain number Paddle 2.6 makes it float32."""
    return (var + paddle.full([], EPSILON, var.dtype)).rsqrt()


class InstanceNorm(nn.Layer):
    """Each image and channel to mean 0, variance 1; no parameters, no running statistics (Ulyanov et al. 2016)."""

    def statistics(self, x):
        """x [N,C,H,W] -> mean and 1/deviation, each [N,C,1,1]."""
        mean = group.spatial_mean(x)
        var = group.spatial_mean((x - mean) ** 2)
        return mean, inverse_deviation(var)

    def row_statistics(self, x, copies=1):
        """x [N,H,W,C] -> mean and 1/deviation, each [N,C]; for the blocked form."""
        from model.ops.cpu import Moments

        mean, var = Moments.apply(x.reshape([x.shape[0], -1, x.shape[3]]))
        return mean, inverse_deviation(var)

    def shared_statistics(self, other, statistics):
        """The statistics that another norm found for the same x."""
        return statistics

    def row_modulation(self, x):
        """The norm of x [N,H,W,C] as (x - mean) * a + b: three [N,C] and the table row of each pixel."""
        mean, scale = self.row_statistics(x)
        return (
            mean,
            scale,
            paddle.zeros_like(scale),
            np.repeat(np.arange(x.shape[0], dtype=np.int32), x.shape[1] * x.shape[2]),
        )

    def forward(self, x):
        """x [N,C,H,W] -> [N,C,H,W], normalised."""
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
            mean, var, count = group.batch_moments(x, self.sync)
            self.record(mean, var, count)
        shape = [1, -1, 1, 1]
        return mean.reshape(shape), inverse_deviation(var).reshape(shape)

    def row_statistics(self, x, copies=1):
        """x [N,H,W,C], to be repeated `copies` times -> mean and 1/deviation, each [1,C]; for the blocked form."""
        from model.ops.cpu import Moments

        if not self.training:
            mean, var = self.running_mean, self.running_var
        else:
            counts = [] if self.sync and group.world() > 1 else None
            mean, var = (m[0] for m in Moments.apply(x.reshape([1, -1, x.shape[3]]), counts))
            self.record(mean, var, (counts[0] if counts else x.size // x.shape[3]) * copies)
        return mean.unsqueeze(0), inverse_deviation(var).unsqueeze(0)

    def shared_statistics(self, other, statistics):
        """The statistics of x when another norm has just found its own for the same x (norm_0 and norm_s of a block).

        In training both see one batch, which this one records too; in evaluation each has its running statistics.
        """
        if not self.training:
            return self.row_statistics(None)
        self.record(*other.seen)
        return statistics

    def row_modulation(self, x):
        """The norm of x [N,H,W,C] as (x - mean) * a + b: three [1,C] and the table row of each pixel, 0."""
        mean, a = self.row_statistics(x)
        b = paddle.zeros_like(a)
        if self.affine:
            a, b = a * self.weight, b + self.bias
        return mean, a, b, np.zeros(x.size // x.shape[3], np.int32)

    @paddle.no_grad()
    def record(self, mean, var, count):
        """Move the running statistics towards a batch's mean and biased variance [C] over `count` values."""
        self.seen = mean.detach(), var.detach(), count
        if isinstance(count, paddle.Tensor):  # of several processes
            unbiased = var.detach() * (count / (count - 1).clip(min=1)).astype(var.dtype)
        else:
            unbiased = var.detach() * (count / max(count - 1, 1))
        self.running_mean.set_value((1 - MOMENTUM) * self.running_mean + MOMENTUM * mean.detach())
        self.running_var.set_value((1 - MOMENTUM) * self.running_var + MOMENTUM * unbiased)
        self.num_batches_tracked.set_value(self.num_batches_tracked + 1)

    def forward(self, x):
        """x [N,C,H,W] -> [N,C,H,W], normalised; in training with the batch's own statistics."""
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

    def forward(self, x, semantics):
        """x [N,C,H,W], semantics of N maps -> [N,C,H,W]."""
        height, width = x.shape[2:]
        if semantics.dense:
            gamma, beta = self.dense_modulation(semantics, height, width)
        else:
            gamma, beta = self.pattern_modulation(semantics, height, width)
        return self.param_free_norm(x) * (1 + gamma) + beta

    def dense_modulation(self, semantics, height, width):
        """gamma and beta as convolutions of one-hot maps, each [N, norm_nc, height, width]."""
        hidden = self.mlp_shared(semantics.one_hot(height, width))
        return self.mlp_gamma(hidden), self.mlp_beta(hidden)

    def pattern_modulation(self, semantics, height, width):
        """The same numbers from the map's distinct neighbourhoods: a product a neighbourhood, sent to its pixels."""
        patterns = semantics.patterns(height, width, self.kernel_size)
        labels, edges, inner, outer, index = patterns.device
        shared = self.mlp_shared[0]
        table = shared.weight.flatten(2).transpose([2, 1, 0])  # [area, semantic_nc, HIDDEN]
        codes = table.index_select(labels, axis=1)
        if edges is not None:
            codes = codes + edges.reshape([1, -1, 1]) * table[:, -1:]
        codes = paddle.concat([codes, paddle.zeros([codes.shape[0], 1, HIDDEN], codes.dtype)], axis=1).flatten(0, 1)
        stride = len(patterns.labels) + 1
        offsets = paddle.arange(inner.shape[1], dtype=inner.dtype) * stride
        hidden = F.relu(F.embedding(inner + offsets, codes).sum(1) + shared.bias)
        hidden = paddle.concat([hidden, paddle.zeros([1, HIDDEN], hidden.dtype)])  # outside the map activations are 0
        area = outer.shape[1]
        rows = outer * area + paddle.arange(area, dtype=outer.dtype)

        def spread(conv):  # a distinct inner window is multiplied by the filter's positions once: see PatternTables
            weight = conv.weight.flatten(2).transpose([1, 2, 0]).flatten(1)  # [HIDDEN, area * C]
            products = paddle.matmul(hidden, weight).reshape([-1, conv.weight.shape[0]])
            table = F.embedding(rows, products).sum(1) + conv.bias
            return F.embedding(index, table).transpose([0, 3, 1, 2])

        return spread(self.mlp_gamma), spread(self.mlp_beta)

    def tables(self, statistics, semantics, height, width):
        """norm(x) * (1 + gamma) + beta as (x - mean) * a[index] + b[index], for the blocked form.

        Args:
            statistics: mean and 1/deviation [G,C] of `row_statistics`, G 1 or N.

        Returns:
            mean: [G,C]; a, b: [G * P, C]; index: int32 [N*height*width].
        """
        from model.ops.cpu import PatternTables

        patterns = semantics.patterns(height, width, self.kernel_size)
        shared = self.mlp_shared[0]
        mean, scale = statistics
        index, groups = patterns.flat_index, mean.shape[0]
        common = scale if groups == 1 else paddle.ones([1, scale.shape[1]])
        a, b = PatternTables.apply(
            shared.weight, shared.bias, self.mlp_gamma.weight, self.mlp_gamma.bias,
            self.mlp_beta.weight, self.mlp_beta.bias, common, patterns,
        )  # fmt: skip
        if groups == 1:
            return mean, a, b, index
        # instance norm: one table an image
        steps = np.arange(groups, dtype=np.int32)[:, None] * np.int32(len(patterns.outer))
        a = a.unsqueeze(0) * scale.unsqueeze(1)
        b = paddle.concat([b] * groups)
        return mean, a.flatten(0, 1), b, (index.reshape(groups, -1) + steps).ravel()
