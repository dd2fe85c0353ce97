"""DeepLabV2-ResNet101 with multi-scale fusion, the network that COCO-Stuff segmentation scores are computed with."""

import math

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from model.judges import ConvUnit

MEAN_BGR = (104.008, 116.669, 122.675)
SCALES = (0.5, 0.75)
BLOCKS = ((3, 1, 1), (4, 2, 1), (23, 1, 2), (3, 1, 4))  # of each stage: bottlenecks, stride, dilation
RATES = (6, 12, 18, 24)  # dilations of the ASPP branches


class _Bottleneck(nn.Layer):
    def __init__(self, in_channels: int, out_channels: int, stride: int, dilation: int, project: bool):
        super().__init__()
        middle = out_channels // 4
        # The stride sits in the first 1x1, as in the original Caffe ResNet.
        self.reduce = ConvUnit(in_channels, middle, 1, stride)
        self.conv3x3 = ConvUnit(middle, middle, 3, padding=dilation, dilation=dilation)
        self.increase = ConvUnit(middle, out_channels, 1, relu=False)
        self.shortcut = ConvUnit(in_channels, out_channels, 1, stride, relu=False) if project else None

    def forward(self, x):
        residual = self.increase(self.conv3x3(self.reduce(x)))
        return F.relu(residual + (x if self.shortcut is None else self.shortcut(x)))


class _ASPP(nn.Layer):
    """Sum of 3x3 convolutions at several dilation rates (DeepLab, arXiv 1606.00915, section 3.2)."""

    def __init__(self, in_channels: int, classes: int):
        super().__init__()
        for i, rate in enumerate(RATES):
            self.add_sublayer(f"c{i}", nn.Conv2D(in_channels, classes, 3, padding=rate, dilation=rate))

    def forward(self, x):
        return sum(branch(x) for branch in self.children())


def _base(classes: int) -> nn.Sequential:
    """The network of one scale."""
    stem = nn.Sequential(
        ("conv1", ConvUnit(3, 64, 7, stride=2, padding=3)), ("pool", nn.MaxPool2D(3, 2, 1, ceil_mode=True))
    )
    layers, channels = [stem], 64
    for i, (count, stride, dilation) in enumerate(BLOCKS):
        width = 256 * 2**i
        first = _Bottleneck(channels, width, stride, dilation, project=True)
        rest = [_Bottleneck(width, width, 1, dilation, project=False) for _ in range(count - 1)]
        layers.append(nn.Sequential(*((f"block{j}", block) for j, block in enumerate([first, *rest], start=1))))
        channels = width
    named = [(f"layer{i}", layer) for i, layer in enumerate(layers, start=1)]
    return nn.Sequential(*named, ("aspp", _ASPP(channels, classes)))


def _shrink(x: paddle.Tensor, scale: float, legacy: bool) -> paddle.Tensor:
    """Bilinear to (floor(H*scale), floor(W*scale)), sampling every 1/scale pixels, or every in/out pixels if legacy."""
    size = [math.floor(side * scale) for side in x.shape[2:]]
    if legacy:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    for axis, (side, out) in enumerate(zip(x.shape[2:], size, strict=True), start=2):
        # Written out: what F.interpolate does with a scale that gives no whole size has changed between versions.
        at = np.maximum((np.arange(out) + 0.5) / scale - 0.5, 0.0)
        low = np.minimum(at.astype(np.int64), side - 1)
        high = np.minimum(low + 1, side - 1)
        weight = paddle.to_tensor((at - low).astype(np.float32)).reshape([-1, 1] if axis == 2 else [1, -1])
        first = paddle.index_select(x, paddle.to_tensor(low), axis=axis)
        second = paddle.index_select(x, paddle.to_tensor(high), axis=axis)
        x = first + (second - first) * weight
    return x


class DeepLabV2(nn.Layer):
    """DeepLabV2-ResNet101-MSC (arXiv 1606.00915) under the keys of `deeplabv2_resnet101_msc-cocostuff164k-100000.pth`.

    Args:
        classes: outputs; 182 for COCO-Stuff.

    Attributes:
        legacy: sample the smaller scales at in/out instead of 1/scale steps, as the PyTorch that the released weights
            were made with did. Both are equal where H and W times the scales are whole, as for 256.
    """

    def __init__(self, classes: int = 182):
        super().__init__()
        self.classes, self.legacy = classes, False
        self.base = _base(classes)
        self.eval()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Element-wise maximum of the logits at scales 1, 0.5 and 0.75, each resized to the first's size.

        Args:
            x: [N, 3, H, W] float32, BGR 0..255 minus the mean (`network_input`).

        Returns:
            [N, classes, h, w] float32, h about H / 8.
        """
        logits = self.base(x)
        for scale in SCALES:
            smaller = self.base(_shrink(x, scale, self.legacy))
            smaller = F.interpolate(smaller, size=logits.shape[2:], mode="bilinear", align_corners=False)
            logits = paddle.maximum(logits, smaller)
        return logits


def network_input(images: np.ndarray) -> np.ndarray:
    """RGB uint8 [N, H, W, 3] -> BGR minus the mean, float32 [N, 3, H, W]."""
    centred = images[..., ::-1].astype(np.float32) - np.array(MEAN_BGR)
    return np.ascontiguousarray(centred.astype(np.float32).transpose(0, 3, 1, 2))
