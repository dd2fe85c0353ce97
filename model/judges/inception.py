"""The Inception network whose pooled features define FID."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import nn

from model.judges.layers import ConvUnit

FEATURES = 2048
INPUT_SIZE = 299


def _unit(in_channels: int, out_channels: int, kernel=1, stride: int = 1, padding=0) -> ConvUnit:
    return ConvUnit(in_channels, out_channels, kernel, stride, padding, epsilon=1e-3)


def _average3(x: paddle.Tensor) -> paddle.Tensor:
    # TensorFlow's graph does not count the padding, which PyTorch's own Inception does.
    return F.avg_pool2d(x, 3, stride=1, padding=1, exclusive=True)


class _Branch(NamedTuple):
    """A convolution of a block: its name without "branch", what it takes: "x", "pool" or the name of one before it."""

    name: str
    source: str
    channels: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1


class _Mixed(nn.Layer):
    """Branches of convolutions side by side, and what they end in joined, the pooled input last if none takes it.

    Args:
        channels: of the input.
        units: `_Branch` of each convolution. All keep the size but those with a stride, which are not padded.
        pool: of the input.
    """

    def __init__(self, channels: int, units: Sequence[tuple], pool: Callable[[paddle.Tensor], paddle.Tensor]):
        super().__init__()
        self.pool = pool
        self.sources = {name: source for name, source, *_ in units}
        self.ends = [name for name in (*self.sources, "pool") if name not in self.sources.values()]
        widths = {"x": channels, "pool": channels}
        for name, source, widths[name], kernel, stride in (_Branch(*unit) for unit in units):
            kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
            padding = tuple(side // 2 if stride == 1 else 0 for side in kernel)
            self.add_sublayer(f"branch{name}", _unit(widths[source], widths[name], kernel, stride, padding))

    def forward(self, x):
        outputs = {"x": x, "pool": self.pool(x)}
        for name, source in self.sources.items():
            outputs[name] = getattr(self, f"branch{name}")(outputs[source])
        return paddle.concat([outputs[name] for name in self.ends], axis=1)


def _mixed_a(channels: int, pool_features: int) -> _Mixed:
    """35x35."""
    double = ("3x3dbl_1", "x", 64), ("3x3dbl_2", "3x3dbl_1", 96, 3), ("3x3dbl_3", "3x3dbl_2", 96, 3)
    five = ("5x5_1", "x", 48), ("5x5_2", "5x5_1", 64, 5)
    return _Mixed(channels, [("1x1", "x", 64), *five, *double, ("_pool", "pool", pool_features)], _average3)


def _mixed_b(channels: int) -> _Mixed:
    """35x35 -> 17x17."""
    double = ("3x3dbl_1", "x", 64), ("3x3dbl_2", "3x3dbl_1", 96, 3), ("3x3dbl_3", "3x3dbl_2", 96, 3, 2)
    return _Mixed(channels, [("3x3", "x", 384, 3, 2), *double], nn.MaxPool2D(3, 2))


def _mixed_c(channels: int, width: int) -> _Mixed:
    """17x17: 7x7 convolutions in 1x7 and 7x1 factors, `width` channels inside."""
    row, column = (1, 7), (7, 1)
    units = [
        ("1x1", "x", 192),
        ("7x7_1", "x", width),
        ("7x7_2", "7x7_1", width, row),
        ("7x7_3", "7x7_2", 192, column),
        ("7x7dbl_1", "x", width),
        ("7x7dbl_2", "7x7dbl_1", width, column),
        ("7x7dbl_3", "7x7dbl_2", width, row),
        ("7x7dbl_4", "7x7dbl_3", width, column),
        ("7x7dbl_5", "7x7dbl_4", 192, row),
        ("_pool", "pool", 192),
    ]
    return _Mixed(channels, units, _average3)


def _mixed_d(channels: int) -> _Mixed:
    """17x17 -> 8x8."""
    three = ("3x3_1", "x", 192), ("3x3_2", "3x3_1", 320, 3, 2)
    seven = ("7x7x3_1", "x", 192), ("7x7x3_2", "7x7x3_1", 192, (1, 7)), ("7x7x3_3", "7x7x3_2", 192, (7, 1))
    return _Mixed(channels, [*three, *seven, ("7x7x3_4", "7x7x3_3", 192, 3, 2)], nn.MaxPool2D(3, 2))


def _mixed_e(channels: int, pool: Callable[[paddle.Tensor], paddle.Tensor]) -> _Mixed:
    """8x8: branches that end in a 1x3 and a 3x1 convolution side by side."""
    row, column = (1, 3), (3, 1)
    units = [
        ("1x1", "x", 320),
        ("3x3_1", "x", 384),
        ("3x3_2a", "3x3_1", 384, row),
        ("3x3_2b", "3x3_1", 384, column),
        ("3x3dbl_1", "x", 448),
        ("3x3dbl_2", "3x3dbl_1", 384, 3),
        ("3x3dbl_3a", "3x3dbl_2", 384, row),
        ("3x3dbl_3b", "3x3dbl_2", 384, column),
        ("_pool", "pool", 192),
    ]
    return _Mixed(channels, units, pool)


class FIDInception(nn.Layer):
    """Inception v3 as FID uses it (Heusel et al. 2017, arXiv 1706.08500; the 2015-12-05 TensorFlow graph).

    Keys are those of `pt_inception-2015-12-05-6726825d.pth`; `fc` is there for strict loading and not evaluated.
    """

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = _unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _unit(32, 32, 3)
        self.Conv2d_2b_3x3 = _unit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _unit(64, 80)
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
