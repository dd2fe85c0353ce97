"""The backend for CPUs: [N,H,W,C], float32, compiled loops around Paddle's matrix products.

Upsampling, norms, SPADE's modulation and activations are put off until a convolution reads the map, which does them on
the way (`cpu_convolution`). SPADE's gamma and beta are rows of tables, one for each distinct neighbourhood of the
label map (`cpu_tables`).
"""

from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F

from model.ops import group
from model.ops.cpu_convolution import WINOGRAD_PIXELS, Modulate, ModulatedConv
from model.ops.cpu_reductions import BatchMoments, MaxPool, ReluDistance
from model.ops.cpu_tables import SpadeTables, WindowHidden
from model.ops.exact import halved, inverse_deviation
from model.ops.feature_map import FeatureMap, Moments

WINOGRAD_WORK = 6  # products for each pixel and pair of channels that a 3x3 convolution in that form costs


class Modulation(NamedTuple):
    """y = (x - mean) * a[index] + b[index].

    Attributes:
        mean: [G,C], G = 1 or N. a, b: [P,C].
        index: int32 [N*H*W], the row of each pixel; None before SPADE, where a and b have one row for each group.
    """

    mean: paddle.Tensor
    a: paddle.Tensor
    b: paddle.Tensor
    index: np.ndarray | None


class Map(FeatureMap):
    """A `FeatureMap` of data [N,H,W,C] and what is put off: upsampling, modulation, activation."""

    def __init__(self, data, up=False, modulation=None, slope=1.0):
        self._raw, self._up, self._modulation, self._slope = data, up, modulation, slope
        self._moments = {}

    @classmethod
    def enter(cls, x):
        return cls(x.transpose([0, 2, 3, 1]))

    @classmethod
    def join(cls, semantics, image):
        return _Joined(*semantics.occurring, image)

    def leave(self):
        return self.data.transpose([0, 3, 1, 2])

    @property
    def data(self):
        return self._settled()._raw

    def _settled(self):
        """The map itself, in which nothing is put off any more, so that its next reader finds it done."""
        if self._up:
            n, h, w, c = self._raw.shape
            x = self._raw.reshape([n, h, 1, w, 1, c]).expand([n, h, 2, w, 2, c]).reshape([n, 2 * h, 2 * w, c])
            self._raw, self._up = x, False
        if self._modulation is not None or self._slope != 1:
            spec = {"index": self._index(), "slope": self._slope}
            self._raw = Modulate.apply(self._raw, *self._tables(), spec)
            self._modulation, self._slope = None, 1.0
        return self

    @property
    def size(self):
        height, width = self._raw.shape[1:3]
        return (2 * height, 2 * width) if self._up else (height, width)

    def upsampled(self):
        return Map(self._raw, up=True)

    def halved(self):
        return Map.enter(halved(self.leave()))

    def max_pooled(self):  # the maximum of activations is the activation of the maximum
        return Map(MaxPool.apply(self._raw), slope=self._slope)

    def activated(self, slope):
        return Map(self._raw, self._up, self._modulation, slope)

    def conv2d(self, conv, residual=None):
        weight, sigma = conv.weight_and_sigma()
        return self._convolved(conv, weight, sigma, conv.bias, residual)

    def _convolved(self, conv, weight, sigma, bias, residual):
        spec = {"index": self._index(), "up": self._up, "slope": self._slope}
        spec |= {"stride": conv.stride, "pad": conv.padding}
        scale = None if sigma is None else 1 / sigma
        added = None if residual is None else residual.data
        exact = paddle.is_grad_enabled()
        return Map(ModulatedConv.apply(self._raw, *self._tables(), weight, bias, added, scale, exact, spec))

    def moments(self, epsilon, per_image=False, sync=False):
        self._unmodulated()
        key = per_image, sync
        if key not in self._moments:
            n, h, w, c = self._raw.shape
            counts = [] if sync and group.world() > 1 else None
            mean, var = BatchMoments.apply(self._raw.reshape([n if per_image else 1, -1, c]), counts)
            count = (counts[0] if counts else h * w * (1 if per_image else n)) * (4 if self._up else 1)
            self._moments[key] = Moments(mean, var, inverse_deviation(var, epsilon), count)
        return self._moments[key]

    def normalised(self, mean, scale, bias=None):
        b = paddle.zeros_like(scale) if bias is None else bias.unsqueeze(0)
        x = self._unmodulated()
        return Map(x._raw, x._up, Modulation(mean, scale, b, None))

    def modulated(self, semantics, shared, gamma, beta):
        mean, scale, _, _ = self._modulation
        if semantics.dense:
            hidden = shared(Map.enter(semantics.one_hot(*self.size))).activated(0)
            return self._modulated_by(hidden, gamma, beta)
        patterns = semantics.patterns(*self.size, shared.weight.shape[2])
        rows = WindowHidden.apply(shared.weight, shared.bias, patterns)
        if _are_many(patterns):
            return self._modulated_by(_spread(rows, patterns), gamma, beta)
        groups = mean.shape[0]
        common = scale if groups == 1 else paddle.ones([1, scale.shape[1]])
        a, b = SpadeTables.apply(rows, gamma.weight, gamma.bias, beta.weight, beta.bias, common, patterns)
        index = patterns.flat_index
        if groups > 1:  # one table an image
            rows = np.arange(groups, dtype=np.int32)[:, None] * np.int32(len(patterns.outer))
            a = (a.unsqueeze(0) * scale.unsqueeze(1)).flatten(0, 1)
            b = paddle.concat([b] * groups)
            index = (index.reshape(groups, -1) + rows).ravel()
        return Map(self._raw, self._up, Modulation(mean, a, b, index))

    def _modulated_by(self, hidden, gamma, beta):
        """By convolutions of the hidden layer's map, one row of the tables a pixel."""
        mean, scale, _, _ = self._modulation
        gamma, beta = (conv(hidden).data for conv in (gamma, beta))  # [N,H,W,C]
        a = ((1 + gamma) * scale.unsqueeze([1, 2])).flatten(0, 2)
        return Map(self._raw, self._up, Modulation(mean, a, beta.flatten(0, 2), np.arange(a.shape[0], dtype=np.int32)))

    def distance(self, target):
        maps = self, target
        if all(m._modulation is None and m._slope == 0 for m in maps):
            return ReluDistance.apply(self._raw, target._raw.detach())
        return F.l1_loss(self.data, target.data.detach())

    def _unmodulated(self):
        """The map itself, in which nothing but upsampling is put off."""
        return self if self._modulation is None and self._slope == 1 else self._settled()

    def _tables(self):
        """mean, a and b as the kernels take them."""
        if self._modulation is not None:
            return self._modulation[:3]
        zero = paddle.zeros([1, self._raw.shape[3]])
        return zero, paddle.ones_like(zero), zero

    def _index(self):
        """The table row of each pixel, None without a modulation."""
        if self._modulation is None:
            return None
        if self._modulation.index is not None:
            return self._modulation.index
        (height, width), n = self.size, self._raw.shape[0]
        groups = self._modulation.a.shape[0]
        return np.repeat(np.arange(groups, dtype=np.int32), n // groups * height * width)


class _Joined(Map):
    """Semantics beside pictures: a convolution computes the semantics' part once a map, of the channels that occur."""

    def __init__(self, classes, channels, image):
        """
        Args:
            classes: [N,K,H,W], of the K channels that occur; channels: their numbers, int64 [K].
            image: [M*N,C,H,W].
        """
        self._classes, self._channels, self._image = classes, channels, image

    def halved(self):
        return _Joined(halved(self._classes), self._channels, halved(self._image))

    def conv2d(self, conv, residual=None):
        weight, sigma = conv.weight_and_sigma()
        classes, image = Map.enter(self._classes), Map.enter(self._image)
        part = classes._convolved(conv, weight.index_select(self._channels, axis=1), sigma, conv.bias, None).data
        copies = self._image.shape[0] // self._classes.shape[0]
        part = Map(paddle.concat([part] * copies) if copies > 1 else part)
        return image._convolved(conv, weight[:, weight.shape[1] - self._image.shape[1] :], sigma, None, part)


def _are_many(patterns):
    """Whether so many windows are distinct that convolving the hidden layer's map costs less than their tables."""
    windows, area, pixels = len(patterns.inner), patterns.outer.shape[1], patterns.index.size
    takes_winograd = area == 9 and pixels >= WINOGRAD_PIXELS[3, 2]
    return takes_winograd and windows * area > WINOGRAD_WORK * pixels


def _spread(rows, patterns):
    """The hidden layer's map from its rows [Q + 1, H]: that of the middle of each pixel's neighbourhood."""
    middle = patterns.outer[patterns.flat_index, patterns.outer.shape[1] // 2]
    nothing = paddle.zeros([1, rows.shape[1]])
    x = paddle.zeros([*patterns.index.shape, rows.shape[1]])
    return Map(x, modulation=Modulation(nothing, paddle.zeros_like(rows), rows, middle))
