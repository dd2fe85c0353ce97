"""The convolution unit that both evaluation networks are made of."""

import paddle
import paddle.nn.functional as F
from paddle import nn


class FrozenBatchNorm(nn.Layer):
    """Per-channel scale and shift from stored statistics, under PyTorch's state_dict keys.

    The evaluation networks are never trained here, so the layer only holds the numbers; `ConvUnit` folds them into its
    convolution. Paddle's own BatchNorm2D names its statistics `_mean` and `_variance`, which would need a key map.
    """

    def __init__(self, channels: int, epsilon: float):
        super().__init__()
        self.epsilon = epsilon
        self.weight = self.create_parameter([channels], default_initializer=nn.initializer.Constant(1.0))
        self.bias = self.create_parameter([channels], is_bias=True)
        self.register_buffer("running_mean", paddle.zeros([channels]))
        self.register_buffer("running_var", paddle.ones([channels]))
        self.register_buffer("num_batches_tracked", paddle.zeros([], dtype="int64"))

    def scale_and_shift(self) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Two [C] tensors: the normalisation is `x * scale + shift`."""
        scale = self.weight * paddle.rsqrt(self.running_var + self.epsilon)
        return scale, self.bias - self.running_mean * scale


class ConvUnit(nn.Layer):
    """Convolution without bias, frozen batch norm, optional ReLU; sub-layers `conv` and `bn`.

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
        self.bn = FrozenBatchNorm(out_channels, epsilon)
        self.geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        self.relu = relu

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:  # [N, C_in, H, W] -> [N, C_out, h, w]
        scale, shift = self.bn.scale_and_shift()
        x = F.conv2d(x, self.conv.weight * scale.reshape([-1, 1, 1, 1]), shift, **self.geometry)
        return F.relu(x) if self.relu else x
