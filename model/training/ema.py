"""The running average of a generator's weights, and the statistics that its norms need."""

import numpy as np
import paddle

from model.convolution import Conv2D, one_power_iteration
from model.errors import UserError
from model.normalization import BatchNorm
from model.ops.device import as_tensor
from model.semantics import Semantics

POWER_ITERATIONS = 10  # from the trained network's vectors to the averaged weights' own


class Average:
    """Averaged copies of G and E: weights follow w = d w + (1 - d) w_trained after every step of G.

    d is `decay`, but no more than (1 + t) / (10 + t) in update t, so that the initial weights are soon forgotten.
    Weights alone are averaged: no mean of statistics that other weights produced fits these. So batch norms' means and
    variances are estimated anew on training batches before the copies are used, and spectral norms' vectors are
    iterated on the averaged weights.

    Args:
        live: {"n_g": G} or {"n_g": G, "n_e": E}, the networks that are trained.
        copies: networks of the same kinds under the same names, to hold the average.
        decay: 0 .. 1.
        opt: the options; seed, z_dim and what `Semantics` reads.
        batches: callable that gives the training batches to estimate statistics on, the same at each call; None will do
            for networks without batch norms.
    """

    def __init__(self, live, copies, decay, opt, batches=None):
        self.live, self.nets, self.decay, self.opt, self.batches = live, copies, decay, opt, batches
        for layer in self._layers(BatchNorm):
            layer.sync = False  # one process alone may look at the average
        self.restart()

    def restart(self):
        """Begin the average with the trained networks as they are."""
        for name, net in self.nets.items():
            for own, other in zip(net.state_dict().values(), self.live[name].state_dict().values(), strict=True):
                own.set_value(other)
        self.updates, self._is_ready = 0, False

    def _layers(self, kind):
        return [layer for net in self.nets.values() for layer in net.sublayers() if isinstance(layer, kind)]

    @paddle.no_grad()
    def update(self):
        """Take in the trained networks' present weights."""
        self.updates += 1
        self._is_ready = False
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, net in self.nets.items():
            for own, other in zip(net.parameters(), self.live[name].parameters(), strict=True):
                own.set_value(decay * own + (1 - decay) * other)

    def state_dict(self):
        """What `load_state_dict` takes; the weights themselves are saved as networks."""
        return {"updates": self.updates}

    def load_state_dict(self, state):
        """Put back what `state_dict` returned, after the weights."""
        self.updates, self._is_ready = state["updates"], False

    def networks(self):
        """The averaged networks in evaluation mode, with statistics of their own weights; shared, not copies.

        Raises:
            UserError: there are batch norms, and no batches to estimate their statistics on.
        """
        if not self._is_ready:
            self._estimate()
            self._is_ready = True
        for net in self.nets.values():
            net.eval()
        return self.nets

    @paddle.no_grad()
    def _estimate(self):
        """Iterate spectral norms; set running statistics to the batches' mean ones (Izmailov et al. 2018, 3.2).

        A function of the weights, the trained networks' spectral vectors and the batches alone.
        """
        for name, net in self.nets.items():
            net.train()
            vectors = dict(self.live[name].named_buffers())
            for key, own in net.named_buffers():
                if key.endswith(("weight_u", "weight_v")):
                    own.set_value(vectors[key])
        for conv in self._layers(Conv2D):
            for _ in range(POWER_ITERATIONS - 1):
                conv.weight_and_sigma()
        with one_power_iteration(self.nets.values()):
            self._estimate_statistics()

    def _estimate_statistics(self):
        norms = self._layers(BatchNorm)
        if not norms:
            return
        if self.batches is None:
            raise UserError(
                "ema: the averaged networks have batch norms; give Trainer the batches to estimate their statistics on"
            )
        seen = {norm: [] for norm in norms}  # the batches' moments
        for norm in norms:
            norm.record = seen[norm].append  # in place of the running statistics
        try:
            for number, batch in enumerate(self.batches(), 1):
                self._forward(batch, number)
        finally:
            for norm in norms:
                del norm.record
        for norm, moments in seen.items():
            if not moments:
                raise UserError("ema: there is no training batch to estimate batch norms' statistics on")
            unbiased = [m.var[0].numpy().astype(np.float64) * (m.count / max(m.count - 1, 1)) for m in moments]
            norm.running_mean.set_value(as_tensor(np.mean([m.mean[0].numpy() for m in moments], 0, np.float64)))
            norm.running_var.set_value(as_tensor(np.mean(unbiased, 0)))
            norm.num_batches_tracked.set_value(np.array(len(moments), np.int64))

    def _forward(self, batch, number):
        z = None
        if "n_e" in self.nets:
            mu, logvar = self.nets["n_e"](as_tensor(batch["image"]))
            noise = np.random.Generator(np.random.Philox(key=[self.opt.seed, 3], counter=[0, 0, 0, number]))
            draw = noise.standard_normal(tuple(mu.shape), dtype=np.float32)
            z = as_tensor(draw) * (0.5 * logvar).exp() + mu
        self.nets["n_g"](Semantics.from_batch(batch, self.opt), z)
