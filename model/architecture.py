"""The blocks that networks share: convolutions with or without spectral norm, conv + norm, SPADE's residual block."""

import math

import numpy as np
import paddle
from paddle import nn

from model.configuration.texts import parse_norm, parse_norm_g
from model.convolution import Conv2D
from model.errors import UserError
from model.normalization import SPADE, BatchNorm, InstanceNorm

SLOPE = 0.2  # of every leaky ReLU


class LeakyReLU(nn.Layer):
    """The activation of every block, as a layer."""

    def forward(self, x):
        """A `FeatureMap`, activated."""
        return x.activated(SLOPE)


def conv_norm(in_channels, out_channels, kernel_size, stride, padding, norm):
    """A convolution followed by the norm that `norm` names: [spectral]{instance,batch,syncbatch,none}.

    With a norm behind it the convolution has no bias, and the pair is a Sequential, as in the released code, so that
    parameter names agree.
    """
    spectral, kind = parse_norm(norm)
    conv = Conv2D(in_channels, out_channels, kernel_size, stride, padding, bias=kind == "none", spectral=spectral)
    if kind == "none":
        return conv
    if kind == "instance":
        return nn.Sequential(conv, InstanceNorm())
    return nn.Sequential(conv, BatchNorm(out_channels, sync=kind == "syncbatch", affine=True))


class SPADEResnetBlock(nn.Layer):
    """Residual block with spatially-adaptive norms (SPADE, section 3.2, fig. 4).

    out = shortcut(x) + conv_1(act(norm_1(conv_0(act(norm_0(x)))))), where the shortcut is conv_s(norm_s(x)) when the
    number of channels changes and x otherwise.

    Args:
        fin, fout: channels in and out.
        norm_G: such as spectralspadesyncbatch3x3.
        semantic_nc: channels of the semantics.
    """

    def __init__(self, fin, fout, norm_G, semantic_nc):
        super().__init__()
        spectral, norm, kernel_size = parse_norm_g(norm_G)
        fmiddle = min(fin, fout)
        self.learned_shortcut = fin != fout
        self.conv_0 = Conv2D(fin, fmiddle, 3, padding=1, spectral=spectral)
        self.conv_1 = Conv2D(fmiddle, fout, 3, padding=1, spectral=spectral)
        self.norm_0 = SPADE(fin, semantic_nc, kernel_size, norm)
        self.norm_1 = SPADE(fmiddle, semantic_nc, kernel_size, norm)
        if self.learned_shortcut:
            self.conv_s = Conv2D(fin, fout, 1, bias=False, spectral=spectral)
            self.norm_s = SPADE(fin, semantic_nc, kernel_size, norm)

    def forward(self, x, semantics):
        """A `FeatureMap` of fin channels, `Semantics` of its N maps -> one of fout channels."""
        shortcut = self.conv_s(self.norm_s(x, semantics)) if self.learned_shortcut else x
        dx = self.conv_0(self.norm_0(x, semantics).activated(SLOPE))
        return self.conv_1(self.norm_1(dx, semantics).activated(SLOPE), residual=shortcut)


def _orthogonal(rng, shape):
    """A matrix [shape[0], rest] with orthonormal rows or columns (Saxe et al. 2014)."""
    rows, cols = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.standard_normal((max(rows, cols), min(rows, cols))))
    q = q * np.sign(np.diag(r))  # makes the draw uniform
    return (q if rows >= cols else q.T).reshape(shape)


def initialize(net, init_type="xavier", gain=0.02):
    """Draw a network's weights as the released code does; biases become 0.

    Args:
        init_type: normal (deviation gain), xavier (normal, times gain), xavier_uniform (gain 1, as released),
            kaiming (normal, fan in), orthogonal (times gain), none (uniform, 1/sqrt(fan in)).
        gain: init_variance.

    Returns:
        The network. Draws come from NumPy's global generator, seeded by the trainer.
    """
    rng, dtype = np.random.default_rng(np.random.randint(0, 2**31, size=4)), paddle.get_default_dtype()
    for layer in net.sublayers(include_self=True):
        if isinstance(layer, BatchNorm) and layer.affine:
            layer.weight.set_value((1 + gain * rng.standard_normal(layer.weight.shape)).astype(dtype))
            layer.bias.set_value(np.zeros(layer.bias.shape, dtype))
        if not isinstance(layer, Conv2D | nn.Linear):
            continue
        weight = layer.weight if isinstance(layer, nn.Linear) else layer.raw_weight
        shape = tuple(weight.shape) if isinstance(layer, Conv2D) else tuple(weight.shape)[::-1]  # [out, in, ...]
        area = math.prod(shape[2:])
        fan_in, fan_out = shape[1] * area, shape[0] * area
        if init_type == "normal":
            value = gain * rng.standard_normal(shape)
        elif init_type == "xavier":
            value = gain * math.sqrt(2 / (fan_in + fan_out)) * rng.standard_normal(shape)
        elif init_type == "xavier_uniform":
            value = math.sqrt(6 / (fan_in + fan_out)) * rng.uniform(-1, 1, shape)
        elif init_type == "kaiming":
            value = math.sqrt(2 / fan_in) * rng.standard_normal(shape)
        elif init_type == "orthogonal":
            value = gain * _orthogonal(rng, shape)
        elif init_type == "none":
            value = rng.uniform(-1, 1, shape) / math.sqrt(fan_in)
        else:
            raise UserError(
                f"init_type {init_type!r} is unknown: use normal, xavier, xavier_uniform, kaiming, orthogonal or none"
            )
        weight.set_value((value if isinstance(layer, Conv2D) else value.T).astype(dtype))
        if layer.bias is not None:
            layer.bias.set_value(np.zeros(layer.bias.shape, dtype))
    return net
