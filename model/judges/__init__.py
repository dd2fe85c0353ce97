"""The trained networks that judge pictures, Inception for FID and DeepLabV2 for segmentation scores, and their unit."""

import paddle
import paddle.nn.functional as F
from paddle import nn

from model.normalization import BatchNorm


class ConvUnit(nn.Layer):
    """Convolution without bias, batch norm by its stored statistics, optional ReLU; sub-layers `conv` and `bn`.

    The norm is folded into the kernel at every call: a pass over the weights is far cheaper than one over the
    activations, and nothing cached can go stale when weights are loaded.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int = 1,
        epsilon: float = 1e-5,
        relu: bool = True,
    ):
        super().__init__()
        self.conv = nn.Conv2D(in_channels, out_channels, kernel_size, bias_attr=False)
        self.bn, self.epsilon = BatchNorm(out_channels, affine=True), epsilon
        self.geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        self.relu = relu

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:  # [N, C_in, H, W] -> [N, C_out, h, w]
        scale = self.bn.weight * paddle.rsqrt(self.bn.running_var + self.epsilon)
        shift = self.bn.bias - self.bn.running_mean * scale
        x = F.conv2d(x, self.conv.weight * scale.reshape([-1, 1, 1, 1]), shift, **self.geometry)
        return F.relu(x) if self.relu else x
