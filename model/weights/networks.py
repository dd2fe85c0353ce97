"""Networks' weights under official names, in and out.

A network's state-dict keys are the official (PyTorch) names; only the weights of `paddle.nn.Linear` differ in layout:
Paddle keeps them [in, out], torch [out, in].
"""

import math
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from model.errors import UserError, listed
from model.vgg import VGG19
from model.weights.kinds import VGG_UNUSED


def official_names(net: paddle.nn.Layer) -> dict[str, str]:
    """The official torch name of every entry of `net.state_dict()`, which covers `net.named_parameters()` too."""
    return {key: key for key in net.state_dict()}


def parameter_count(net: paddle.nn.Layer) -> int:
    """Numbers that a network learns."""
    return sum(math.prod(p.shape) for p in net.parameters())


def load_net(
    net: paddle.nn.Layer,
    arrays: Mapping[str, Any],
    source: str | os.PathLike,
    transposed: frozenset[str] = frozenset(),
    advice: str = "",
) -> None:
    """Put arrays into a network, strictly: all of them or none.

    Args:
        net: any network.
        arrays: one array for each key of `net.state_dict()`, of its shape; float types are converted.
        source: what error messages call the arrays, a file name for instance.
        transposed: keys of which the arrays are the transposed ones.
        advice: how the message of an error ends.

    Raises:
        UserError: naming missing and unexpected keys and differing shapes and types; the network is unchanged.
    """
    state, values, differing = net.state_dict(), {}, []
    for key in (key for key in state if key in arrays):
        array, kind = np.asarray(arrays[key]), np.dtype(str(state[key].dtype).rpartition(".")[2])
        shape = list(state[key].shape)[:: -1 if key in transposed else 1]
        if list(array.shape) != shape:
            differing.append(f"{key} is {list(array.shape)}, the network's is {shape}")
        elif array.dtype != kind and not (array.dtype.kind == "f" and kind.kind == "f"):
            differing.append(f"{key} is {array.dtype}, the network's is {kind}")
        values[key] = np.asarray(array.T if key in transposed else array, kind, order="C")
    problems = [
        f"{len(keys)} {what}: {listed(keys)}"
        for what, keys in (
            ("missing", [key for key in state if key not in arrays]),
            ("unexpected", [key for key in arrays if key not in state]),
            ("of another shape or type", differing),
        )
        if keys
    ]
    if problems:
        raise UserError(
            f"{source} does not fit {type(net).__name__}: {'; '.join(problems)}{'; ' * bool(advice)}{advice}"
        )
    for key, value in values.items():
        state[key].set_value(value)


def load_official(
    net: paddle.nn.Layer,
    weights: Mapping[str, np.ndarray],
    source: str = "weights",
    advice: str = "build the network with the options that the weights were trained with",
) -> list[str]:
    """Fill a network from official names and torch layouts, strictly: all entries or none.

    Args:
        net: any network of this project.
        weights: {official name: array in torch's layout}; floating entries may be of any floating type.
        source: what error messages call the weights, a file name for instance.
        advice: how the message of an error ends.

    Returns:
        The names that were not needed: VGG19's later layers, everything else is an error.

    Raises:
        UserError: names are missing or unexpected, or shapes differ; one line that lists them. Only
            `num_batches_tracked`, which old torch files lack, may be absent.
    """
    state = net.state_dict()
    unneeded = [name for name in weights if isinstance(net, VGG19) and re.match(VGG_UNUSED, name)]
    arrays = {name: value for name, value in weights.items() if name not in unneeded}
    for name in (name for name in state if name.endswith("num_batches_tracked")):
        count = np.asarray(arrays.get(name, state[name].numpy()))
        arrays[name] = count.astype(np.int64).reshape(()) if count.size == 1 else count  # some files have it as [1]
    load_net(net, arrays, source, _linear_weights(net), advice)
    return unneeded


def export_official(net: paddle.nn.Layer) -> dict[str, np.ndarray]:
    """A network's whole state under official names, in torch's layouts; the inverse of `load_official`."""
    transposed = _linear_weights(net)
    arrays = {key: tensor.numpy() for key, tensor in net.state_dict().items()}
    # Copies: the caller's arrays must not change when training goes on.
    return {key: np.array(array.T if key in transposed else array, order="C") for key, array in arrays.items()}


def _linear_weights(net: paddle.nn.Layer) -> frozenset[str]:
    """State-dict keys of the weights that Paddle stores transposed."""
    layers = net.named_sublayers(include_self=True)
    return frozenset(f"{path}.weight".lstrip(".") for path, layer in layers if isinstance(layer, paddle.nn.Linear))
