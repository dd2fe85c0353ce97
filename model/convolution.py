"""The convolution layer of every network, with or without spectral normalisation."""

import contextlib

import paddle
from paddle import nn
from paddle.autograd import PyLayer


def _unit(v):
    """v / |v|, guarded as torch.nn.utils.spectral_norm guards it."""
    return v / v.norm().clip(min=1e-12)


class _Spectral(PyLayer):
    """The weight W and sigma = u^T W v, whose gradient u v^T is added into W's own in place."""

    @staticmethod
    def forward(ctx, weight, u, v, value):
        ctx.save_for_backward(u, v)
        ctx.shape = weight.shape
        return weight.flatten(1), value.clone()  # a view

    @staticmethod
    def backward(ctx, grad_weight, grad_sigma):
        u, v = ctx.saved_tensor()
        paddle.addmm_(grad_weight, (grad_sigma * u).unsqueeze(1), v.unsqueeze(0))  # it is nobody else's
        return grad_weight.reshape(ctx.shape), None, None, None


class Conv2D(nn.Layer):
    """A convolution, with spectral normalisation of its weight if asked (Miyato et al. 2018, algorithm 1).

    Parameters and buffers carry the official names: `weight`, `bias`, or with spectral norm `weight_orig`,
    `weight_u` [out], `weight_v` [in*k*k]. One power iteration runs in each forward pass of training mode, none in
    evaluation mode; the gradient flows through sigma = u^T W v with u and v held constant.

    Args:
        in_channels, out_channels, kernel_size, stride, padding: as usual.
        bias: whether a bias is added.
        spectral: whether the weight is divided by its largest singular value.
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, bias=True, spectral=False):
        super().__init__()
        self.stride, self.padding, self.spectral = stride, padding, spectral
        shape = [out_channels, in_channels, kernel_size, kernel_size]
        name = "weight_orig" if spectral else "weight"
        self.add_parameter(name, self.create_parameter(shape))
        self.bias = self.create_parameter([out_channels], is_bias=True) if bias else None
        if spectral:
            for side, size in (("weight_u", out_channels), ("weight_v", in_channels * kernel_size**2)):
                self.register_buffer(side, _unit(paddle.randn([size])))

    @property
    def raw_weight(self):
        """The parameter itself, before spectral normalisation."""
        return self.weight_orig if self.spectral else self.weight

    def weight_and_sigma(self):
        """The weight before spectral normalisation and its spectral norm estimate, a 0-d tensor, or None without.

        Runs the power iteration of a training pass, so it is called once per pass.
        """
        if not self.spectral:
            return self.weight, None
        with paddle.no_grad():
            w = self.weight_orig.flatten(1)
            if self.training:
                v = _unit(paddle.matmul(self.weight_u, w))
                product = paddle.mv(w, v)
                u = _unit(product)
                self.weight_u.set_value(u)
                self.weight_v.set_value(v)
            else:
                u, v = self.weight_u, self.weight_v
                product = paddle.mv(w, v)
        weight, sigma = _Spectral.apply(self.weight_orig, u, v, (u * product).sum())
        return weight.reshape(self.weight_orig.shape), sigma

    def forward(self, x, residual=None):
        """A `FeatureMap` of `in_channels` -> one of `out_channels`, to which `residual`, if there is one, is added."""
        return x.conv2d(self, residual)


@contextlib.contextmanager
def one_power_iteration(nets):
    """Run the power iteration of every spectral norm here and now, and none in the passes inside the context.

    Several passes then divide by one norm, as the pass of a whole batch does, and it is found in float32 whatever
    precision the passes have.
    """
    convs = [c for net in nets for c in net.sublayers() if isinstance(c, Conv2D) and c.spectral and c.training]
    with paddle.no_grad():
        for conv in convs:
            conv.weight_and_sigma()
    for conv in convs:
        conv.training = False
    try:
        yield
    finally:
        for conv in convs:
            conv.training = True
