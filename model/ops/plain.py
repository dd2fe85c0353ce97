"""The backend of Paddle's own operators: any device, any precision, [N,C,H,W]; nothing is put off."""

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

from model.ops import exact
from model.ops.feature_map import FeatureMap, Moments
from model.ops.moments import batch_moments, spatial_mean


class Map(FeatureMap):
    """A `FeatureMap` that is a tensor [N,C,H,W]."""

    def __init__(self, data):
        self._data, self._moments = data, {}

    @classmethod
    def enter(cls, x):
        return cls(x)

    @classmethod
    def join(cls, semantics, image):
        copies = image.shape[0] // len(semantics)
        return cls(paddle.concat([paddle.concat([semantics.one_hot()] * copies), image], axis=1))

    def leave(self):
        return self._data

    @property
    def data(self):
        return self._data

    @property
    def size(self):
        return tuple(self._data.shape[2:])

    def upsampled(self):
        return Map(F.interpolate(self._data, scale_factor=2, mode="nearest"))

    def halved(self):
        return Map(exact.halved(self._data))

    def max_pooled(self):
        return Map(F.max_pool2d(self._data, 2))

    def activated(self, slope):
        return Map(exact.leaky_relu(self._data, slope) if slope else F.relu(self._data))

    def conv2d(self, conv, residual=None):
        weight, sigma = conv.weight_and_sigma()
        weight = weight if sigma is None else weight / sigma
        y = F.conv2d(self._data, weight, conv.bias, conv.stride, conv.padding)
        return Map(y if residual is None else residual.data + y)

    def moments(self, epsilon, per_image=False, sync=False):
        key = per_image, sync
        if key not in self._moments:
            x = self._data
            if per_image:
                mean, count = spatial_mean(x), x.shape[2] * x.shape[3]
                mean, var = mean.flatten(1), spatial_mean((x - mean) ** 2).flatten(1)
            else:
                mean, var, count = batch_moments(x, sync)
                mean, var = mean.unsqueeze(0), var.unsqueeze(0)
            self._moments[key] = Moments(mean, var, exact.inverse_deviation(var, epsilon), count)
        return self._moments[key]

    def normalised(self, mean, scale, bias=None):
        mean, scale = (t.unsqueeze([2, 3]) for t in (mean, scale))
        y = (self._data - mean) * scale
        return Map(y if bias is None else y + bias.reshape([1, -1, 1, 1]))

    def modulated(self, semantics, shared, gamma, beta):
        find = _dense if semantics.dense else _from_patterns
        gamma, beta = find(semantics, self.size, shared, gamma, beta)
        return Map(self._data * (1 + gamma) + beta)

    def distance(self, target):
        return F.l1_loss(self._data, target.data.detach())


def _dense(semantics, size, shared, gamma, beta):
    """gamma and beta [N,C,H,W] as convolutions of one-hot maps."""
    hidden = shared(Map(semantics.one_hot(*size))).activated(0)
    return gamma(hidden).data, beta(hidden).data


def _from_patterns(semantics, size, shared, gamma, beta):
    """The same numbers from the map's distinct neighbourhoods: a product a neighbourhood, sent to its pixels."""
    patterns = semantics.patterns(*size, shared.weight.shape[2])
    labels, edges, inner, outer, index = patterns.device
    order = patterns.order if semantics.sorted else None
    table = shared.weight.flatten(2).transpose([2, 1, 0])  # [area, semantic_nc, hidden]
    codes = table.index_select(labels, axis=1)
    if edges is not None:
        codes = codes + edges.reshape([1, -1, 1]) * table[:, -1:]
    outside = paddle.zeros([codes.shape[0], 1, codes.shape[2]], codes.dtype)
    codes = paddle.concat([codes, outside], axis=1).flatten(0, 1)
    stride = len(patterns.labels) + 1
    offsets = paddle.arange(inner.shape[1], dtype=inner.dtype) * stride
    hidden = F.relu(F.embedding(inner + offsets, codes).sum(1) + shared.bias)
    # Outside the map activations are 0.
    hidden = paddle.concat([hidden, paddle.zeros([1, hidden.shape[1]], hidden.dtype)])
    area = outer.shape[1]
    rows = outer * area + paddle.arange(area, dtype=outer.dtype)

    def spread(conv):  # a distinct inner window is multiplied by the filter's positions once, as in `cpu_tables`
        weight = conv.weight.flatten(2).transpose([1, 2, 0]).flatten(1)  # [hidden, area * C]
        products = paddle.matmul(hidden, weight).reshape([-1, conv.weight.shape[0]])
        table = F.embedding(rows, products).sum(1) + conv.bias
        pixels = F.embedding(index, table) if order is None else _SortedRows.apply(table, index, *order)
        return pixels.transpose([0, 3, 1, 2])

    return spread(gamma), spread(beta)


class _SortedRows(PyLayer):
    """The rows of a table for an index, as F.embedding, whose gradient sums each row's pixels as one sorted segment.

    The gradient of a plain lookup adds many pixels into few rows, one by one: on GPUs by atomic additions, which wait
    for each other on the row of "sky inside". Of a sorted segment, threads add up stretches of pixels first.
    """

    @staticmethod
    def forward(ctx, table, index, order, segments):
        """table [P,C], index [N,H,W] -> [N,H,W,C]; order and segments as `Patterns.order` gives them."""
        ctx.rows = table.shape[0]
        ctx.save_for_backward(order, segments)
        return F.embedding(index, table)

    @staticmethod
    def backward(ctx, grad):
        order, segments = ctx.saved_tensor()
        sums = paddle.geometric.segment_sum(grad.flatten(0, -2).index_select(order), segments)
        unused = paddle.zeros([ctx.rows - sums.shape[0], sums.shape[1]], sums.dtype)  # the last rows
        return paddle.concat([sums, unused]), None, None, None
