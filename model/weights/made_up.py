"""Made-up weights, for tests, measurements, and trials of the evaluation. What they compute means nothing."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def generator_of(name: str) -> np.random.Generator:
    """NumPy's default generator, seeded by a name."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def entry(name: str, shape: tuple[int, ...], gain: float = 2.0) -> np.ndarray:
    """One parameter or buffer [shape] (torch's layout) as its full name decides it; float32, or int64 for counters."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    noise = generator_of(name).standard_normal(tuple(shape))
    if name.endswith("running_var"):
        noise = 1 + 0.5 * np.abs(noise)
    elif name.endswith("running_mean") or len(shape) < 2 and not name.endswith("weight"):
        noise = 0.1 * noise
    elif len(shape) < 2:
        noise = 1 + 0.1 * noise
    else:
        noise = noise * np.sqrt(gain / np.prod(shape[1:]))
    return noise.astype(np.float32)


def made_up_arrays(shapes: Mapping[str, tuple[int, ...]], key: str = "", gain: float = 2.0) -> dict[str, np.ndarray]:
    """An array for every entry of a network, which its name alone decides, alike in any framework.

    Args:
        shapes: {official name: shape in torch's layout}.
        key: put before the names, for other numbers under the same ones.
        gain: variance of a kernel's entries times its fan-in; near 2 keeps the activations' size through ReLUs (He).

    Returns:
        {official name: array}; spectral norms' vectors are near the leading singular ones.
    """
    arrays = {name: entry(key + name, shape, gain) for name, shape in shapes.items()}
    for name in (name for name in shapes if name.endswith("weight_u")):
        layer = name.removesuffix("weight_u")
        matrix = arrays[f"{layer}weight_orig"].astype(np.float64)
        matrix = matrix.reshape(len(matrix), -1)
        left = generator_of(key + name).standard_normal(len(matrix))
        for _ in range(5):
            right = matrix.T @ left
            right /= np.linalg.norm(right)
            left = matrix @ right
            left /= np.linalg.norm(left)
        arrays[name], arrays[f"{layer}weight_v"] = left.astype(np.float32), right.astype(np.float32)
    return arrays


def made_up_weights(net: Any, key: str = "", gain: float = 2.0) -> Any:
    """Fill a network of this project with `made_up_arrays`, in place; returns it."""
    from model.weights import export_official, load_official  # with Paddle, which a measured baseline does without

    load_official(net, made_up_arrays({name: a.shape for name, a in export_official(net).items()}, key, gain))
    return net
