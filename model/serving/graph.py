"""The networks as graphs over a few operations, with folded weights, in the forms that inference engines run.

`Plan` holds a trained generator's plain weights: spectral norm's sigma is divided out, batch norm's statistics are part
of gamma's and beta's convolutions, so that SPADE becomes x * a + b. `generator` and `encoder` write the networks down
once, in terms of an `ops` object; `onnx_ops` and `paddle_ops` make files of them. Feature maps are [N,C,H,W].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.architecture import SLOPE
from model.convolution import Conv2D
from model.encoder import SIDE
from model.normalization import EPSILON, HIDDEN, BatchNorm, InstanceNorm
from model.options import parse_norm_g


@dataclass(frozen=True)
class Plan:
    """What a generator's graph is made of.

    Attributes:
        blocks: (name, whether its input is upsampled first, whether its shortcut is learned) in order.
        sizes: (height, width) of the SPADE layers, smallest first. channels: of the first feature map.
        kernel_size: SPADE's, 3 or 5. classes: ids, the unknown one included. with_edges, instance_norm: as named.
        z_dim: 0 without VAE.
        weights: {name: float32 array}; `plan` and its helpers say their layouts line by line.
    """

    blocks: list[tuple[str, bool, bool]]
    sizes: list[tuple[int, int]]
    channels: int
    kernel_size: int
    classes: int
    with_edges: bool
    instance_norm: bool
    z_dim: int
    weights: dict[str, np.ndarray]

    @property
    def picture_size(self) -> tuple[int, int]:
        """(height, width) of the pictures in pixels."""
        return self.sizes[-1]


def plan(G, opt) -> Plan:
    """The plan of a generator (`define_G(opt)`) as it is in evaluation mode."""
    names = {id(layer): name for name, layer in G.named_children()}
    blocks = [(names[id(block)], up, block.learned_shortcut) for block, up in G.blocks()]
    weights = {}
    classes, kernel_size = opt.label_nc + opt.contain_dontcare_label, parse_norm_g(opt.norm_G)[2]
    if opt.use_vae:
        weights["fc.weight"], weights["fc.bias"] = _array(G.fc.weight), _array(G.fc.bias)  # [z_dim, C*h*w]
    else:
        _add_table(weights, "fc", G.fc, classes, not opt.no_instance)
    for name, _, learned in blocks:
        block = getattr(G, name)
        for part in ("0", "1", "s") if learned else ("0", "1"):
            spade, conv = getattr(block, f"norm_{part}"), getattr(block, f"conv_{part}")
            _add_spade(weights, f"{name}.norm_{part}", spade, classes, not opt.no_instance)
            _add_conv(weights, f"{name}.conv_{part}", conv)
    _add_conv(weights, "conv_img", G.conv_img)
    instance_norm = isinstance(G.head_0.norm_0.param_free_norm, InstanceNorm)
    return Plan(
        blocks, opt.spade_sizes, 16 * opt.ngf, kernel_size, classes, not opt.no_instance, instance_norm,
        opt.z_dim if opt.use_vae else 0, {name: np.ascontiguousarray(w, np.float32) for name, w in weights.items()},
    )  # fmt: skip


def _array(tensor) -> np.ndarray:
    return tensor.numpy().astype(np.float64)


def _kernel(conv) -> np.ndarray:
    """The weight [K,C,s,s] that a convolution uses in evaluation mode."""
    weight = _array(conv.raw_weight)
    if conv.spectral:
        weight /= _array(conv.weight_u) @ weight.reshape(len(weight), -1) @ _array(conv.weight_v)
    return weight


def _add_conv(weights, name, conv):
    weights[f"{name}.weight"] = _kernel(conv)  # [K,C,s,s]
    if conv.bias is not None:
        weights[f"{name}.bias"] = _array(conv.bias)


def _add_table(weights, name, conv, classes, with_edges):
    """A convolution over one-hot maps as rows to add up: one for each window position and class, 0 outside."""
    by_position = _kernel(conv).reshape(*conv.raw_weight.shape[:2], -1).transpose(2, 1, 0)  # [area, semantic_nc, K]
    table = np.zeros((len(by_position), classes + 1, by_position.shape[2]))
    table[:, :-1] = by_position[:, :classes]
    weights[f"{name}.table"] = table.reshape(-1, table.shape[2])  # [area * (classes + 1), K]
    if with_edges:
        weights[f"{name}.edges"] = by_position[:, -1]  # [area, K]
    weights[f"{name}.bias"] = _array(conv.bias)


def _add_spade(weights, name, spade, classes, with_edges):
    """norm(x) * (1 + gamma) + beta as x * a + b, both linear in the hidden layer; with instance norm of norm(x)."""
    _add_table(weights, f"{name}.hidden", spade.mlp_shared[0], classes, with_edges)
    norm, mean, scale = spade.param_free_norm, 0.0, 1.0
    if not isinstance(norm, InstanceNorm):
        mean, scale = _array(norm.running_mean), 1 / np.sqrt(_array(norm.running_var) + EPSILON)
    gamma, beta = (
        _kernel(conv).reshape(*conv.raw_weight.shape[:2], -1).transpose(2, 1, 0).reshape(-1, conv.raw_weight.shape[0])
        for conv in (spade.mlp_gamma, spade.mlp_beta)
    )
    a, a_bias = gamma * scale, (1 + _array(spade.mlp_gamma.bias)) * scale
    weights[f"{name}.a.weight"], weights[f"{name}.a.bias"] = a, a_bias  # [area * HIDDEN, C]
    weights[f"{name}.b.weight"] = beta - a * mean
    weights[f"{name}.b.bias"] = _array(spade.mlp_beta.bias) - a_bias * mean


FEW_PIXELS = 64 * 64  # below, nearly every pixel has an inner window of its own


class _Patterns:
    """a and b from numbered neighbourhoods: the integer tables that `neighbourhoods.graph_inputs` makes are inputs."""

    def __init__(self, ops, plan: Plan):
        self.ops, self.plan = ops, plan
        self._tables, self._outer, self._rows = {}, {}, {}
        area = plan.kernel_size**2
        for height, width in plan.sizes:
            size = f"{height}x{width}"
            inner = ops.input(f"inner_{size}", "int32", [f"windows_{size}", area])
            outer = ops.input(f"outer_{size}", "int32", [f"patterns_{size}", area])
            index = ops.input(f"index_{size}", "int32", ["batch", height, width])
            label, edges = ops.halves(inner) if plan.with_edges else (inner, None)
            self._tables[height, width] = label, edges, outer, index

    def _summed(self, name, label, edges):
        """A convolution over one-hot maps for windows of ids [Q, area]: [Q, K]."""
        ops, plan = self.ops, self.plan
        first = np.arange(ops.weight_shape(f"{name}.table")[0] // (plan.classes + 1)) * (plan.classes + 1)
        total = ops.sum_rows(ops.gather(ops.weight(f"{name}.table"), ops.add(label, ops.integers(first))))
        if edges is not None:
            total = ops.add(total, ops.matmul(edges, ops.weight(f"{name}.edges")))
        return ops.add(total, ops.weight(f"{name}.bias"))

    def first_map(self):
        """The convolution over the label map that a generator without style begins with: [N,C,h,w]."""
        ops, size = self.ops, self.plan.kernel_size
        label, edges, outer, index = self._tables[self.plan.sizes[0]]
        middle = size * size // 2
        if size > 3:  # its windows are 3x3 all the same
            window = [middle + size * i + j for i in (-1, 0, 1) for j in (-1, 0, 1)]
            label = ops.take(label, window, 1)
            edges = None if edges is None else ops.take(edges, window, 1)
        inner_index = ops.gather(ops.reshape(ops.take(outer, [middle], 1), [-1]), index)
        return ops.transpose(ops.gather(self._summed("fc", label, edges), inner_index), [0, 3, 1, 2])

    def modulated(self, name, x, size, slope):
        """act(x * a + b) of x [N,C,H,W]."""
        ops = self.ops
        label, edges, outer, index = self._tables[size]
        hidden = ops.relu(self._summed(f"{name}.hidden", label, edges))
        hidden = ops.concat([hidden, ops.floats(np.zeros((1, HIDDEN)))], 0)  # outside the map activations are 0
        area = self.plan.kernel_size**2
        if size[0] * size[1] < FEW_PIXELS:
            windows = ops.reshape(ops.gather(hidden, outer), [-1, area * HIDDEN])

            def rows(weight):
                return ops.matmul(windows, weight)
        else:  # fewer inner windows than outer ones: multiply first, then gather and add
            columns = self._columns(size)

            def rows(weight):
                kernel = ops.reshape(weight, [area, HIDDEN, ops.weight_shape(f"{name}.a.weight")[1]])
                total = None
                for i, column in enumerate(columns):
                    part = ops.gather(ops.matmul(hidden, ops.part(kernel, i)), column)
                    total = part if total is None else ops.add(total, part)
                return total

        def spread(part):
            table = ops.add(rows(ops.weight(f"{name}.{part}.weight")), ops.weight(f"{name}.{part}.bias"))
            return ops.gather(table, index)  # [N,H,W,C]

        y = ops.add(ops.mul(self._by_rows(x), spread("a")), spread("b"))
        return ops.transpose(ops.leaky_relu(y, slope), [0, 3, 1, 2])

    def _columns(self, size):
        """The columns of a size's table of outer windows, made once."""
        ops, outer = self.ops, self._tables[size][2]
        if size not in self._outer:
            area = self.plan.kernel_size**2
            self._outer[size] = [ops.reshape(ops.take(outer, [i], 1), [-1]) for i in range(area)]
        return self._outer[size]

    def _by_rows(self, x):
        """x as [N,H,W,C], made once for the norms that share it."""
        if id(x) not in self._rows:
            self._rows[id(x)] = x, self.ops.transpose(x, [0, 2, 3, 1])  # x is kept, and with it its id
        return self._rows[id(x)][1]


class _Dense:
    """a and b by convolutions of one-hot maps: integer maps are inputs."""

    def __init__(self, ops, plan: Plan):
        self.ops, self.plan, self._one_hot = ops, plan, {}
        height, width = plan.picture_size
        self._label = ops.input("label", "int32", ["batch", height, width])
        self._edges = self._find_edges(height, width) if plan.with_edges else None

    def _find_edges(self, height, width):
        """1.0 where the instance differs from a neighbour's, [N,H,W]."""
        ops, found = self.ops, []
        instance = ops.input("instance", "int32", ["batch", height, width])
        for axis, side in ((1, height), (2, width)):
            for step in (-1, 1):
                neighbour = ops.take(instance, np.clip(np.arange(side) + step, 0, side - 1), axis)
                found.append(ops.differ(instance, neighbour))
        edges = found[0]
        for more in found[1:]:
            edges = ops.maximum(edges, more)
        return edges

    def _maps(self, size):
        """The one-hot maps [N,semantic_nc,h,w] at a size."""
        ops, (height, width) = self.ops, self.plan.picture_size
        if size not in self._one_hot:
            label, edges = self._label, self._edges
            for axis, full, side in ((1, height, size[0]), (2, width, size[1])):
                if side != full:
                    label = ops.take(label, np.arange(side) * (full // side), axis)
                    edges = None if edges is None else ops.take(edges, np.arange(side) * (full // side), axis)
            maps = ops.one_hot(label, self.plan.classes)
            if edges is not None:
                maps = ops.concat([maps, ops.reshape(edges, [-1, 1, *size])], 1)
            self._one_hot[size] = maps
        return self._one_hot[size]

    def _over_labels(self, name, size):
        """A convolution over the one-hot maps."""
        ops, classes = self.ops, self.plan.classes
        rows, channels = ops.weight_shape(f"{name}.table")
        area = rows // (classes + 1)
        kernel = ops.reshape(ops.weight(f"{name}.table"), [area, classes + 1, channels])
        kernel = ops.take(kernel, np.arange(classes), 1)
        if self.plan.with_edges:
            edges = ops.reshape(ops.weight(f"{name}.edges"), [area, 1, channels])
            kernel = ops.concat([kernel, edges], 1)
        side = round(area**0.5)
        kernel = ops.reshape(ops.transpose(kernel, [2, 1, 0]), [channels, -1, side, side])
        return ops.conv(self._maps(size), kernel, ops.weight(f"{name}.bias"), side)

    def first_map(self):
        """As `_Patterns.first_map`."""
        return self._over_labels("fc", self.plan.sizes[0])

    def modulated(self, name, x, size, slope):
        """act(x * a + b) of x [N,C,H,W]."""
        ops, side = self.ops, self.plan.kernel_size
        hidden = ops.relu(self._over_labels(f"{name}.hidden", size))

        def spread(part):
            channels = ops.weight_shape(f"{name}.{part}.weight")[1]
            kernel = ops.reshape(ops.weight(f"{name}.{part}.weight"), [side**2, HIDDEN, channels])
            kernel = ops.reshape(ops.transpose(kernel, [2, 1, 0]), [channels, HIDDEN, side, side])
            return ops.conv(hidden, kernel, ops.weight(f"{name}.{part}.bias"), side)

        return ops.leaky_relu(ops.add(ops.mul(x, spread("a")), spread("b")), slope)


_MAPS = {"pattern": _Patterns, "dense": _Dense}


def generator(ops, plan: Plan, form: str) -> Any:
    """Write a generator in one of the FORMS of `model.serving`; returns its pictures, [N,output_nc,H,W] in [-1,1]."""
    maps = _MAPS[form](ops, plan)
    size = plan.sizes[0]
    if plan.z_dim:
        style = ops.input("style", "float32", ["batch", plan.z_dim])
        x = ops.add(ops.matmul(style, ops.weight("fc.weight")), ops.weight("fc.bias"))
        x = ops.reshape(x, [-1, plan.channels, *size])
    else:
        x = maps.first_map()

    def layer(name, part, x, slope):
        if plan.instance_norm:
            x = ops.instance_norm(x, ops.weight_shape(f"{name}.norm_{part}.a.weight")[1])
        return _conv(ops, f"{name}.conv_{part}", maps.modulated(f"{name}.norm_{part}", x, size, slope))

    for name, up, learned in plan.blocks:
        if up:
            x, size = ops.upsample(x), (2 * size[0], 2 * size[1])
        shortcut = layer(name, "s", x, 1.0) if learned else x
        x = ops.add(layer(name, "1", layer(name, "0", x, SLOPE), SLOPE), shortcut)
    return ops.tanh(_conv(ops, "conv_img", ops.leaky_relu(x, SLOPE)))


def _conv(ops, name, x, stride=1):
    bias = ops.weight(f"{name}.bias") if ops.has_weight(f"{name}.bias") else None
    return ops.conv(x, ops.weight(f"{name}.weight"), bias, ops.weight_shape(f"{name}.weight")[2], stride)


def encoder_weights(E) -> dict[str, np.ndarray]:
    """The plain weights of an encoder as it is in evaluation mode; batch norms are part of the convolutions."""
    weights = {"fc_mu.weight": _array(E.fc_mu.weight), "fc_mu.bias": _array(E.fc_mu.bias)}
    for i in range(1, 7):
        layer = getattr(E, f"layer{i}")
        conv, norm = (layer, None) if isinstance(layer, Conv2D) else layer
        kernel = _kernel(conv)
        bias = 0.0 if conv.bias is None else _array(conv.bias)
        if isinstance(norm, BatchNorm):
            scale = _array(norm.weight) / np.sqrt(_array(norm.running_var) + EPSILON)
            kernel = kernel * scale[:, None, None, None]
            bias = _array(norm.bias) + (bias - _array(norm.running_mean)) * scale
        weights[f"layer{i}.weight"], weights[f"layer{i}.bias"] = kernel, np.broadcast_to(bias, len(kernel))
    return {name: np.ascontiguousarray(w, np.float32) for name, w in weights.items()}


def encoder(ops, size: tuple[int, int], instance_norm: bool) -> Any:
    """Write an encoder for photos [N,C,*size] in [-1,1] down; returns the mean of their style's distribution."""
    x = ops.input("photo", "float32", ["batch", ops.weight_shape("layer1.weight")[1], *size])
    if size[1] != SIDE:
        x = ops.matmul(x, ops.floats(_resize(size[1]).T))
    if size[0] != SIDE:
        x = ops.matmul(ops.floats(_resize(size[0])), x)
    for i in range(1, 7):
        x = _conv(ops, f"layer{i}", x if i == 1 else ops.leaky_relu(x, SLOPE), 2)
        if instance_norm:
            x = ops.instance_norm(x, ops.weight_shape(f"layer{i}.weight")[0])
    x = ops.reshape(ops.leaky_relu(x, SLOPE), [-1, ops.weight_shape("fc_mu.weight")[0]])
    return ops.add(ops.matmul(x, ops.weight("fc_mu.weight")), ops.weight("fc_mu.bias"))


def _resize(size: int) -> np.ndarray:
    """Bilinear interpolation of a line of `size` pixels to `SIDE`, as a matrix [SIDE, size]."""
    place = np.clip((np.arange(SIDE) + 0.5) * size / SIDE - 0.5, 0, size - 1)
    low = np.minimum(place.astype(int), size - 1)
    high, part = np.minimum(low + 1, size - 1), place - place.astype(int)
    matrix = np.zeros((SIDE, size))
    matrix[np.arange(SIDE), low] += 1 - part
    matrix[np.arange(SIDE), high] += part
    return matrix
