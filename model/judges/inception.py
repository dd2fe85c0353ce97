"""The Inception network whose pooled features define FID."""

import paddle
import paddle.nn.functional as F
from paddle import nn

from model.judges.layers import ConvUnit

FEATURES = 2048
INPUT_SIZE = 299
MADE_UP_GAIN = 3.0


def _unit(in_channels: int, out_channels: int, kernel=1, stride: int = 1, padding=0) -> ConvUnit:
    return ConvUnit(in_channels, out_channels, kernel, stride, padding, epsilon=1e-3)


def _average3(x: paddle.Tensor) -> paddle.Tensor:
    # TensorFlow's graph does not count the padding, which PyTorch's own Inception does.
    return F.avg_pool2d(x, 3, stride=1, padding=1, exclusive=True)


class _MixedA(nn.Layer):
    """35x35: 1x1, 5x5, double 3x3 and pooled branches."""

    def __init__(self, channels: int, pool_features: int):
        super().__init__()
        self.branch1x1 = _unit(channels, 64)
        self.branch5x5_1 = _unit(channels, 48)
        self.branch5x5_2 = _unit(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _unit(channels, 64)
        self.branch3x3dbl_2 = _unit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _unit(96, 96, 3, padding=1)
        self.branch_pool = _unit(channels, pool_features)

    def forward(self, x):
        return paddle.concat(
            [
                self.branch1x1(x),
                self.branch5x5_2(self.branch5x5_1(x)),
                self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
                self.branch_pool(_average3(x)),
            ],
            axis=1,
        )


class _MixedB(nn.Layer):
    """35x35 -> 17x17."""

    def __init__(self, channels: int):
        super().__init__()
        self.branch3x3 = _unit(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = _unit(channels, 64)
        self.branch3x3dbl_2 = _unit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _unit(96, 96, 3, stride=2)

    def forward(self, x):
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return paddle.concat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], axis=1)


class _MixedC(nn.Layer):
    """17x17: 7x7 convolutions in 1x7 and 7x1 factors, `width` channels inside."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        row, column = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = _unit(channels, 192)
        self.branch7x7_1 = _unit(channels, width)
        self.branch7x7_2 = _unit(width, width, **row)
        self.branch7x7_3 = _unit(width, 192, **column)
        self.branch7x7dbl_1 = _unit(channels, width)
        self.branch7x7dbl_2 = _unit(width, width, **column)
        self.branch7x7dbl_3 = _unit(width, width, **row)
        self.branch7x7dbl_4 = _unit(width, width, **column)
        self.branch7x7dbl_5 = _unit(width, 192, **row)
        self.branch_pool = _unit(channels, 192)

    def forward(self, x):
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return paddle.concat([self.branch1x1(x), single, double, self.branch_pool(_average3(x))], axis=1)


class _MixedD(nn.Layer):
    """17x17 -> 8x8."""

    def __init__(self, channels: int):
        super().__init__()
        self.branch3x3_1 = _unit(channels, 192)
        self.branch3x3_2 = _unit(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _unit(channels, 192)
        self.branch7x7x3_2 = _unit(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = _unit(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = _unit(192, 192, 3, stride=2)

    def forward(self, x):
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return paddle.concat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], axis=1)


class _MixedE(nn.Layer):
    """8x8: branches that end in a 1x3 and a 3x1 convolution side by side."""

    def __init__(self, channels: int, max_pool: bool):
        super().__init__()
        row, column = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
        self.max_pool = max_pool
        self.branch1x1 = _unit(channels, 320)
        self.branch3x3_1 = _unit(channels, 384)
        self.branch3x3_2a = _unit(384, 384, **row)
        self.branch3x3_2b = _unit(384, 384, **column)
        self.branch3x3dbl_1 = _unit(channels, 448)
        self.branch3x3dbl_2 = _unit(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _unit(384, 384, **row)
        self.branch3x3dbl_3b = _unit(384, 384, **column)
        self.branch_pool = _unit(channels, 192)

    def forward(self, x):
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.max_pool else _average3(x)
        return paddle.concat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(single),
                self.branch3x3_2b(single),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(pooled),
            ],
            axis=1,
        )


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
        self.Mixed_5b = _MixedA(192, pool_features=32)
        self.Mixed_5c = _MixedA(256, pool_features=64)
        self.Mixed_5d = _MixedA(288, pool_features=64)
        self.Mixed_6a = _MixedB(288)
        self.Mixed_6b = _MixedC(768, width=128)
        self.Mixed_6c = _MixedC(768, width=160)
        self.Mixed_6d = _MixedC(768, width=160)
        self.Mixed_6e = _MixedC(768, width=192)
        self.Mixed_7a = _MixedD(768)
        self.Mixed_7b = _MixedE(1280, max_pool=False)
        # The graph pools by maximum in its last block only, a slip that every FID number since depends on.
        self.Mixed_7c = _MixedE(FEATURES, max_pool=True)
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
