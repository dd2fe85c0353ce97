"""The Inception network whose pooled features define FID."""

from collections.abc import Callable, Sequence
from functools import partial

import paddle
import paddle.nn.functional as F
from paddle import nn

from model.judges import ConvUnit

FEATURES = 2048
INPUT_SIZE = 299


_unit = partial(ConvUnit, epsilon=1e-3)


def _average3(x: paddle.Tensor) -> paddle.Tensor:
    # TensorFlow's graph does not count the padding, which PyTorch's own Inception does.
    return F.avg_pool2d(x, 3, stride=1, padding=1, exclusive=True)


def _chain(name: str, *units: tuple) -> list[tuple]:
    """Convolutions one behind the other, name_1, name_2, ..., of these channels, kernels and strides."""
    names = [f"{name}_{i}" for i in range(1, len(units) + 1)]
    return [(own, source, *unit) for own, source, unit in zip(names, ["x", *names[:-1]], units, strict=True)]


class _Mixed(nn.Layer):
    """Branches of convolutions side by side, and what they end in joined, the pooled input last if none takes it.

    Args:
        channels: of the input.
        units: of each convolution its name without "branch", what it takes ("x", "pool" or the name of one before it),
            channels, kernel and stride, 1 if left out. All keep the size but those with a stride, which are not padded.
        pool: of the input.
    """

    def __init__(self, channels: int, units: Sequence[tuple], pool: Callable[[paddle.Tensor], paddle.Tensor]):
        super().__init__()
        self.pool = pool
        self.sources = {name: source for name, source, *_ in units}
        self.ends = [name for name in (*self.sources, "pool") if name not in self.sources.values()]
        widths = {"x": channels, "pool": channels}
        for name, source, out_channels, *shape in units:
            kernel, stride = (*shape, 1, 1)[:2]
            kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
            padding = tuple(side // 2 if stride == 1 else 0 for side in kernel)
            self.add_sublayer(f"branch{name}", _unit(widths[source], out_channels, kernel, stride, padding))
            widths[name] = out_channels

    def forward(self, x):
        outputs = {"x": x, "pool": self.pool(x)}
        for name, source in self.sources.items():
            outputs[name] = getattr(self, f"branch{name}")(outputs[source])
        return paddle.concat([outputs[name] for name in self.ends], axis=1)


def _mixed_a(channels: int, pool_features: int) -> _Mixed:
    """35x35."""
    five, double = _chain("5x5", (48,), (64, 5)), _chain("3x3dbl", (64,), (96, 3), (96, 3))
    return _Mixed(channels, [("1x1", "x", 64), *five, *double, ("_pool", "pool", pool_features)], _average3)


def _mixed_b(channels: int) -> _Mixed:
    """35x35 -> 17x17."""
    double = _chain("3x3dbl", (64,), (96, 3), (96, 3, 2))
    return _Mixed(channels, [("3x3", "x", 384, 3, 2), *double], nn.MaxPool2D(3, 2))


def _mixed_c(channels: int, width: int) -> _Mixed:
    """17x17: 7x7 convolutions in 1x7 and 7x1 factors, `width` channels inside."""
    row, column = (1, 7), (7, 1)
    seven = _chain("7x7", (width,), (width, row), (192, column))
    double = _chain("7x7dbl", (width,), (width, column), (width, row), (width, column), (192, row))
    return _Mixed(channels, [("1x1", "x", 192), *seven, *double, ("_pool", "pool", 192)], _average3)


def _mixed_d(channels: int) -> _Mixed:
    """17x17 -> 8x8."""
    three = _chain("3x3", (192,), (320, 3, 2))
    seven = _chain("7x7x3", (192,), (192, (1, 7)), (192, (7, 1)), (192, 3, 2))
    return _Mixed(channels, [*three, *seven], nn.MaxPool2D(3, 2))


def _mixed_e(channels: int, pool: Callable[[paddle.Tensor], paddle.Tensor]) -> _Mixed:
    """8x8: branches that end in a 1x3 and a 3x1 convolution side by side."""
    row, column = (1, 3), (3, 1)
    three = [("3x3_1", "x", 384), ("3x3_2a", "3x3_1", 384, row), ("3x3_2b", "3x3_1", 384, column)]
    double = _chain("3x3dbl", (448,), (384, 3))
    double += [("3x3dbl_3a", "3x3dbl_2", 384, row), ("3x3dbl_3b", "3x3dbl_2", 384, column)]
    return _Mixed(channels, [("1x1", "x", 320), *three, *double, ("_pool", "pool", 192)], pool)


class FIDInception(nn.Layer):
    """Inception v3 as FID uses it (Heusel et al. 2017, arXiv 1706.08500; the 2015-12-05 TensorFlow graph).

    Keys are those of `pt_inception-2015-12-05-6726825d.pth`; `fc` is there for strict loading and not evaluated.
    """

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = _unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _unit(32, 32, 3)
        self.Conv2d_2b_3x3 = _unit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _unit(64, 80, 1)
        self.Conv2d_4a_3x3 = _unit(80, 192, 3)
        self.Mixed_5b = _mixed_a(192, pool_features=32)
        self.Mixed_5c = _mixed_a(256, pool_features=64)
        self.Mixed_5d = _mixed_a(288, pool_features=64)
        self.Mixed_6a = _mixed_b(288)
        self.Mixed_6b = _mixed_c(768, width=128)
        self.Mixed_6c = _mixed_c(768, width=160)
        self.Mixed_6d = _mixed_c(768, width=160)
        self.Mixed_6e = _mixed_c(768, width=192)
        self.Mixed_7a = _mixed_d(768)
        self.Mixed_7b = _mixed_e(1280, _average3)
        # The graph pools by maximum in its last block only, a slip that every FID number since depends on.
        self.Mixed_7c = _mixed_e(FEATURES, nn.MaxPool2D(3, 1, 1))
        self.fc = nn.Linear(FEATURES, 1008)
        self.eval()

    def prepare(self, image: paddle.Tensor) -> paddle.Tensor:
        """[N, 3, H, W] in [0, 1] -> [N, 3, 299, 299] in [-1, 1]."""
        return 2 * F.interpolate(image, size=[INPUT_SIZE, INPUT_SIZE], mode="bilinear", align_corners=False) - 1

    def blocks(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        """Outputs of the four stages for a prepared input: 64 channels at 73x73, 192 at 35, 768 at 17, 2048 at 8."""
        first = F.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, stride=2)
        second = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(first)), 3, stride=2)
        third = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(second))))
        third = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(third))))
        fourth = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(third)))
        return [first, second, third, fourth]

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """Pooled features.

        Args:
            image: [N, 3, H, W] float32 RGB in [0, 1], any size: resized to 299x299 bilinearly without antialias.

        Returns:
            [N, 2048] float32.
        """
        return self.last_block(self.prepare(image)).mean(axis=[2, 3])

    def last_block(self, x: paddle.Tensor) -> paddle.Tensor:
        """[N, 2048, 8, 8] of a prepared input."""
        return self.blocks(x)[-1]
