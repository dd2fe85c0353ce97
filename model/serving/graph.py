"""The networks as graphs of a few operations, with folded weights, in the forms that inference engines run.

A trained network's own forward pass is recorded: it runs on a `FeatureMap` that writes down what is asked of it.
Spectral norm's sigma is divided out, batch norm's statistics become part of gamma's and beta's convolutions, so that
SPADE is x * a + b. `onnx_ops` and `paddle_ops` make files of a graph. Feature maps are [N,C,H,W].
"""

import numpy as np

from model.encoder import SIDE
from model.ops.feature_map import FeatureMap, Moments
from model.serving.label_forms import Dense, Patterns
from model.serving.recording import Graph, as_array, by_position, kernel


class _Map(FeatureMap):
    """A `FeatureMap` that a graph records, for evaluation mode.

    Args:
        value: [N,C,H,W]; by_rows: [N,H,W,C]. channels, size: C and (H, W) of the map.
        doubled: the value has half the size, and is still to be upsampled.
        norm: mean, scale and bias [C] that are still to be applied.
    """

    def __init__(self, graph, value, channels, size, by_rows=False, doubled=False, norm=None):
        self._graph, self._value, self.channels, self._size = graph, value, channels, size
        self._by_rows, self._doubled, self._norm = by_rows, doubled, norm

    def _changed(self, value, **changes):
        return _Map(self._graph, value, self.channels, changes.pop("size", self._size), **changes)

    @property
    def size(self):
        return self._size

    def maps(self):
        """[N,C,H,W], before the norm."""
        if self._by_rows:
            return self._graph.transpose(self.rows(), [0, 3, 1, 2])
        return self._graph.upsample(self._value) if self._doubled else self._value

    def rows(self):
        """[N,H,W,C], before the norm: upsampling copies whole rows of channels."""
        value = self._value if self._by_rows else self._graph.transpose(self._value, [0, 2, 3, 1])
        for axis, side in enumerate(self._size, 1):
            value = self._graph.take(value, np.arange(side) // 2, axis) if self._doubled else value
        return value

    def leave(self):
        value = self.maps()
        if self._norm is not None:
            mean, scale, bias = self._norm
            parts = (self._graph.floats(part.reshape(-1, 1, 1)) for part in (scale, bias - mean * scale))
            value = self._graph.add(self._graph.mul(value, next(parts)), next(parts))
        return value

    def upsampled(self):
        height, width = self._size
        return self._changed(self.leave(), size=(2 * height, 2 * width), doubled=True)

    def activated(self, slope):
        value = self.rows() if self._by_rows else self.leave()
        return self._changed(self._graph.leaky_relu(value, slope, not self._by_rows), by_rows=self._by_rows)

    def conv2d(self, conv, residual=None):
        name, weight = self._graph.name(conv), kernel(conv)
        array = self._graph.weight(f"{name}.weight", weight)
        bias = None if conv.bias is None else self._graph.weight(f"{name}.bias", as_array(conv.bias))
        y = self._graph.conv(self.leave(), array, bias, weight.shape[2], conv.stride)
        if residual is not None:
            y = self._graph.add(y, residual.leave())
        return _Map(self._graph, y, len(weight), tuple(side // conv.stride for side in self._size))

    def moments(self, epsilon, per_image=False, sync=False):
        return Moments(None, None, None, None)  # of each image: known when the graph runs

    def normalised(self, mean, scale, bias=None):
        if mean is None:
            return self._changed(self._graph.instance_norm(self.leave(), self.channels))
        mean, scale = (as_array(part)[0] for part in (mean, scale))
        norm = mean, scale, np.zeros_like(mean) if bias is None else as_array(bias)
        return self._changed(self._value, by_rows=self._by_rows, doubled=self._doubled, norm=norm)

    def modulated(self, semantics, shared, gamma, beta):
        """norm(x) * (1 + gamma) + beta as x * a + b, both linear in the hidden layer."""
        name = self._graph.name(gamma).removesuffix(".mlp_gamma")
        mean, scale, _ = self._norm or (0.0, 1.0, 0.0)
        a, a_bias = by_position(gamma) * scale, (1 + as_array(gamma.bias)) * scale
        b, b_bias = by_position(beta) - a * mean, as_array(beta.bias) - a_bias * mean
        weight = np.concatenate([a, b], 2).reshape(-1, 2 * self.channels)
        weight = self._graph.weight(f"{name}.ab.weight", weight)
        bias = self._graph.weight(f"{name}.ab.bias", np.concatenate([a_bias, b_bias]))
        value = semantics.modulate(self, f"{name}.hidden", shared, weight, bias)
        return self._changed(value, by_rows=semantics.by_rows)

    def _untrained(self, *_):
        raise NotImplementedError("graphs are of networks in evaluation mode")

    enter = join = data = halved = max_pooled = distance = _untrained


_FORMS = {"pattern": Patterns, "dense": Dense}


def generator(G, opt, form: str) -> Graph:
    """The graph of a generator in one of the FORMS of `model.serving`: pictures [N,output_nc,H,W] in [-1,1]."""
    graph = Graph(G)
    semantics, size, channels = _FORMS[form](graph, opt), opt.start_size, 16 * opt.ngf
    if opt.use_vae:
        style = graph.input("style", "float32", ["batch", opt.z_dim])
        x = graph.matmul(style, graph.weight("fc.weight", as_array(G.fc.weight)))  # [z_dim, C*h*w]
        x = graph.reshape(graph.add(x, graph.weight("fc.bias", as_array(G.fc.bias))), [-1, channels, *size])
    else:
        x = semantics.first_map(G.fc)
    picture = graph.tanh(G.body(_Map(graph, x, channels, tuple(size)), semantics).leave())
    graph.output(picture, "picture", ["batch", opt.output_nc, *opt.generator_size])
    return graph


def encoder(E, size: tuple[int, int]) -> Graph:
    """The graph of an encoder for photos [N,C,*size] in [-1,1]: the mean of their style's distribution [N, z_dim]."""
    graph, channels = Graph(E), E.input_nc
    x = graph.input("photo", "float32", ["batch", channels, *size])
    if size[1] != SIDE:
        x = graph.matmul(x, graph.floats(_resize(size[1]).T))
    if size[0] != SIDE:
        x = graph.matmul(graph.floats(_resize(size[0])), x)
    x = graph.reshape(E.body(_Map(graph, x, channels, (SIDE, SIDE))).leave(), [-1, E.fc_mu.weight.shape[0]])
    x = graph.matmul(x, graph.weight("fc_mu.weight", as_array(E.fc_mu.weight)))
    mean = graph.add(x, graph.weight("fc_mu.bias", as_array(E.fc_mu.bias)))
    graph.output(mean, "mean", ["batch", E.fc_mu.bias.shape[0]])
    return graph


def _resize(size: int) -> np.ndarray:
    """Bilinear interpolation of a line of `size` pixels to `SIDE`, as a matrix [SIDE, size]."""
    place = np.clip((np.arange(SIDE) + 0.5) * size / SIDE - 0.5, 0, size - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(size)))
