"""Averaged weights: their closed form, their statistics, what is shown of them, and what they leave alone."""

import dataclasses
import functools

import numpy as np
import paddle
import pytest
from common import GRADIENT, ROUNDING, close, refuses, same
from reference_cases import training_batch
from training_cases import arrays_of, batches, run

from model.convolution import Conv2D, one_power_iteration
from model.normalization import BatchNorm
from model.semantics import Semantics
from model.trainer import Trainer


def test_the_average_s_closed_form(opt):
    trainer = Trainer(dataclasses.replace(opt, ema=0.2), batches=lambda: batches(opt, 1))
    weights = [{key: p.numpy().copy() for key, p in trainer.G.named_parameters()}]
    for batch in batches(opt, 3):
        trainer.step(batch)
        weights.append({key: p.numpy().copy() for key, p in trainer.G.named_parameters()})
    # 2/11 in the first update, then 0.2: the smaller of the two counts
    factors = [2 / 11, 0.2, 0.2]
    shares = [np.prod(factors)] + [(1 - factors[i]) * np.prod(factors[i + 1 :]) for i in range(3)]
    assert sum(shares) == pytest.approx(1)
    averaged = dict(trainer.average.nets["n_g"].named_parameters())
    for key in weights[0]:
        want = sum(share * w[key].astype(np.float64) for share, w in zip(shares, weights, strict=True))
        close(averaged[key], want, ROUNDING / 100, ROUNDING, key)


def test_an_average_does_not_touch_training(opt):
    plain, rows = run(opt)
    averaged, rows_averaged = run(dataclasses.replace(opt, ema=0.9))
    averaged.preview(batches(opt, 1)[0])
    assert rows == rows_averaged and plain.draws == averaged.draws
    same(arrays_of(plain), {name: arrays_of(averaged)[name] for name in plain.networks()})


@pytest.mark.parametrize("kernels", ["blocked", "plain"])
def test_statistics_of_averaged_weights_are_the_mean_of_the_batches(opt, kernels):
    opt = dataclasses.replace(opt, ema=0.5, kernels=kernels, use_vae=False)
    trainer, _ = run(opt)
    G = trainer.average.networks()["n_g"]
    first = G.head_0.norm_0.param_free_norm
    found = []
    G.train()  # what enters head_0's first norm: the start of each batch
    with paddle.no_grad(), one_power_iteration([G]):
        for batch in batches(opt, 2):
            x = G.start(Semantics.from_batch(batch, opt), None).numpy().astype(np.float64)
            x = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
            found.append((x.mean(1), x.var(1, ddof=1)))
    close(first.running_mean, np.mean([f[0] for f in found], 0), ROUNDING / 100, GRADIENT)
    close(first.running_var, np.mean([f[1] for f in found], 0), 0, GRADIENT)
    assert int(first.num_batches_tracked) == 2
    live = trainer.G.head_0.norm_0.param_free_norm
    assert (live.running_mean.numpy() != first.running_mean.numpy()).any()


def test_every_norm_s_statistics_fit_the_averaged_weights(opt):
    # On one batch, a pass with running statistics is the training pass but for the unbiased variance.
    opt = dataclasses.replace(opt, ema=0.5, use_vae=False, norm_G="spectralspadesyncbatch3x3", crop_size=64)
    (batch,) = batches(opt, 1, size=4)
    trainer = Trainer(opt, batches=lambda: [batch])
    trainer.step(batch)
    G = trainer.average.networks()["n_g"]
    norms = [n for n in G.sublayers() if isinstance(n, BatchNorm)]
    kept = [(norm.running_mean.numpy(), norm.running_var.numpy()) for norm in norms]
    seen = {}
    for norm in norms:
        norm.record = functools.partial(seen.__setitem__, norm)
        norm.training = True  # and spectral norms hold still
    with paddle.no_grad():
        G(Semantics.from_batch(batch, opt))
    for norm, (mean, var) in zip(norms, kept, strict=True):
        moments = seen[norm]
        close(mean, moments.mean[0], 0, ROUNDING)
        unbiased = moments.var[0].numpy() * moments.count / (moments.count - 1)
        close(var, unbiased, 0, ROUNDING)


def test_spectral_vectors_of_the_average_belong_to_its_weights(opt):
    trainer, _ = run(dataclasses.replace(opt, ema=0.9, init_type="normal", init_variance=0.5))
    G = trainer.average.networks()["n_g"]
    for conv in (c for c in G.sublayers() if isinstance(c, Conv2D) and c.spectral):
        largest = np.linalg.svd(conv.weight_orig.flatten(1).numpy(), compute_uv=False)[0]
        assert 0.9 * largest < float(conv.weight_and_sigma()[1]) < 1.0001 * largest


def test_previews_are_the_averaged_generator_s(opt):
    trainer, _ = run(dataclasses.replace(opt, ema=0.9))
    batch = batches(opt, 1)[0]
    nets = trainer.saved_networks()
    assert list(nets) == ["n_g", "n_d", "n_e", "n_g_ema", "n_e_ema"]
    assert not nets["n_g_ema"].training
    with paddle.no_grad():
        z = nets["n_e_ema"](paddle.to_tensor(np.ascontiguousarray(batch["image"])))[0]
        want = nets["n_g_ema"](Semantics.from_batch(batch, opt), z).numpy()
    np.testing.assert_array_equal(trainer.preview(batch).numpy(), want)
    trainer.average = None
    assert np.abs(trainer.preview(batch).numpy() - want).max() > 0


def test_statistics_need_batches(opt):
    trainer = Trainer(dataclasses.replace(opt, ema=0.9))
    refuses("batch norms", trainer.preview, training_batch(0, opt))
    trainer.average.batches = list
    refuses("no training batch", trainer.preview, training_batch(0, opt))
    without = dataclasses.replace(opt, ema=0.9, norm_G="spectralspadeinstance3x3")
    assert Trainer(without).preview(training_batch(0, opt)).shape == [2, 3, 32, 32]


def test_an_average_can_begin_in_a_run_that_had_none(opt, tmp_path):
    plain, _ = run(opt)
    state = plain.state_dict()
    nets = arrays_of(plain)
    assert list(nets) == ["n_g", "n_d", "n_e"] and "average" not in state
    averaged = Trainer(dataclasses.replace(opt, ema=0.9), batches=lambda: batches(opt, 1))
    averaged.load_networks(nets, tmp_path)
    averaged.load_state_dict(state, tmp_path)
    for key, p in averaged.average.nets["n_g"].named_parameters():
        np.testing.assert_array_equal(p.numpy(), nets["n_g"][key])
    refuses("n_d.pdparams", averaged.load_networks, {"n_g": nets["n_g"]}, tmp_path)
