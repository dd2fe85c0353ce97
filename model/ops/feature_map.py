"""Feature maps and the operations on them: what networks are written in, and what a backend supplies."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import paddle


class Moments(NamedTuple):
    """What a norm needs of a feature map, for G = 1 group (the batch) or G = N (each image).

    Attributes:
        mean, var: [G,C]; the variance is the biased one.
        scale: 1 / sqrt(var + epsilon), [G,C].
        count: values that each was taken over, an int, or a 0-d tensor where processes were asked.
    """

    mean: paddle.Tensor
    var: paddle.Tensor
    scale: paddle.Tensor
    count: int | paddle.Tensor


class FeatureMap(ABC):
    """N maps of C channels and H x W pixels, in the layout of a backend.

    Operations give new maps. A backend may put off what it can do better while a convolution reads the map: an
    upsampling, a norm with its modulation, an activation, which are asked for in this order.
    """

    @classmethod
    @abstractmethod
    def enter(cls, x: paddle.Tensor) -> "FeatureMap":
        """The map of a tensor [N,C,H,W]."""

    @abstractmethod
    def leave(self) -> paddle.Tensor:
        """The tensor [N,C,H,W]."""

    @classmethod
    @abstractmethod
    def join(cls, semantics, image: paddle.Tensor) -> "FeatureMap":
        """One-hot semantics of N maps beside pictures [M*N,C,H,W], M for each, along the channels."""

    @property
    @abstractmethod
    def data(self) -> paddle.Tensor:
        """All that was put off, done: the tensor in the backend's layout, the batch first."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(H, W)."""

    @abstractmethod
    def upsampled(self) -> "FeatureMap":
        """Nearest-neighbour upsampling by 2."""

    @abstractmethod
    def halved(self) -> "FeatureMap":
        """3x3 averages at stride 2, of the pixels inside the map."""

    @abstractmethod
    def max_pooled(self) -> "FeatureMap":
        """2x2 maxima; H and W are even."""

    @abstractmethod
    def activated(self, slope: float) -> "FeatureMap":
        """x where it is positive, slope * x elsewhere; 0 <= slope < 1."""

    @abstractmethod
    def conv2d(self, conv, residual: "FeatureMap | None" = None) -> "FeatureMap":
        """A convolution (`Conv2D`) with zeros around the map, its weight divided by its spectral norm if it has one.

        Args:
            residual: a map that is added.
        """

    @abstractmethod
    def moments(self, epsilon: float, per_image: bool = False, sync: bool = False) -> Moments:
        """Mean and variance of each channel; over the batches of all processes with `sync`.

        They are found once for a map, so that norms of the same map share them.
        """

    @abstractmethod
    def normalised(self, mean, scale, bias=None) -> "FeatureMap":
        """(x - mean) * scale + bias, for mean and scale [G,C], G = 1 or N, and bias [C] or None."""

    @abstractmethod
    def modulated(self, semantics, shared, gamma, beta) -> "FeatureMap":
        """x * (1 + gamma(m)) + beta(m) of a normalised map x and semantics m (SPADE, section 3.1, eq. 1).

        Args:
            semantics: `Semantics` of N maps.
            shared, gamma, beta: the three convolutions (`Conv2D`); a ReLU follows the first.
        """

    @abstractmethod
    def distance(self, target: "FeatureMap") -> paddle.Tensor:
        """Mean absolute difference of two maps, 0-d; no gradient reaches the target."""
