"""Options that save memory or time or average weights: what they change, and that nothing else changes."""

import contextlib
import copy
import dataclasses
import functools

import numpy as np
import paddle
import pytest
from reference_cases import maps, training_batch

import model.trainer
from model.convolution import Conv2D, one_power_iteration
from model.errors import UserError
from model.normalization import BatchNorm
from model.semantics import Part, Semantics, pattern_arrays
from model.trainer import Trainer, micro_batches
from model.training import checkpoint
from model.training.ema import Average
from model.weights import export_official


@pytest.fixture
def opt(tiny_opt):
    return dataclasses.replace(tiny_opt, ngf=2, crop_size=32, load_size=32, z_dim=4, use_vae=True)


@pytest.fixture
def pretend_gpu(monkeypatch):
    """Mixed precision's whole path on a CPU, where Paddle's casts and scalers do nothing."""
    monkeypatch.setattr(model.trainer, "check_precision", lambda opt: None)
    inside = []

    @contextlib.contextmanager
    def auto_cast(**settings):
        assert settings == {"level": "O1", "dtype": "float16"}
        inside.append(True)
        yield
        inside.pop()

    monkeypatch.setattr(paddle.amp, "auto_cast", auto_cast)
    return inside


def with_patterns(batch, opt):
    return {**batch, **pattern_arrays(batch["label"], batch["instance"], opt)}


def batches(opt, count, size=2):
    return [with_patterns(training_batch(i, opt, size), opt) for i in range(count)]


def run(opt, steps=2, size=2):
    trainer = Trainer(opt, batches=lambda: batches(opt, 2))
    return trainer, [trainer.step(batch) for batch in batches(opt, steps, size)]


def state_of(trainer):
    return {f"{name}:{key}": array for name, net in trainer.networks().items()
            for key, array in export_official(net).items()}  # fmt: skip


def same(one, two):
    assert one.keys() == two.keys()
    for key, array in one.items():
        np.testing.assert_array_equal(array, two[key], key)


def gradients_of(opt, size, seed=0):
    """Summed gradients and losses of G's and D's half steps on one batch, and the trainer; weights do not move."""
    trainer = Trainer(opt)
    batch = with_patterns(training_batch(seed, opt, size), opt)
    found = {}

    def keep(optimizer, scaler):
        for name, net in trainer.networks().items():
            for key, p in net.named_parameters():
                if p.grad is not None:
                    found[f"{name}:{key}"] = p.grad.numpy().copy()
        optimizer.clear_grad()

    trainer.update = keep
    return found, trainer.step(batch), trainer


# ---- accumulation ----


@pytest.mark.parametrize("kernels", ["blocked", "plain"])
@pytest.mark.parametrize("modulation", ["pattern", "dense"])
def test_parts_of_a_batch_give_the_whole_batch_s_gradients(opt, kernels, modulation):
    # 5 pictures in 2 parts: shares differ. All norms are spectral, so it also says that they iterate once.
    opt = dataclasses.replace(opt, norm_G="spectralspadeinstance3x3", batchSize=5, kernels=kernels,
                              modulation=modulation)  # fmt: skip
    whole, losses, _ = gradients_of(opt, 5)
    parts, losses_of_parts, trainer = gradients_of(dataclasses.replace(opt, accumulate=2), 5)
    assert losses_of_parts == pytest.approx(losses, rel=2e-5)
    assert trainer.draws == 2
    assert whole.keys() == parts.keys()
    for name in ("n_g", "n_d", "n_e"):
        own = {key for key in whole if key.startswith(name)}
        top = max(np.abs(whole[key]).max() for key in own)
        for key in own:
            np.testing.assert_allclose(parts[key], whole[key], rtol=1e-3, atol=1e-4 * top, err_msg=key)


def test_a_step_in_parts_moves_the_weights_once(opt):
    opt = dataclasses.replace(opt, accumulate=2, batchSize=4)
    trainer, rows = run(opt, steps=1, size=4)
    start = state_of(Trainer(opt))
    moved = np.concatenate([np.abs(array - start[key]).ravel() for key, array in state_of(trainer).items()
                            if key.split(":")[1] in dict(trainer.D.named_parameters())])  # fmt: skip
    assert trainer.steps == 1 and np.isfinite(list(rows[0].values())).all()
    assert 0 < moved.max() < 4.04e-4  # Adam's first step is as long as the rate
    counts = {int(norm.num_batches_tracked) for norm in trainer.G.sublayers() if isinstance(norm, BatchNorm)}
    assert counts == {4}  # G runs twice in a step, each time in two parts


@pytest.mark.parametrize("size", [3, 5])
def test_a_part_s_neighbourhoods_are_those_of_its_maps(opt, size):
    opt = dataclasses.replace(opt, norm_G=f"spectralspadesyncbatch{size}x{size}")
    label, instance, _ = maps(3, 4, 32, 32, opt, 4)
    whole = Semantics(label, instance, opt, pattern_arrays(label, instance, opt))
    part, alone = Part(whole, 1, 3), Semantics(label[1:3], instance[1:3], opt)
    assert len(part) == 2
    np.testing.assert_array_equal(part.one_hot(16, 16).numpy(), alone.one_hot(16, 16).numpy())

    def codes(p):
        """The codes of every pixel's window of windows, whatever their numbers."""
        edges = p.edges.astype(np.int64)
        values = np.append(2 * p.labels + edges, -1)
        inner = np.concatenate([values[p.inner], np.full((1, size**2), -2)])
        return inner[p.outer][p.index]

    for side in (1, 8, 32):
        ours, theirs = part.patterns(side, side, size), alone.patterns(side, side, size)
        np.testing.assert_array_equal(codes(ours), codes(theirs))
        assert (len(ours.inner), len(ours.outer)) == (len(theirs.inner), len(theirs.outer))
        assert {a.dtype for a in (ours.inner, ours.outer, ours.index)} == {np.dtype(np.int32)}
        assert part.patterns(side, side, size) is ours


def test_parts_cover_the_batch(opt):
    batch = training_batch(0, opt, 3)
    semantics, image = Semantics(batch["label"], batch["instance"], opt), paddle.to_tensor(batch["image"].copy())
    noise = paddle.arange(6, dtype="float32").reshape([3, 2])
    parts = list(micro_batches(2, semantics, image, noise))
    assert [len(p.semantics) for p in parts] == [1, 2] and [p.fraction for p in parts] == pytest.approx([1 / 3, 2 / 3])
    np.testing.assert_array_equal(np.concatenate([p.image.numpy() for p in parts]), batch["image"])
    np.testing.assert_array_equal(np.concatenate([p.noise.numpy() for p in parts]), noise.numpy())
    assert len(list(micro_batches(7, semantics, image))) == 3  # no part without a picture
    ((only, same_image, none, share, is_last),) = micro_batches(1, semantics, image)
    assert only is semantics and same_image is image and none is None and share == 1 and is_last


def test_held_spectral_norms_are_those_of_one_pass(through):
    paddle.seed(1)
    conv, x = Conv2D(3, 5, 3, spectral=True), paddle.rand([1, 3, 6, 6])
    twin = copy.deepcopy(conv)
    expected = through(conv, x).numpy()
    with one_power_iteration([paddle.nn.Sequential(twin)]):
        for _ in range(2):
            np.testing.assert_array_equal(through(twin, x).numpy(), expected)
    np.testing.assert_array_equal(twin.weight_u.numpy(), conv.weight_u.numpy())
    assert twin.training


# ---- recomputation ----


@pytest.mark.parametrize(
    "changes",
    [
        dict(kernels="plain"),
        dict(kernels="blocked"),
        dict(kernels="plain", modulation="dense"),
        dict(kernels="plain", norm_G="spadeinstance3x3"),
        dict(kernels="plain", accumulate=2, batchSize=2),
    ],
)
def test_recomputation_changes_no_bit(opt, changes):
    opt = dataclasses.replace(opt, **changes)
    (plain, rows), (again, rows_again) = run(opt), run(dataclasses.replace(opt, recompute=True))
    assert rows == rows_again
    same(state_of(plain), state_of(again))


def test_recomputed_passes_are_replays_even_when_another_pass_came_between(opt):
    opt = dataclasses.replace(opt, kernels="plain", recompute=True)
    batch = training_batch(0, opt)
    semantics, z = Semantics(batch["label"], batch["instance"], opt), paddle.ones([2, 4])
    found = []
    for recompute in (False, True):
        G = Trainer(dataclasses.replace(opt, recompute=recompute)).G
        G.train()
        first = G(semantics, z)
        G(semantics, 2 * z)
        before = export_official(G)
        first.square().mean().backward()
        same(export_official(G), before)
        found.append({key: p.grad.numpy() for key, p in G.named_parameters()})
    same(*found)


# ---- the picture of G's step for D ----


def test_reused_fakes_are_those_of_the_generator_s_step(opt):
    opt = dataclasses.replace(opt, reuse_fake=True)
    seen = []
    trainer = Trainer(opt)
    discriminate = trainer.discriminate

    def watch(semantics, fake, real):
        seen.append((fake.numpy(), fake.stop_gradient))
        return discriminate(semantics, fake, real)

    trainer.discriminate = watch
    batch = training_batch(0, opt)
    trainer.step(batch)
    (of_G, _), (of_D, is_detached) = seen
    np.testing.assert_array_equal(of_G, of_D)
    assert is_detached and trainer.draws == 1 and not trainer.fakes
    counts = {int(norm.num_batches_tracked) for norm in trainer.G.sublayers() if isinstance(norm, BatchNorm)}
    assert counts == {1}
    trainer.discriminate = discriminate
    trainer.step(batch)
    fresh = Trainer(dataclasses.replace(opt, reuse_fake=False))
    fresh.step(batch)
    assert trainer.losses["d_loss_f"] != fresh.losses["d_loss_f"]


# ---- averaged weights ----


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
        np.testing.assert_allclose(averaged[key].numpy(), want, rtol=1e-5, atol=1e-7, err_msg=key)


def test_an_average_does_not_touch_training(opt):
    plain, rows = run(opt)
    averaged, rows_averaged = run(dataclasses.replace(opt, ema=0.9))
    averaged.preview(batches(opt, 1)[0])
    assert rows == rows_averaged and plain.draws == averaged.draws
    same(state_of(plain), state_of(averaged))


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
    np.testing.assert_allclose(first.running_mean.numpy(), np.mean([f[0] for f in found], 0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(first.running_var.numpy(), np.mean([f[1] for f in found], 0), rtol=1e-4, atol=1e-9)
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
        np.testing.assert_allclose(mean, moments.mean[0].numpy(), rtol=1e-6)
        unbiased = moments.var[0].numpy() * moments.count / (moments.count - 1)
        np.testing.assert_allclose(var, unbiased, rtol=1e-6)


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
    with pytest.raises(UserError, match="batch norms"):
        trainer.preview(training_batch(0, opt))
    trainer.average.batches = list
    with pytest.raises(UserError, match="no training batch"):
        trainer.preview(training_batch(0, opt))
    without = dataclasses.replace(opt, ema=0.9, norm_G="spectralspadeinstance3x3")
    assert Trainer(without).preview(training_batch(0, opt)).shape == [2, 3, 32, 32]


def test_networks_of_other_kinds_cannot_be_averaged(opt):
    one, other = Trainer(opt), Trainer(dataclasses.replace(opt, norm_G="spadeinstance3x3"))
    with pytest.raises(ValueError, match="n_g: the copy is another network"):
        Average({"n_g": one.G}, {"n_g": other.G}, 0.9, opt)


# ---- mixed precision ----


def test_mixed_precision_is_refused_on_a_cpu(opt):
    with pytest.raises(UserError, match="amp needs a GPU, and the device is cpu"):
        Trainer(dataclasses.replace(opt, amp=True))


def test_mixed_precision_covers_the_networks_and_not_the_rest(opt, pretend_gpu, monkeypatch):
    opt = dataclasses.replace(opt, kernels="plain", no_vgg_loss=False)
    calls = []

    def watch(name, function):
        def watched(*args, **kwargs):
            calls.append((name, bool(pretend_gpu)))
            return function(*args, **kwargs)

        return watched

    for name in ("gan_loss", "feature_matching_loss", "perceptual_loss", "kld_loss"):
        monkeypatch.setattr(model.trainer, name, watch(name, getattr(model.trainer, name)))
    vgg = watch("vgg", lambda image: [image * k for k in (1, 2, 3, 4, 5)])
    monkeypatch.setattr(Conv2D, "forward", watch("conv", Conv2D.forward))
    monkeypatch.setattr(paddle.Tensor, "backward", watch("backward", paddle.Tensor.backward))
    trainer = Trainer(dataclasses.replace(opt, amp=True), vgg)
    iterate = Conv2D.weight_and_sigma

    def sigma(conv):
        calls.append(("iteration" if conv.training and conv.spectral else "sigma", bool(pretend_gpu)))
        return iterate(conv)

    monkeypatch.setattr(Conv2D, "weight_and_sigma", sigma)
    rows = [trainer.step(training_batch(i, opt)) for i in range(2)]
    assert {name for name, inside in calls if inside} == {"vgg", "conv", "sigma"}
    assert {name for name, inside in calls if not inside} == {
        "gan_loss", "feature_matching_loss", "perceptual_loss", "kld_loss", "backward", "iteration"
    }  # fmt: skip
    monkeypatch.undo()
    plain = Trainer(opt, lambda image: [image * k for k in (1, 2, 3, 4, 5)])
    assert rows == [plain.step(training_batch(i, opt)) for i in range(2)]
    same(state_of(trainer), state_of(plain))


def test_loss_scales_are_part_of_the_state(opt, pretend_gpu):
    amp = dataclasses.replace(opt, amp=True, kernels="plain")
    trainer = Trainer(amp)
    values = [{"scale": np.array([2.0**k], np.float32), "incr_count": k} for k in (7, 9)]
    for scaler, value in zip((trainer.scaler_G, trainer.scaler_D), values, strict=True):
        scaler.state_dict = lambda value=value: value
    state = trainer.state_dict()
    again, loaded = Trainer(amp), []
    for scaler in (again.scaler_G, again.scaler_D):
        scaler.load_state_dict = loaded.append
    again.load_state_dict(state, "state.pdopt")
    assert loaded == values
    Trainer(dataclasses.replace(opt, kernels="plain")).load_state_dict(state, "state.pdopt")  # amp taken back
    assert "scalers" not in Trainer(opt).state_dict()


# ---- resuming ----


@pytest.mark.parametrize(
    "changes",
    [dict(ema=0.9), dict(accumulate=2), dict(recompute=True, kernels="plain"), dict(reuse_fake=True),
     dict(ema=0.9, accumulate=2, recompute=True, reuse_fake=True)],
)  # fmt: skip
def test_resuming_is_exact(opt, tmp_path, changes):
    opt = dataclasses.replace(opt, batchSize=2, **changes)
    source = lambda: batches(opt, 1)  # noqa: E731
    data = batches(opt, 4)
    whole = Trainer(opt, batches=source)
    for batch in data[:2]:
        whole.step(batch)
    nets = {name: {k: v.numpy() for k, v in net.state_dict().items()} for name, net in whole.saved_networks().items()}
    folder = checkpoint.save(tmp_path, nets, {"trainer": whole.state_dict()}, opt, step=2, epoch=0)
    rows = [whole.step(batch) for batch in data[2:]]

    saved = checkpoint.load(folder, opt)
    again = Trainer(opt, batches=source)
    again.load_networks(saved.nets, saved.path)
    again.load_state_dict(saved.state["trainer"], folder)
    assert [again.step(batch) for batch in data[2:]] == rows
    same(state_of(again), state_of(whole))
    for name, net in whole.saved_networks().items():
        same(export_official(again.saved_networks()[name]), export_official(net))


def test_an_average_can_begin_in_a_run_that_had_none(opt, tmp_path):
    plain, _ = run(opt)
    state = plain.state_dict()
    nets = {name: {k: v.numpy() for k, v in net.state_dict().items()} for name, net in plain.saved_networks().items()}
    assert list(nets) == ["n_g", "n_d", "n_e"] and "average" not in state
    averaged = Trainer(dataclasses.replace(opt, ema=0.9), batches=lambda: batches(opt, 1))
    averaged.load_networks(nets, tmp_path)
    averaged.load_state_dict(state, tmp_path)
    for key, p in averaged.average.nets["n_g"].named_parameters():
        np.testing.assert_array_equal(p.numpy(), nets["n_g"][key])
    with pytest.raises(UserError, match="n_d.pdparams"):
        averaged.load_networks({"n_g": nets["n_g"]}, tmp_path)
