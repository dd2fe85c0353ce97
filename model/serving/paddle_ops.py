"""Graphs as Paddle inference models."""

import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.static import InputSpec

from model.normalization import EPSILON
from model.serving.graph import Graph
from model.serving.runtime import save_program


class PaddleOps:
    """Runs a graph's operations (`onnx_ops.OnnxOps` names them) on tensors, or records them while tracing."""

    def __init__(self, layer: "_Traced", inputs: Mapping[str, Any]):
        self._layer, self._inputs = layer, inputs

    add = staticmethod(operator.add)
    mul = staticmethod(operator.mul)
    maximum = staticmethod(paddle.maximum)
    matmul = staticmethod(paddle.matmul)
    relu = staticmethod(F.relu)
    tanh = staticmethod(paddle.tanh)
    transpose = staticmethod(paddle.transpose)
    concat = staticmethod(paddle.concat)
    half = staticmethod(lambda codes: codes // 2)
    odd = staticmethod(lambda codes: (codes % 2).astype("float32"))
    differ = staticmethod(lambda x, y: (x != y).astype("float32"))
    one_hot = staticmethod(lambda label, classes: F.one_hot(label, classes).transpose([0, 3, 1, 2]))
    sum_rows = staticmethod(lambda x: x.sum(1))
    reshape = staticmethod(lambda x, shape: x.reshape([int(side) for side in shape]))
    instance_norm = staticmethod(lambda x, channels: F.instance_norm(x, eps=EPSILON))

    def input(self, name, kind, shape):
        return self._inputs[name]

    def output(self, x, name, shape):
        return x

    def weight(self, name):
        return getattr(self._layer, self._layer.names[name])

    def integers(self, values):
        return paddle.to_tensor(np.asarray(values, np.int32))

    def floats(self, values):
        return paddle.to_tensor(np.asarray(values, np.float32))

    def gather(self, table, index):
        if len(table.shape) == 2 and paddle.framework.in_dynamic_or_pir_mode():
            # What F.embedding ends in, which refuses a table of unknown length: Paddle's one gather on all threads.
            return paddle._C_ops.embedding(index, table, -1, False)
        if len(index.shape) == 1:
            return paddle.gather(table, index)
        return paddle.gather_nd(table, index.unsqueeze(-1))  # not gather and reshape: oneDNN's engine copies for that

    def take(self, x, positions, axis):
        return paddle.index_select(x, self.integers(positions), axis)

    def leaky_relu(self, x, slope, of_conv):
        if slope == 1:
            return x
        # fused with a convolution it crashes Paddle 3.3.1's engine; fused with a sum it takes no time
        return paddle.maximum(x, x * slope) if of_conv else F.leaky_relu(x, slope)

    def upsample(self, x):
        # not F.interpolate, whose oneDNN kernel Paddle 3.3.1's engine cannot call
        channels, height, width = x.shape[1:]
        x = x.reshape([-1, channels, height, 1, width, 1]).tile([1, 1, 1, 2, 1, 2])
        return x.reshape([-1, channels, 2 * height, 2 * width])

    def conv(self, x, kernel, bias, size, stride=1):
        return F.conv2d(x, kernel, bias, stride, size // 2)


class _Traced(nn.Layer):
    """A graph as a layer, whose parameters are the graph's weights."""

    def __init__(self, graph: Graph):
        super().__init__()
        self._graph = graph
        self.names = {name: name.replace(".", "_") for name in graph.weights}
        for name, array in graph.weights.items():
            parameter = self.create_parameter(array.shape, default_initializer=nn.initializer.Constant(0.0))
            parameter.set_value(array)
            self.add_parameter(self.names[name], parameter)
        self.specs = [
            InputSpec([side if isinstance(side, int) else None for side in shape], kind, name)
            for name, (kind, shape) in graph.inputs.items()
        ]
        self.eval()

    @paddle.jit.not_to_static  # straight on: there is no control flow whose source would have to be translated
    def forward(self, inputs):
        named = {spec.name: x for spec, x in zip(self.specs, inputs, strict=True)}
        return self._graph.replay(PaddleOps(self, named))


def save(graphs: Mapping[str, Graph], folder: Path) -> dict[str, str]:
    """As `onnx_ops.save`: Paddle inference models, whose programs end in .json, or .pdmodel before Paddle 3."""
    files = {}
    for name, graph in graphs.items():
        layer, prefix = _Traced(graph), folder / name
        files[name] = save_program(layer, prefix, [layer.specs]).name
        os.replace(prefix.with_suffix(".pdiparams"), folder / f"{name.partition('_')[0]}.pdiparams")
        prefix.with_suffix(".pdiparams.info").unlink(missing_ok=True)
    return files
