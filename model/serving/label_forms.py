"""What a generator's graph reads of label maps, in two forms: from numbered neighbourhoods, and from the maps."""

from functools import reduce

import numpy as np

from model.configuration.texts import parse_norm_g
from model.normalization import HIDDEN
from model.serving.recording import as_array, by_position

FEW_PIXELS = 64 * 64  # below, nearly every pixel has an inner window of its own


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

    def modulate(self, x, name, shared, weight, bias):
        """x * a + b of a map of C channels; weight [area * HIDDEN, 2C] and bias [2C] are a's beside b's."""
        graph, area, channels = self.graph, self.area, x.channels
        label, edges, outer, index = self._tables[x.size]
        hidden = graph.relu(self._summed(name, shared, label, edges))
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
