"""The networks as graphs of a few operations, with folded weights, in the forms that inference engines run.

A trained network's own forward pass is recorded: it runs on a `FeatureMap` that writes down what is asked of it, and on
label maps in one of two forms, numbered neighbourhoods or the maps themselves. Spectral norm's sigma is divided out,
batch norm's statistics become part of gamma's and beta's convolutions, so that SPADE is x * a + b. `onnx_ops` and
`paddle_ops` make files of a graph. Feature maps are [N,C,H,W].
"""

import pickle
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

from model.configuration.texts import parse_norm_g
from model.encoder import SIDE
from model.normalization import HIDDEN
from model.ops.feature_map import FeatureMap, Moments

FEW_PIXELS = 64 * 64  # below, nearly every pixel has an inner window of its own


class _Value(NamedTuple):
    step: int


class Graph:
    """The steps of a pass: calls of an `ops` object's methods (`onnx_ops.OnnxOps` says which); the last is the result.

    A call that was recorded before is the earlier step again.

    Args:
        layers: a network; weights get the names of its layers.

    Attributes:
        inputs: {name: (dtype, shape)}. weights: {name: float32 array}.
    """

    def __init__(self, layers):
        self.inputs, self.weights, self._steps = {}, {}, {}
        self._names = {id(layer): name for name, layer in layers.named_sublayers()}

    def name(self, layer) -> str:
        """The name of a layer in its network."""
        return self._names[id(layer)]

    def input(self, name, kind, shape):
        self.inputs[name] = kind, shape
        return self._step("input", name, kind, shape)

    def weight(self, name, array):
        self.weights[name] = np.ascontiguousarray(array, np.float32)
        return self._step("weight", name)

    def __getattr__(self, operation):
        return partial(self._step, operation)

    def _step(self, *call):
        number, _ = self._steps.setdefault(pickle.dumps(call), (len(self._steps), call))
        return _Value(number)

    def replay(self, ops) -> Any:
        """Make the calls on an `ops` object; returns what the last one does."""
        values = []

        def known(argument):
            if isinstance(argument, list):
                return [known(part) for part in argument]
            return values[argument.step] if isinstance(argument, _Value) else argument

        for _, (operation, *arguments) in self._steps.values():
            values.append(getattr(ops, operation)(*map(known, arguments)))
        return values[-1]


def as_array(tensor) -> np.ndarray:
    """A tensor's numbers in float64."""
    return tensor.numpy().astype(np.float64)


def weight_of(conv) -> np.ndarray:
    """The weight [K,C,s,s] that a convolution uses in evaluation mode."""
    weight, sigma = conv.weight_and_sigma()
    return as_array(weight) if sigma is None else as_array(weight) / as_array(sigma)


def by_position(conv) -> np.ndarray:
    """A convolution's weight as [area, C, K]."""
    weight = weight_of(conv)
    return weight.reshape(*weight.shape[:2], -1).transpose(2, 1, 0)


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
        name, weight = self._graph.name(conv), weight_of(conv)
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


class _LabelMaps:
    """Label maps in a graph, in place of `model.semantics.Semantics`."""

    by_rows = False  # whether `modulate` gives [N,H,W,C] in place of [N,C,H,W]

    def __init__(self, graph, opt):
        self.graph, self.sizes = graph, opt.spade_sizes
        self.classes, self.with_edges = opt.label_nc + opt.contain_dontcare_label, not opt.no_instance
        self.area = parse_norm_g(opt.norm_G)[2] ** 2

    def over_labels(self, name, conv):
        """A convolution over one-hot maps as rows to add up, one for each window position and class, 0 outside.

        Returns:
            table [area * (classes + 1), K], the edges' rows [area, K] or None, bias [K]; and its shape [area, K].
        """
        weight = by_position(conv)  # [area, semantic_nc, K]
        table = np.pad(weight[:, : self.classes], ((0, 0), (0, 1), (0, 0)))
        rows = self.graph.weight(f"{name}.table", table.reshape(-1, table.shape[2]))
        edges = self.graph.weight(f"{name}.edges", weight[:, -1]) if self.with_edges else None
        return rows, edges, self.graph.weight(f"{name}.bias", as_array(conv.bias)), (len(weight), weight.shape[2])


class Patterns(_LabelMaps):
    """a and b from numbered neighbourhoods: the integer tables that `neighbourhoods.graph_inputs` makes are inputs."""

    by_rows = True

    def __init__(self, graph, opt):
        super().__init__(graph, opt)
        self._tables = {}
        for height, width in self.sizes:
            size = f"{height}x{width}"
            inner = graph.input(f"inner_{size}", "int32", [f"windows_{size}", self.area])
            outer = graph.input(f"outer_{size}", "int32", [f"patterns_{size}", self.area])
            index = graph.input(f"index_{size}", "int32", ["batch", height, width])
            maps = [graph.half(inner), graph.odd(inner)] if self.with_edges else [inner]  # labels, edges
            self._tables[height, width] = maps, outer, index

    def _summed(self, name, conv, label, edges=None):
        """A convolution over one-hot maps for windows of ids [Q, area]: [Q, K]."""
        graph = self.graph
        table, edge_rows, bias, (area, _) = self.over_labels(name, conv)
        first = np.arange(area) * (self.classes + 1)
        total = graph.sum_rows(graph.gather(table, graph.add(label, graph.integers(first))))
        if edges is not None:
            total = graph.add(total, graph.matmul(edges, edge_rows))
        return graph.add(total, bias)

    def first_map(self, conv):
        """The convolution over the label map that a generator without style begins with: [N,C,h,w]."""
        graph, side = self.graph, round(self.area**0.5)
        maps, outer, index = self._tables[self.sizes[0]]
        middle = self.area // 2
        if side > 3:  # its windows are 3x3 all the same
            window = [middle + side * i + j for i in (-1, 0, 1) for j in (-1, 0, 1)]
            maps = [graph.take(codes, window, 1) for codes in maps]
        inner_index = graph.gather(graph.reshape(graph.take(outer, [middle], 1), [-1]), index)
        return graph.transpose(graph.gather(self._summed("fc", conv, *maps), inner_index), [0, 3, 1, 2])

    def modulate(self, x, name, shared, weight, bias):
        """x * a + b of a map of C channels; weight [area * HIDDEN, 2C] and bias [2C] are a's beside b's."""
        graph, area, channels = self.graph, self.area, x.channels
        maps, outer, index = self._tables[x.size]
        hidden = graph.relu(self._summed(name, shared, *maps))
        hidden = graph.concat([hidden, graph.floats(np.zeros((1, HIDDEN)))], 0)  # outside the map activations are 0
        if x.size[0] * x.size[1] < FEW_PIXELS:
            table = graph.matmul(graph.reshape(graph.gather(hidden, outer), [-1, area * HIDDEN]), weight)
        else:  # fewer inner windows than outer ones: multiply first, then gather and add
            kernels, parts = graph.reshape(weight, [area, HIDDEN, 2 * channels]), []
            for i in range(area):
                product = graph.matmul(hidden, graph.reshape(graph.take(kernels, [i], 0), [HIDDEN, 2 * channels]))
                parts.append(graph.gather(product, graph.reshape(graph.take(outer, [i], 1), [-1])))
            table = reduce(graph.add, parts)
        rows = graph.reshape(graph.add(table, bias), [-1, channels])  # a's and b's by turns
        even = graph.add(index, index)
        odd = graph.add(even, graph.integers([1]))
        return graph.add(graph.mul(x.rows(), graph.gather(rows, even)), graph.gather(rows, odd))


class Dense(_LabelMaps):
    """a and b by convolutions of one-hot maps: integer maps are inputs."""

    def __init__(self, graph, opt):
        super().__init__(graph, opt)
        height, width = self.sizes[-1]
        self._label = graph.input("label", "int32", ["batch", height, width])
        self._edges = self._find_edges(height, width) if self.with_edges else None

    def _find_edges(self, height, width):
        """1.0 where the instance differs from a neighbour's, [N,H,W]."""
        graph, found = self.graph, []
        instance = graph.input("instance", "int32", ["batch", height, width])
        for axis, side in ((1, height), (2, width)):
            for step in (-1, 1):
                neighbour = graph.take(instance, np.clip(np.arange(side) + step, 0, side - 1), axis)
                found.append(graph.differ(instance, neighbour))
        return reduce(graph.maximum, found)

    def _maps(self, size):
        """The one-hot maps [N,semantic_nc,h,w] at a size."""
        graph, label, edges = self.graph, self._label, self._edges
        for axis, full, side in zip((1, 2), self.sizes[-1], size, strict=True):
            if side != full:
                label = graph.take(label, np.arange(side) * (full // side), axis)
                edges = None if edges is None else graph.take(edges, np.arange(side) * (full // side), axis)
        maps = graph.one_hot(label, self.classes)
        return maps if edges is None else graph.concat([maps, graph.reshape(edges, [-1, 1, *size])], 1)

    def _over_maps(self, name, conv, size):
        """A convolution over the one-hot maps."""
        graph = self.graph
        table, edges, bias, (area, channels) = self.over_labels(name, conv)
        kernel = graph.reshape(table, [area, self.classes + 1, channels])
        kernel = graph.take(kernel, np.arange(self.classes), 1)
        if edges is not None:
            kernel = graph.concat([kernel, graph.reshape(edges, [area, 1, channels])], 1)
        side = round(area**0.5)
        kernel = graph.reshape(graph.transpose(kernel, [2, 1, 0]), [channels, -1, side, side])
        return graph.conv(self._maps(size), kernel, bias, side)

    def first_map(self, conv):
        """As `Patterns.first_map`."""
        return self._over_maps("fc", conv, self.sizes[0])

    def modulate(self, x, name, shared, weight, bias):
        """As `Patterns.modulate`."""
        graph, side, channels = self.graph, round(self.area**0.5), x.channels
        hidden = graph.relu(self._over_maps(name, shared, x.size))

        def spread(columns):
            kernel = graph.reshape(graph.take(weight, columns, 1), [self.area, HIDDEN, channels])
            kernel = graph.reshape(graph.transpose(kernel, [2, 1, 0]), [channels, HIDDEN, side, side])
            return graph.conv(hidden, kernel, graph.take(bias, columns, 0), side)

        a, b = spread(np.arange(channels)), spread(np.arange(channels, 2 * channels))
        return graph.add(graph.mul(x.maps(), a), b)


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
