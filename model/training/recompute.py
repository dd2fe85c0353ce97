"""Forward passes in other portions than a batch at a time: micro-batches, held spectral norms, replays for memory."""

import contextlib
from typing import NamedTuple

import numpy as np
import paddle
from paddle.autograd import PyLayer

from model.convolution import Conv2D
from model.semantics import Patterns, Semantics


def _keep(numbers, rows):
    """Number anew the rows that occur in `numbers`: the numbers, and the rows of them alone; the last id stays last."""
    used = np.zeros(len(rows) + 1, bool)  # one more id, for outside
    used[numbers] = True
    kept = used[:-1]
    place = np.cumsum(used, dtype=np.int32) - np.int32(1)
    place[-1] = kept.sum()
    return place[numbers], rows[kept]


class Part(Semantics):
    """The maps [begin, end) of a `Semantics`, with the neighbourhoods that occur in them."""

    def __init__(self, whole, begin, end):
        self.classes, self.with_edges, self.dense = whole.classes, whole.with_edges, whole.dense
        self.codes = whole.codes[begin:end]
        self._one_hot, self._patterns = {}, {}
        self._whole, self._range = whole, slice(begin, end)

    def patterns(self, height, width, kernel_size):
        """The `Patterns` at a size."""
        key = height, width, kernel_size
        if key not in self._patterns:
            whole = self._whole.patterns(*key)
            index, outer = _keep(whole.index[self._range], whole.outer)
            outer, inner = _keep(outer, whole.inner)
            self._patterns[key] = Patterns(whole.labels, whole.edges, inner, outer, index)
        return self._patterns[key]


class MicroBatch(NamedTuple):
    """A part of a batch that is computed at once."""

    semantics: Semantics
    image: paddle.Tensor
    noise: paddle.Tensor | None  # of the styles
    share: float  # of the batch's pictures
    is_last: bool


def micro_batches(count, semantics, image, noise=None):
    """Yield a batch in `count` parts of (nearly) equal size, at most one for each picture.

    A part's one-hot maps are released with it.
    """
    n = len(semantics)
    count = min(count, n)
    if count == 1:
        yield MicroBatch(semantics, image, noise, 1.0, True)
        return
    edges = [n * i // count for i in range(count + 1)]
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        styles = None if noise is None else noise[begin:end]
        yield MicroBatch(Part(semantics, begin, end), image[begin:end], styles, (end - begin) / n, end == n)


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
        return run(x)

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
