"""Other systems' weights in and out: official names, strict loading and export.

A network's state-dict keys are the official (PyTorch) names; only the weights of `paddle.nn.Linear` differ in layout:
Paddle keeps them [in, out], torch [out, in].
"""

from collections.abc import Iterable, Mapping

import numpy as np
import paddle

from model.errors import UserError

# The convolutions up to relu5_1 of torchvision's vgg19, all that the perceptual loss uses.
VGG_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
VGG_NAMES = frozenset(f"features.{i}.{kind}" for i in VGG_CONVOLUTIONS for kind in ("weight", "bias"))
VGG_UNUSED = frozenset(
    f"{layer}.{kind}"
    for layer in ("features.30", "features.32", "features.34", "classifier.0", "classifier.3", "classifier.6")
    for kind in ("weight", "bias")
)


def official_names(net: paddle.nn.Layer) -> dict[str, str]:
    """The official torch name of every entry of `net.state_dict()`, which covers `net.named_parameters()` too."""
    return {key: key for key in net.state_dict()}


def load_official(net: paddle.nn.Layer, weights: Mapping[str, np.ndarray], source: str = "weights") -> list[str]:
    """Fill a network from official names and torch layouts, strictly: all entries or none.

    Args:
        net: any network of this project.
        weights: {official name: array in torch's layout}; floating entries may be of any floating type.
        source: what error messages call the weights, a file name for instance.

    Returns:
        The names that were not needed: VGG19's later layers, everything else is an error.

    Raises:
        UserError: names are missing or unexpected, or shapes differ; one line that lists them. Only
            `num_batches_tracked`, which old torch files lack, may be absent.
    """
    names, state, transposed = official_names(net), net.state_dict(), _linear_weights(net)
    allowed = VGG_UNUSED if VGG_NAMES == set(names.values()) else frozenset()
    ignored = [name for name in weights if name in allowed]
    known = set(names.values())
    unexpected = [name for name in weights if name not in known and name not in allowed]
    missing = [n for n in known if n not in weights and not n.endswith("num_batches_tracked")]
    values, shapes = {}, []
    for key, name in names.items():
        if name not in weights:
            continue
        value = np.asarray(weights[name])
        if name.endswith("num_batches_tracked") and value.size == 1:
            value = value.reshape(())
        want = tuple(state[key].shape)
        want = want[::-1] if key in transposed else want
        if value.shape != want:
            shapes.append(f"{name} is {list(value.shape)}, the network's is {list(want)}")
        values[key] = value.T if key in transposed else value
    problems = [
        f"{len(items)} {what}: {_listed(items)}"
        for what, items in (("missing", sorted(missing)), ("unexpected", unexpected), ("of another shape", shapes))
        if items
    ]
    if problems:
        raise UserError(
            f"{source} does not fit {type(net).__name__}: {'; '.join(problems)}; "
            "build the network with the options that the weights were trained with"
        )
    for key, value in values.items():
        target = state[key]
        dtype = np.int64 if target.dtype == paddle.int64 else np.float32
        target.set_value(np.ascontiguousarray(value, dtype=dtype).reshape(value.shape))
    return ignored


def export_official(net: paddle.nn.Layer) -> dict[str, np.ndarray]:
    """A network's whole state under official names, in torch's layouts; the inverse of `load_official`."""
    names, transposed = official_names(net), _linear_weights(net)
    arrays = {}
    for key, tensor in net.state_dict().items():
        value = tensor.numpy()
        # A copy: the caller's arrays must not change when training goes on.
        arrays[names[key]] = np.array(value.T if key in transposed else value, order="C")
    return arrays


def _linear_weights(net: paddle.nn.Layer) -> set[str]:
    """State-dict keys of the weights that Paddle stores transposed."""
    layers = net.named_sublayers(include_self=True)
    return {f"{path}.weight".lstrip(".") for path, layer in layers if isinstance(layer, paddle.nn.Linear)}


def _listed(items: Iterable[str], most: int = 20) -> str:
    items = list(items)
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
