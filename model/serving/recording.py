"""Recorded graphs of a few operations, and the numbers of a network's layers that they hold."""

import pickle
from functools import partial
from typing import Any, NamedTuple

import numpy as np


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


def kernel(conv) -> np.ndarray:
    """The weight [K,C,s,s] that a convolution uses in evaluation mode."""
    weight, sigma = conv.weight_and_sigma()
    return as_array(weight) if sigma is None else as_array(weight) / as_array(sigma)


def by_position(conv) -> np.ndarray:
    """A convolution's weight as [area, C, K]."""
    weight = kernel(conv)
    return weight.reshape(*weight.shape[:2], -1).transpose(2, 1, 0)
