"""Graphs as ONNX files."""

from collections.abc import Mapping
from functools import partialmethod
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, external_data_helper, helper, numpy_helper

from model.normalization import EPSILON
from model.serving.graph import Graph

OPSET, IR_VERSION = 17, 8  # of 2022: onnxruntime reads them from version 1.12 on
ALIGNMENT = 4096  # bytes: a page, so that runtimes can map the file
_TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}


class OnnxOps:
    """Collects the nodes of a graph; its values are their names. Operations whose names do not tell all:

    half(codes) -> codes // 2; odd(codes) -> codes % 2 as float32. differ(x, y) -> 1.0 where they do, else 0.0.
    gather(table [R, ...], index of any shape) -> rows [*index, ...]. take(x, positions, axis) -> those positions of an
    axis, integers that are known now. sum_rows(x) -> the sum over axis 1.
    one_hot(label [N,H,W], classes) -> [N,classes,H,W]. conv(x, kernel [K,C,size,size], bias or None, size, stride) pads
    by size // 2. leaky_relu(x, slope, of_conv): the last says whether x may be a convolution's result. weight(name) is
    an array of the graph's; integers(values) and floats(values) are constants. output(x, name, shape) comes last.

    Args:
        weights: {name: tensor} that `weight` finds.
    """

    def __init__(self, weights: Mapping[str, TensorProto]):
        self._weights, self.nodes, self.inputs, self.outputs, self.tensors = weights, [], [], [], []

    def _node(self, kind, *inputs, name=None, **attributes):
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def _constant(self, values, dtype):
        self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype), f"constant_{len(self.tensors)}"))
        return self.tensors[-1].name

    add = partialmethod(_node, "Add")
    mul = partialmethod(_node, "Mul")
    maximum = partialmethod(_node, "Max")
    matmul = partialmethod(_node, "MatMul")
    relu = partialmethod(_node, "Relu")
    tanh = partialmethod(_node, "Tanh")
    gather = partialmethod(_node, "Gather", axis=0)
    integers = partialmethod(_constant, dtype=np.int32)
    floats = partialmethod(_constant, dtype=np.float32)

    def input(self, name, kind, shape):
        self.inputs.append(helper.make_tensor_value_info(name, _TYPES[kind], shape))
        return name

    def output(self, x, name, shape):
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return self._node("Identity", x, name=name)

    def weight(self, name):
        self.tensors.append(self._weights[name])
        return name

    def half(self, codes):
        return self._node("Div", codes, self.integers(2))

    def odd(self, codes):
        return self._node("Cast", self._node("Mod", codes, self.integers(2)), to=TensorProto.FLOAT)

    def differ(self, x, y):
        return self._node("Cast", self._node("Not", self._node("Equal", x, y)), to=TensorProto.FLOAT)

    def one_hot(self, label, classes):
        return self._node("OneHot", label, self.integers(classes), self.floats([0, 1]), axis=1)

    def take(self, x, positions, axis):
        return self._node("Gather", x, self._constant(positions, np.int64), axis=axis)

    def sum_rows(self, x):
        return self._node("ReduceSum", x, self._constant([1], np.int64), keepdims=0)

    def reshape(self, x, shape):
        return self._node("Reshape", x, self._constant(shape, np.int64))

    def transpose(self, x, order):
        return self._node("Transpose", x, perm=order)

    def concat(self, values, axis):
        return self._node("Concat", *values, axis=axis)

    def leaky_relu(self, x, slope, of_conv):
        return x if slope == 1 else self._node("LeakyRelu", x, alpha=slope)

    def instance_norm(self, x, channels):
        ones, zeros = self.floats(np.ones(channels)), self.floats(np.zeros(channels))
        return self._node("InstanceNormalization", x, ones, zeros, epsilon=EPSILON)

    def upsample(self, x):
        return self._node("Resize", x, "", self.floats([1, 1, 2, 2]), mode="nearest", nearest_mode="floor",
                          coordinate_transformation_mode="asymmetric")  # fmt: skip

    def conv(self, x, kernel, bias, size, stride=1):
        inputs = [x, kernel] if bias is None else [x, kernel, bias]
        return self._node("Conv", *inputs, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[size // 2] * 4)


def save(graphs: Mapping[str, Graph], folder: Path) -> dict[str, str]:
    """Write graphs as ONNX files, checked. Those of one network, whose names begin alike, share a file of weights.

    Returns:
        The files' names by those of the graphs.
    """
    files, networks = {name: f"{name}.onnx" for name in graphs}, {}
    for title, graph in graphs.items():
        network = title.partition("_")[0]
        stored = networks.setdefault(network, {})
        for name, array in graph.weights.items():
            if name not in stored:
                stored[name] = _stored(name, array, folder / f"{network}.weights")
        ops = OnnxOps(stored)
        graph.replay(ops)
        made = helper.make_graph(ops.nodes, title, ops.inputs, ops.outputs, ops.tensors)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="paddle-spade")
        (folder / files[title]).write_bytes(model.SerializeToString())
        checker.check_model(str(folder / files[title]))
    return files


def _stored(name: str, array: np.ndarray, path: Path) -> TensorProto:
    """An array as a reference into a file, at whose end it is written."""
    tensor = numpy_helper.from_array(array, name)
    with path.open("ab") as file:
        file.write(bytes(-file.tell() % ALIGNMENT))
        external_data_helper.set_external_data(tensor, path.name, file.tell(), len(tensor.raw_data))
        file.write(tensor.raw_data)
    tensor.ClearField("raw_data")
    return tensor
