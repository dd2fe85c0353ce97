"""The networks as graphs of a few operations, with folded weights, in the forms that inference engines run.

A trained network's own forward pass is recorded: it runs on a `FeatureMap` that writes down what is asked of it.
Spectral norm's sigma is divided out, batch norm's statistics become part of gamma's and beta's convolutions, so that
SPADE is x * a + b. `onnx_ops` and `paddle_ops` make files of a graph. Feature maps are [N,C,H,W].
"""

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

    Args:
        layers: a network; weights get the names of its layers.

    Attributes:
        inputs: {name: (dtype, shape)}. weights: {name: float32 array}.
    """

    def __init__(self, layers):
        self.inputs, self.weights, self._steps = {}, {}, []
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

    def _step(self, operation, *arguments):
        self._steps.append((operation, arguments))
        return _Value(len(self._steps) - 1)

    def replay(self, ops) -> Any:
        """Make the calls on an `ops` object; returns what the last one does."""
        values = []

        def known(argument):
            if isinstance(argument, list):
                return [known(part) for part in argument]
            return values[argument.step] if isinstance(argument, _Value) else argument

        for operation, arguments in self._steps:
            values.append(getattr(ops, operation)(*map(known, arguments)))
        return values[-1]


def _array(tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float64)


def _kernel(conv) -> np.ndarray:
    """The weight [K,C,s,s] that a convolution uses in evaluation mode."""
    weight, sigma = conv.weight_and_sigma()
    return _array(weight) if sigma is None else _array(weight) / _array(sigma)


def _by_position(conv) -> np.ndarray:
    """A convolution's weight as [area, C, K]."""
    kernel = _kernel(conv)
    return kernel.reshape(*kernel.shape[:2], -1).transpose(2, 1, 0)


class _Map(FeatureMap):
    """A `FeatureMap` that a graph records, for evaluation mode.

    Args:
        value: [N,C,H,W]; by_rows: [N,H,W,C].
        norm: mean, scale and bias [C] that are still to be applied.
    """

    def __init__(self, graph, value, channels, size, by_rows=False, norm=None):
        self._graph, self._value, self._channels, self._size = graph, value, channels, size
        self._by_rows, self._norm = by_rows, norm

    def _changed(self, value, **changes):
        return _Map(self._graph, value, self._channels, changes.pop("size", self._size), **changes)

    @property
    def size(self):
        return self._size

    def leave(self):
        value = self._value
        if self._norm is not None:
            mean, scale, bias = self._norm
            parts = (self._graph.floats(part.reshape(-1, 1, 1)) for part in (scale, bias - mean * scale))
            value = self._graph.add(self._graph.mul(value, next(parts)), next(parts))
        return self._graph.transpose(value, [0, 3, 1, 2]) if self._by_rows else value

    def upsampled(self):
        height, width = self._size
        return self._changed(self._graph.upsample(self.leave()), size=(2 * height, 2 * width))

    def activated(self, slope):
        if self._by_rows:
            return self._changed(self._graph.leaky_relu(self._value, slope), by_rows=True)
        return self._changed(self._graph.leaky_relu(self.leave(), slope))

    def conv2d(self, conv, residual=None):
        name, kernel = self._graph.name(conv), _kernel(conv)
        weight = self._graph.weight(f"{name}.weight", kernel)
        bias = None if conv.bias is None else self._graph.weight(f"{name}.bias", _array(conv.bias))
        y = self._graph.conv(self.leave(), weight, bias, kernel.shape[2], conv.stride)
        if residual is not None:
            y = self._graph.add(y, residual.leave())
        return _Map(self._graph, y, len(kernel), tuple(side // conv.stride for side in self._size))

    def moments(self, epsilon, per_image=False, sync=False):
        return Moments(None, None, None, None)  # of each image: known when the graph runs

    def normalised(self, mean, scale, bias=None):
        if mean is None:
            return self._changed(self._graph.instance_norm(self.leave(), self._channels))
        mean, scale = (_array(part)[0] for part in (mean, scale))
        return self._changed(self._value, norm=(mean, scale, np.zeros_like(mean) if bias is None else _array(bias)))

    def modulated(self, semantics, shared, gamma, beta):
        """norm(x) * (1 + gamma) + beta as x * a + b, both linear in the hidden layer."""
        name = self._graph.name(gamma).removesuffix(".mlp_gamma")
        mean, scale, _ = self._norm or (0.0, 1.0, 0.0)
        gamma_weight, beta_weight = _by_position(gamma), _by_position(beta)
        a, a_bias = gamma_weight * scale, (1 + _array(gamma.bias)) * scale
        b, b_bias = beta_weight - a * mean, _array(beta.bias) - a_bias * mean
        weights = {  # [area * HIDDEN, C] and [C]
            "a.weight": a.reshape(-1, self._channels), "a.bias": a_bias,
            "b.weight": b.reshape(-1, self._channels), "b.bias": b_bias,
        }  # fmt: skip
        parts = [self._graph.weight(f"{name}.{part}", array) for part, array in weights.items()]
        value = semantics.modulate(self._value, self._size, f"{name}.hidden", shared, parts[:2], parts[2:])
        return self._changed(value, by_rows=semantics.by_rows)

    def _untrained(self, *_):
        raise NotImplementedError("graphs are of networks in evaluation mode")

    enter = join = data = halved = max_pooled = distance = _untrained


class _Semantics:
    """What a generator's graph reads of label maps, in place of `model.semantics.Semantics`."""

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
        weight = _by_position(conv)  # [area, semantic_nc, K]
        table = np.pad(weight[:, : self.classes], ((0, 0), (0, 1), (0, 0)))
        rows = self.graph.weight(f"{name}.table", table.reshape(-1, table.shape[2]))
        edges = self.graph.weight(f"{name}.edges", weight[:, -1]) if self.with_edges else None
        return rows, edges, self.graph.weight(f"{name}.bias", _array(conv.bias)), (len(weight), weight.shape[2])


class _Patterns(_Semantics):
    """a and b from numbered neighbourhoods: the integer tables that `neighbourhoods.graph_inputs` makes are inputs."""

    by_rows = True

    def __init__(self, graph, opt):
        super().__init__(graph, opt)
        self._tables, self._columns, self._rows = {}, {}, {}
        for height, width in self.sizes:
            size = f"{height}x{width}"
            inner = graph.input(f"inner_{size}", "int32", [f"windows_{size}", self.area])
            outer = graph.input(f"outer_{size}", "int32", [f"patterns_{size}", self.area])
            index = graph.input(f"index_{size}", "int32", ["batch", height, width])
            label, edges = (graph.half(inner), graph.odd(inner)) if self.with_edges else (inner, None)
            self._tables[height, width] = label, edges, outer, index

    def _summed(self, name, conv, label, edges):
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
        label, edges, outer, index = self._tables[self.sizes[0]]
        middle = self.area // 2
        if side > 3:  # its windows are 3x3 all the same
            window = [middle + side * i + j for i in (-1, 0, 1) for j in (-1, 0, 1)]
            label = graph.take(label, window, 1)
            edges = None if edges is None else graph.take(edges, window, 1)
        inner_index = graph.gather(graph.reshape(graph.take(outer, [middle], 1), [-1]), index)
        return graph.transpose(graph.gather(self._summed("fc", conv, label, edges), inner_index), [0, 3, 1, 2])

    def modulate(self, x, size, name, shared, *parts):
        """x [N,C,H,W] * a + b; parts: weight and bias of a and of b."""
        graph, area = self.graph, self.area
        label, edges, outer, index = self._tables[size]
        hidden = graph.relu(self._summed(name, shared, label, edges))
        hidden = graph.concat([hidden, graph.floats(np.zeros((1, HIDDEN)))], 0)  # outside the map activations are 0
        if size[0] * size[1] < FEW_PIXELS:
            windows = graph.reshape(graph.gather(hidden, outer), [-1, area * HIDDEN])

            def rows(weight):
                return graph.matmul(windows, weight)
        else:  # fewer inner windows than outer ones: multiply first, then gather and add
            if size not in self._columns:  # made once for the norms of a size
                columns = (graph.take(outer, [i], 1) for i in range(area))
                self._columns[size] = [graph.reshape(column, [-1]) for column in columns]

            def rows(weight):
                kernel = graph.reshape(weight, [area, HIDDEN, -1])
                parts = (graph.reshape(graph.take(kernel, [i], 0), [HIDDEN, -1]) for i in range(area))
                products = (graph.matmul(hidden, part) for part in parts)
                return reduce(graph.add, map(graph.gather, products, self._columns[size]))

        a, b = (graph.gather(graph.add(rows(weight), bias), index) for weight, bias in parts)  # [N,H,W,C]
        if x not in self._rows:  # made once for the norms that share it
            self._rows[x] = graph.transpose(x, [0, 2, 3, 1])
        return graph.add(graph.mul(self._rows[x], a), b)


class _Dense(_Semantics):
    """a and b by convolutions of one-hot maps: integer maps are inputs."""

    def __init__(self, graph, opt):
        super().__init__(graph, opt)
        self._one_hot = {}
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
        graph, (height, width) = self.graph, self.sizes[-1]
        if size not in self._one_hot:
            label, edges = self._label, self._edges
            for axis, full, side in ((1, height, size[0]), (2, width, size[1])):
                if side != full:
                    label = graph.take(label, np.arange(side) * (full // side), axis)
                    edges = None if edges is None else graph.take(edges, np.arange(side) * (full // side), axis)
            maps = graph.one_hot(label, self.classes)
            if edges is not None:
                maps = graph.concat([maps, graph.reshape(edges, [-1, 1, *size])], 1)
            self._one_hot[size] = maps
        return self._one_hot[size]

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
        """As `_Patterns.first_map`."""
        return self._over_maps("fc", conv, self.sizes[0])

    def modulate(self, x, size, name, shared, *parts):
        """As `_Patterns.modulate`."""
        graph, side = self.graph, round(self.area**0.5)
        hidden = graph.relu(self._over_maps(name, shared, size))

        def spread(weight, bias):
            kernel = graph.transpose(graph.reshape(weight, [self.area, HIDDEN, -1]), [2, 1, 0])
            return graph.conv(hidden, graph.reshape(kernel, [-1, HIDDEN, side, side]), bias, side)

        a, b = (spread(*part) for part in parts)
        return graph.add(graph.mul(x, a), b)


_FORMS = {"pattern": _Patterns, "dense": _Dense}


def generator(G, opt, form: str) -> Graph:
    """The graph of a generator in one of the FORMS of `model.serving`: pictures [N,output_nc,H,W] in [-1,1]."""
    graph = Graph(G)
    semantics, size, channels = _FORMS[form](graph, opt), opt.start_size, 16 * opt.ngf
    if opt.use_vae:
        style = graph.input("style", "float32", ["batch", opt.z_dim])
        x = graph.matmul(style, graph.weight("fc.weight", _array(G.fc.weight)))  # [z_dim, C*h*w]
        x = graph.reshape(graph.add(x, graph.weight("fc.bias", _array(G.fc.bias))), [-1, channels, *size])
    else:
        x = semantics.first_map(G.fc)
    graph.tanh(G.body(_Map(graph, x, channels, tuple(size)), semantics).leave())
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
    x = graph.matmul(x, graph.weight("fc_mu.weight", _array(E.fc_mu.weight)))
    graph.add(x, graph.weight("fc_mu.bias", _array(E.fc_mu.bias)))
    return graph


def _resize(size: int) -> np.ndarray:
    """Bilinear interpolation of a line of `size` pixels to `SIDE`, as a matrix [SIDE, size]."""
    place = np.clip((np.arange(SIDE) + 0.5) * size / SIDE - 0.5, 0, size - 1)
    low = np.minimum(place.astype(int), size - 1)
    high, part = np.minimum(low + 1, size - 1), place - place.astype(int)
    matrix = np.zeros((SIDE, size))
    matrix[np.arange(SIDE), low] += 1 - part
    matrix[np.arange(SIDE), high] += part
    return matrix
