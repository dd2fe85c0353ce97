"""Layers that compute their forward pass again for the backward pass."""

import contextlib

import paddle
from paddle.autograd import PyLayer


def _values(layer):
    return [(buffer, buffer.clone()) for buffer in layer.buffers()]


def _precision():
    """A factory of contexts with the mixed precision that is in force, found as Paddle's own recompute finds it."""
    tracer = paddle.base.framework._dygraph_tracer()
    if tracer._amp_level == paddle.base.core.AmpLevel.O0:
        return contextlib.nullcontext
    dtype = tracer._amp_dtype
    return lambda: paddle.amp.auto_cast(level="O1", dtype=dtype)


class _Recompute(PyLayer):
    """A layer that keeps its input and nothing else for the backward pass."""

    @staticmethod
    def forward(ctx, x, layer, run):
        ctx.layer, ctx.run, ctx.precision = layer, run, _precision()
        ctx.needs_x = not x.stop_gradient
        ctx.save_for_backward(x)
        ctx.before = [value for _, value in _values(layer)]
        with paddle.enable_grad():  # the very pass of the backward pass, which kernels compute more exactly than others
            return run(x.detach()).detach()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensor()
        x = x.detach()
        x.stop_gradient = not ctx.needs_x
        after = _values(ctx.layer)
        # The same pass from the same buffers: spectral norms iterate to the same vectors, and nothing is counted twice.
        for (buffer, _), value in zip(after, ctx.before, strict=True):
            buffer.set_value(value)
        with paddle.enable_grad(), ctx.precision():
            result = ctx.run(x)
        paddle.autograd.backward([result], [grad])
        for buffer, value in after:
            buffer.set_value(value)
        return x.grad if ctx.needs_x else None


def recompute(layer, run, x):
    """run(x), a pass of `layer`, computed again in the backward pass (Chen et al. 2016): less memory, same numbers.

    Args:
        layer: what `run` calls; state that its passes change must be in its buffers.
        run: tensor -> tensor; draws no random numbers.
        x: the input; it or the layer's weights need a gradient.
    """
    return _Recompute.apply(x, layer, run)
