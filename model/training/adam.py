"""The optimiser of all networks."""

import numpy as np
import paddle

from model.ops.memory import contiguous, view
from model.ops.threads import parallel_for


class Adam(paddle.optimizer.Adam):
    """Adam (Kingma & Ba 2015, algorithm 1) that keeps no first moment when beta1 is 0, as in SPADE's training.

    The first moment is the gradient itself then: 4 bytes a parameter less, a fifth of a training run's memory. On CPUs
    float32 parameters move by a compiled loop on all threads, 2.6 times as fast on one as Paddle's operator.
    Arguments, numbers and the rest of the state are those of paddle.optimizer.Adam.
    """

    def _without_moment(self, name):
        return name == self._moment1_acc_str and self._beta1 == 0

    def _add_accumulator(self, name, param, *args, **rest):
        return None if self._without_moment(name) else super()._add_accumulator(name, param, *args, **rest)

    def _get_accumulator_master(self, name, param):
        return self._gradient if self._without_moment(name) else super()._get_accumulator_master(name, param)

    def state_dict(self):
        """The state, of which a part may still wait for its parameters' first step since it was loaded."""
        return {**self._accumulators_holder, **super().state_dict()}  # which Paddle 2.6 leaves out

    @paddle.no_grad()
    def move(self, param):
        """Take one parameter's step along its gradient and drop the gradient; `step` moves those that have one left."""
        self._apply_optimize(None, None, [(param, param.grad)])
        param.clear_gradient(False)  # not to zeros; Paddle overlooks the argument's name

    def _append_optimize_op(self, block, param_and_grad):
        self._gradient = param_and_grad[1]  # Adam's operator reads it as the first moment, times 0, and writes it back
        try:
            if self._gradient.dtype == paddle.float32 and self._gradient.place.is_cpu_place():
                self._gradient = contiguous(self._gradient)
                return self._move(param_and_grad[0])
            return super()._append_optimize_op(block, param_and_grad)
        finally:
            self._gradient = None

    def _move(self, param):
        """A step of one parameter on CPUs."""
        from model.ops.loops import adam  # which compiles: GPUs need no compiler

        names = self._moment1_acc_str, self._moment2_acc_str, self._beta1_pow_acc_str, self._beta2_pow_acc_str
        *moments, power1, power2 = (self._get_accumulator_master(name, param) for name in names)
        vectors = [view(t).ravel() for t in (param, self._gradient, *moments)]
        power1, power2 = view(power1), view(power2)
        unbiased = np.sqrt(1 - power2[0])
        rate = np.float32(self.get_lr()) * unbiased / (1 - power1[0])
        factors = np.float32(self._beta1), np.float32(self._beta2), rate, np.float32(self._epsilon) * unbiased

        def work(part, begin, end):
            adam(*(vector[begin:end] for vector in vectors), *factors)

        parallel_for(work, param.size, param.size)
        power1 *= factors[0]
        power2 *= factors[1]


def with_betas(state, before, now):
    """An optimiser's saved state for steps with other betas.

    Adam divides a moment by the weight that the gradients have in it, 1 - p, where p is what is left of the moment's
    start at 0 (Kingma & Ba 2015, section 3): the product of the betas of the steps so far, whichever these were. Paddle
    keeps p times the next step's beta, so that this product is divided by the old beta and multiplied by the new one.
    Then moments stay unbiased: with a constant gradient every step, before the change and after it, is as long as the
    learning rate. First moments that the state lacks, since its beta1 was 0, start at 0 with p = 1; with beta1 0 they
    are dropped.

    Args:
        state: {"net.key:accumulator": array}, as `optimizer_state` gives it.
        before: (beta1, beta2) of the steps that made it.
        now: (beta1, beta2) of the next ones.

    Returns:
        The state to load.
    """
    result = dict(state)
    for second in (key for key in state if ":moment2_" in key):
        names = ("moment1", "beta1_pow_acc", "beta2_pow_acc")
        first, product1, product2 = (second.replace(":moment2_", f":{name}_") for name in names)
        result[product2] = _product(state[product2], before[1], now[1])
        if first in state or now[0] == 0:
            result[product1] = _product(state[product1], before[0], now[0])
        else:
            result[first] = np.zeros_like(state[second])
            result[product1] = np.full_like(state[product1], now[0])
        if now[0] == 0:
            result.pop(first, None)
    return result


def _product(kept, old, new):
    """The product of the betas of the steps so far, times the next one's."""
    if old == new:
        return kept
    return (kept.astype(np.float64) / old * new).astype(kept.dtype) if old else np.zeros_like(kept)
