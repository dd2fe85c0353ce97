"""Graphs as ONNX files."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partialmethod
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from model.normalization import EPSILON
from model.serving.recording import Graph

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
    an array of the graph's; integers(values) and floats(values) are constants.

    Args:
        weights: {name: float32 array} that `weight` finds.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]):
        self._weights, self._nodes, self._inputs, self._arrays = weights, [], [], {}

    def _node(self, kind, *inputs, **attributes):
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def _constant(self, values, dtype):
        name = f"constant_{len(self._arrays)}"
        self._arrays[name] = np.asarray(values, dtype)
        return name

    add = partialmethod(_node, "Add")
    mul = partialmethod(_node, "Mul")
    maximum = partialmethod(_node, "Max")
    matmul = partialmethod(_node, "MatMul")
    relu = partialmethod(_node, "Relu")
    tanh = partialmethod(_node, "Tanh")
    integers = partialmethod(_constant, dtype=np.int32)
    floats = partialmethod(_constant, dtype=np.float32)

    def input(self, name, kind, shape):
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[kind], shape))
        return name

    def weight(self, name):
        self._arrays[name] = self._weights[name]
        return name

    def half(self, codes):
        return self._node("Div", codes, self.integers(2))

    def odd(self, codes):
        return self._node("Cast", self._node("Mod", codes, self.integers(2)), to=TensorProto.FLOAT)

    def differ(self, x, y):
        return self._node("Cast", self._node("Not", self._node("Equal", x, y)), to=TensorProto.FLOAT)

    def one_hot(self, label, classes):
        return self._node("OneHot", label, self.integers(classes), self.floats([0, 1]), axis=1)

    def gather(self, table, index):
        return self._node("Gather", table, index, axis=0)

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

    def finish(self, title: str, output: str, name: str, shape: list, store: "WeightStore"):
        """The model: the graph with the value `output` given out as `name` of this shape; large arrays in the store."""
        self._nodes.append(helper.make_node("Identity", [output], [name], name=name))
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        arrays = [
            store.tensor(key, array) if key in self._weights else numpy_helper.from_array(array, key)
            for key, array in self._arrays.items()
        ]
        graph = helper.make_graph(self._nodes, title, self._inputs, outputs, arrays)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="paddle-spade")


def save(graph: Graph, path: Path, name: str, shape: list, store: "WeightStore") -> None:
    """Write a graph as an ONNX file, checked.

    Args:
        path: file to write. name, shape: of its result. store: for its weights, of the same folder.
    """
    ops = OnnxOps(graph.weights)
    model = ops.finish(path.stem, graph.replay(ops), name, shape, store)
    path.write_bytes(model.SerializeToString())
    checker.check_model(str(path))


class WeightStore(AbstractContextManager):
    """A file of arrays that the graphs of a folder share; a context that closes it."""

    def __init__(self, path: Path):
        self._file, self._name, self._places = path.open("wb"), path.name, {}

    def tensor(self, name: str, array: np.ndarray) -> TensorProto:
        """An array as a reference into the file, where it is written the first time."""
        if name not in self._places:
            self._file.write(bytes(-self._file.tell() % ALIGNMENT))
            self._places[name] = self._file.tell()
            self._file.write(np.ascontiguousarray(array, "<f4").data)
            self._file.flush()
        tensor = TensorProto(name=name, dims=array.shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": self._name, "offset": self._places[name], "length": 4 * array.size}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def __exit__(self, *_) -> None:
        self._file.close()
