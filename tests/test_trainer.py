"""Training steps: gradients, rates, noise; what saves memory or time or averages weights; resuming; float64."""

import contextlib
import copy
import dataclasses
import functools
from pathlib import Path

import numpy as np
import paddle
import pytest
from common import GRADIENT, PARITY, ROUNDING, close, refuses, same
from reference_cases import COLUMNS, fill, maps, training_batch, vgg_shapes

import model.trainer
from model.convolution import Conv2D, one_power_iteration
from model.discriminator import define_D
from model.encoder import define_E
from model.generator import define_G
from model.normalization import BatchNorm
from model.semantics import Part, Semantics, pattern_arrays
from model.serving.painter import Painter
from model.trainer import Trainer, halves, micro_batches
from model.training import checkpoint
from model.vgg import VGG19
from model.weights import export_official, load_official
from model.weights.files import read_network


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


def changed(net, before):
    """Names of a network's parameters that differ from an earlier export."""
    now = export_official(net)
    return {name for name, _ in net.named_parameters() if (now[name] != before[name]).any()}


def gradients(net):
    return [name for name, p in net.named_parameters() if p.grad is not None and bool((p.grad != 0).any())]


def batches(opt, count, size=2):
    """Batches as the loader makes them, with the neighbourhoods of their maps."""
    found = (training_batch(i, opt, size) for i in range(count))
    return [{**batch, **pattern_arrays(batch["label"], batch["instance"], opt)} for batch in found]


def run(opt, steps=2, vgg=None, size=2):
    trainer = Trainer(opt, vgg, lambda: batches(opt, 2))
    return trainer, [trainer.step(batch) for batch in batches(opt, steps, size)]


def arrays_of(trainer):
    """{network: {name: array}} of what a checkpoint holds."""
    nets = trainer.saved_networks().items()
    return {name: {key: v.numpy().copy() for key, v in net.state_dict().items()} for name, net in nets}


def as_vgg(image):
    return [image * k for k in (1, 2, 3, 4, 5)]


def test_losses_have_the_seven_names_and_add_up(opt):
    opt = dataclasses.replace(opt, no_vgg_loss=False)
    trainer, (losses, _) = run(opt, 2, as_vgg)
    assert tuple(losses) == COLUMNS
    assert all(isinstance(v, float) and np.isfinite(v) for v in losses.values())
    assert losses["d_loss"] == pytest.approx(losses["d_loss_f"] + losses["d_loss_r"], rel=ROUNDING)
    assert all(losses[k] != 0 for k in COLUMNS) and trainer.steps == 2


@pytest.mark.parametrize(
    "changes, absent",
    [
        (dict(use_vae=False), {"g_loss_vgg", "g_loss_vae"}),
        (dict(no_ganFeat_loss=True), {"g_loss_vgg", "g_loss_feat"}),
        (dict(), {"g_loss_vgg"}),
    ],
)
def test_losses_that_are_off_are_zero(opt, changes, absent):
    trainer, (losses,) = run(dataclasses.replace(opt, **changes), 1)
    assert {k for k, v in losses.items() if v == 0} == absent
    assert (trainer.E is None) == (not trainer.opt.use_vae)
    assert set(trainer.networks()) == ({"n_g", "n_d", "n_e"} if trainer.opt.use_vae else {"n_g", "n_d"})


def test_lambdas_multiply_the_losses(opt):
    opt = dataclasses.replace(opt, no_vgg_loss=False)
    _, (one,) = run(dataclasses.replace(opt, lambda_feat=1.0, lambda_vgg=1.0, lambda_kld=1.0), 1, as_vgg)
    _, (ten,) = run(dataclasses.replace(opt, lambda_feat=3.0, lambda_vgg=4.0, lambda_kld=5.0), 1, as_vgg)
    for name, factor in (("g_loss_feat", 3), ("g_loss_vgg", 4), ("g_loss_vae", 5), ("g_loss_gan", 1)):
        assert ten[name] == pytest.approx(factor * one[name], rel=ROUNDING), name


def test_a_step_moves_every_network_and_leaves_no_gradient(opt):
    # Not hinge, whose gradients of the last bias cancel between fakes and photos while predictions are near 0.
    trainer = Trainer(dataclasses.replace(opt, gan_mode="ls"))
    before = {name: export_official(net) for name, net in trainer.networks().items()}
    trainer.step(training_batch(0, opt))
    for name, net in trainer.networks().items():
        still = {key for key, _ in net.named_parameters()} - changed(net, before[name])
        assert not still, f"{name}: {still}"
        assert not gradients(net), name


def test_each_half_step_moves_its_own_networks_only(opt):
    trainer = Trainer(opt)
    for net in trainer.networks().values():
        net.train()
    batch = training_batch(0, opt)
    semantics = Semantics(batch["label"], batch["instance"], opt)
    image = paddle.to_tensor(np.ascontiguousarray(batch["image"]))

    before = {name: export_official(net) for name, net in trainer.networks().items()}
    trainer.step_G(semantics, image)
    assert changed(trainer.G, before["n_g"]) and changed(trainer.E, before["n_e"])
    assert not changed(trainer.D, before["n_d"])
    assert not gradients(trainer.D), "the generator's step leaves gradients of D's weights"

    before = {name: export_official(net) for name, net in trainer.networks().items()}
    trainer.step_D(semantics, image)
    assert changed(trainer.D, before["n_d"])
    assert not changed(trainer.G, before["n_g"]) and not changed(trainer.E, before["n_e"])
    assert not gradients(trainer.G) and not gradients(trainer.E)
    moved = export_official(trainer.G)
    assert any((moved[k] != v).any() for k, v in before["n_g"].items() if "weight_u" in k)  # it ran in training mode


def test_generator_waits_with_several_discriminator_steps(opt):
    opt = dataclasses.replace(opt, D_steps_per_G=3)
    trainer, rows, weights = Trainer(opt), [], []
    for i in range(5):
        weights.append(export_official(trainer.G))
        rows.append(trainer.step(training_batch(i, opt)))
    moved = [any((weights[i + 1][k] != weights[i][k]).any() for k, _ in trainer.G.named_parameters()) for i in range(4)]
    assert moved == [True, False, False, True]
    for name in ("g_loss_gan", "g_loss_feat", "g_loss_vae"):
        values = [row[name] for row in rows]
        assert values[0] == values[1] == values[2] != values[3] == values[4], name
    assert len({row["d_loss"] for row in rows}) == 5


# ---- learning rates ----


@pytest.mark.parametrize(
    "changes, rates",
    [
        (dict(lr=2e-4), (1e-4, 4e-4)),
        (dict(lr=2e-4, no_TTUR=True), (2e-4, 2e-4)),
        (dict(lr=2e-4, G_lr=5e-5), (5e-5, 4e-4)),
        (dict(lr=1e-3, G_lr=1e-5, D_lr=2e-5), (1e-5, 2e-5)),
        (dict(lr=2e-4, D_lr=1.0, no_TTUR=True), (2e-4, 1.0)),
    ],
)
def test_learning_rates(opt, changes, rates):
    trainer = Trainer(dataclasses.replace(opt, **changes))
    assert (trainer.optimizer_G.get_lr(), trainer.optimizer_D.get_lr()) == pytest.approx(rates)


def test_the_first_adam_step_is_as_long_as_the_rate(opt):
    # Bias correction makes Adam's first step lr * sign(g), wherever g is far above epsilon.
    trainer = Trainer(opt)
    before = export_official(trainer.D)
    trainer.step(training_batch(0, opt))
    after = export_official(trainer.D)
    moved = np.concatenate([np.abs(after[k] - before[k]).ravel() for k, _ in trainer.D.named_parameters()])
    assert np.median(moved) == pytest.approx(4e-4, rel=1e-2) and moved.max() < 4.04e-4


# ---- randomness ----


def test_same_seed_same_losses_bit_for_bit(opt):
    first, second = run(opt, 3)[1], run(opt, 3)[1]
    assert first == second
    assert run(dataclasses.replace(opt, seed=1), 1)[1][0] != first[0]


def test_losses_do_not_depend_on_paddle_s_own_random_state(opt):
    trainer = Trainer(opt)
    paddle.seed(77)
    np.random.seed(77)
    assert trainer.step(training_batch(0, opt)) == run(opt, 1)[1][0]


def test_noise_is_standard_normal_and_follows_from_seed_and_count(opt):
    trainer, again = Trainer(opt), Trainer(opt)
    draws = [trainer.sample_noise([64, 200]).numpy() for _ in range(3)]
    noise = np.stack(draws)
    assert noise.dtype == np.float32 and abs(noise.mean()) < 0.02 and noise.std() == pytest.approx(1, abs=0.02)
    rows = noise.reshape(-1, 200)
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.5  # no row comes twice
    again.draws = 2
    np.testing.assert_array_equal(again.sample_noise([64, 200]).numpy(), draws[2])
    other = Trainer(dataclasses.replace(opt, seed=1)).sample_noise([64, 200]).numpy()
    assert abs(np.corrcoef(other.ravel(), draws[0].ravel())[0, 1]) < 0.05


def test_noise_of_a_sample_does_not_depend_on_the_batch_s_size(opt):
    large, small = Trainer(opt).sample_noise([4, 8]).numpy(), Trainer(opt).sample_noise([2, 8]).numpy()
    np.testing.assert_array_equal(large[:2], small)
    np.testing.assert_array_equal(large[:, :5], Trainer(opt).sample_noise([4, 5]).numpy())


def test_initial_weights_follow_from_the_seed(opt):
    first, second = Trainer(opt), Trainer(opt)
    other = Trainer(dataclasses.replace(opt, seed=1))
    for name, net in first.networks().items():
        arrays = export_official(net)
        assert all((v == export_official(second.networks()[name])[k]).all() for k, v in arrays.items()), name
        assert changed(other.networks()[name], arrays), name


# ---- what is refused ----


def test_vgg_is_asked_for(opt):
    refuses("no_vgg_loss", Trainer, dataclasses.replace(opt, no_vgg_loss=False))


def test_halves_split_fakes_from_photos():
    fake, real = halves([[paddle.arange(6).reshape([6, 1])]])
    assert fake[0][0].flatten().tolist() == [0, 1, 2] and real[0][0].flatten().tolist() == [3, 4, 5]


def gradients_of(opt, size):
    """Summed gradients and losses of G's and D's half steps on one batch, and the trainer; weights do not move."""
    trainer = Trainer(opt)
    batch = batches(opt, 1, size)[0]
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
    assert losses_of_parts == pytest.approx(losses, rel=2 * ROUNDING)
    assert trainer.draws == 2
    assert whole.keys() == parts.keys()
    for name in ("n_g", "n_d", "n_e"):
        own = {key for key in whole if key.startswith(name)}
        top = max(np.abs(whole[key]).max() for key in own)
        for key in own:
            close(parts[key], whole[key], GRADIENT * top, PARITY, key)


def test_a_step_in_parts_moves_the_weights_once(opt):
    opt = dataclasses.replace(opt, accumulate=2, batchSize=4)
    trainer, rows = run(opt, 1, size=4)
    start = arrays_of(Trainer(opt))
    moved = np.concatenate([np.abs(arrays_of(trainer)["n_d"][key] - start["n_d"][key]).ravel()
                            for key, _ in trainer.D.named_parameters()])  # fmt: skip
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
    same(arrays_of(plain), arrays_of(again))


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


# ---- mixed precision ----


def test_mixed_precision_is_refused_on_a_cpu(opt):
    refuses("amp needs a GPU, and the device is cpu", Trainer, dataclasses.replace(opt, amp=True))


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
    vgg = watch("vgg", as_vgg)
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
    plain = Trainer(opt, as_vgg)
    assert rows == [plain.step(training_batch(i, opt)) for i in range(2)]
    same(arrays_of(trainer), arrays_of(plain))


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
    nets = arrays_of(whole)
    folder = checkpoint.save(tmp_path, nets, {"trainer": whole.state_dict()}, opt, step=2, epoch=0)
    rows = [whole.step(batch) for batch in data[2:]]

    saved = checkpoint.load(folder, opt)
    again = Trainer(opt, batches=source)
    again.load_networks(saved.nets, saved.path)
    again.load_state_dict(saved.state["trainer"], folder)
    assert [again.step(batch) for batch in data[2:]] == rows
    same(arrays_of(again), arrays_of(whole))


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


# ---- float64 ----

KINDS = [
    dict(gan_mode="hinge", norm_E="spectralinstance"),
    dict(
        gan_mode="ls", norm_G="spectralspadebatch3x3", norm_D="spectralbatch", norm_E="spectralbatch", reuse_fake=True
    ),
    dict(gan_mode="original", norm_G="spadeinstance5x5", norm_D="spectralnone", norm_E="none", init_type="orthogonal"),
    dict(gan_mode="w", accumulate=2, num_D=3, n_layers_D=3, ema=0.9, norm_D="batch", norm_E="syncbatch"),
    dict(use_vae=False, no_instance=True, no_ganFeat_loss=True, D_steps_per_G=2, recompute=True, num_D=1),
    dict(modulation="dense", contain_dontcare_label=False, accumulate=2, recompute=True, init_type="kaiming"),
    dict(num_upsampling_layers="more", crop_size=128, aspect_ratio=2.0, ema=0.5, no_TTUR=True, init_type="none"),
    dict(use_vae=False, output_nc=1, init_type="xavier_uniform", norm_G="spectralspadesyncbatch5x5"),
]


def watched_step(opt, start=None, vgg=None):
    """A trainer's two steps, from given arrays of its networks if any: trainer, losses, and gradients by name.

    Of the losses each tensor before it becomes a number is kept, too.
    """
    trainer = Trainer(opt, vgg, lambda: [training_batch(9, opt)])
    for name, net in trainer.networks().items() if start else ():
        load_official(net, start[name])
    begin = {name: export_official(net) for name, net in trainer.networks().items()}
    gradients, tensors, accumulate = {}, [], trainer.accumulate

    def watch(optimizer):
        move = optimizer.step

        def watched():
            for name, net in trainer.networks().items():
                for key, p in net.named_parameters():
                    if p.grad is not None:
                        gradients.setdefault(f"{name} {key}", p.grad.numpy())  # of the first step
            move()

        optimizer.step = watched

    def noted(losses, *rest):
        tensors.extend(losses.values())
        accumulate(losses, *rest)

    watch(trainer.optimizer_G)
    watch(trainer.optimizer_D)
    trainer.accumulate = noted
    data = [training_batch(i, opt) for i in range(2)]
    for batch in data:
        batch["image"] = batch["image"][:, : opt.output_nc]
    losses = [trainer.step(batch) for batch in data]
    return trainer, begin, losses, gradients, tensors


@pytest.mark.parametrize("changes", KINDS, ids=lambda changes: "-".join(f"{k}={v}" for k, v in changes.items()))
def test_everything_is_float64(opt, changes, float64):
    """After set_default_dtype: every number, from batches and noise in float32; and they are float32's to rounding."""
    opt = dataclasses.replace(opt, **{"crop_size": 64, "init_type": "kaiming", **changes})
    trainer, begin, losses, gradients, tensors = watched_step(opt)
    assert {str(t.dtype) for t in tensors} == {"paddle.float64"}
    assert {str(array.dtype) for array in gradients.values()} == {"float64"}
    trained = [f"{name} {key}" for name, net in trainer.networks().items() for key, _ in net.named_parameters()]
    assert sorted(gradients) == sorted(trained)
    arrays = list(gradients.values()) + [np.array(list(row.values())) for row in losses]
    trainer.preview(training_batch(5, opt))  # makes the averages' statistics
    for net in trainer.saved_networks().values():
        arrays += [value for key, value in export_official(net).items() if not key.endswith("num_batches_tracked")]
    state = trainer.state_dict()
    for name in ("optimizer_G", "optimizer_D"):
        moments = [value for key, value in state[name].items() if ":" in key]
        assert moments
        arrays += moments
    assert {array.dtype for array in arrays} == {np.dtype(np.float64)} and all(np.isfinite(a).all() for a in arrays)
    assert trainer.preview(training_batch(5, opt)).dtype == paddle.float64
    assert not opt.use_vae or trainer.sample_noise([2, opt.z_dim]).dtype == paddle.float64

    paddle.set_default_dtype("float32")
    _, _, plain_losses, plain, _ = watched_step(dataclasses.replace(opt, kernels="plain"), begin)
    assert {str(array.dtype) for array in plain.values()} == {"float32"}
    assert losses[0] == pytest.approx(plain_losses[0], rel=GRADIENT, abs=ROUNDING)
    assert set(plain) == set(gradients)
    for net in trainer.networks():
        keys = [key for key in gradients if key.startswith(net)]
        want, got = (np.concatenate([array[key].ravel() for key in keys]) for array in (gradients, plain))
        assert np.linalg.norm(got - want) < 0.01 * np.linalg.norm(want), net  # a leaky ReLU's kink is worth as much


def test_a_float64_training_goes_on_from_what_it_saved(opt, float64):
    """From float64's state to the last bit, from float32's too; reading a file of weights keeps float64's numbers."""
    opt = dataclasses.replace(opt, ema=0.9, beta1=0.5)
    data = [training_batch(i, opt) for i in range(2)]

    def start():
        return Trainer(opt, batches=lambda: data)

    def go_on(state, arrays):
        trainer = start()
        trainer.load_networks(arrays, Path("there"))
        trainer.load_state_dict(state, "there")
        return trainer.step(data[1]), arrays_of(trainer)

    first = start()
    first.step(data[0])
    state = first.state_dict()
    arrays = arrays_of(first)
    want = first.step(data[1]), arrays_of(first)
    losses, networks = go_on(state, arrays)
    assert losses == want[0]
    same(networks, want[1])

    def rounded(values):
        return {k: v.astype(np.float32) if getattr(v, "dtype", None) == np.float64 else v for k, v in values.items()}

    for name in ("optimizer_G", "optimizer_D"):
        state[name] = rounded(state[name])
    near, _ = go_on(state, {name: rounded(net) for name, net in arrays.items()})
    assert near != want[0] and near == pytest.approx(want[0], rel=GRADIENT)


def test_vgg_and_pictures_in_float64(opt, float64, tmp_path):
    vgg = fill(VGG19(), "vgg.", vgg_shapes())
    trainer, *_, tensors = watched_step(dataclasses.replace(opt, no_vgg_loss=False), vgg=vgg)
    assert len(tensors) == 2 * 6 and {str(t.dtype) for t in tensors} == {"paddle.float64"}
    assert {str(p.dtype) for p in vgg.parameters()} == {"paddle.float64"}
    batch = training_batch(0, opt)
    engine = Painter(opt, trainer.G, trainer.E, tmp_path / "n_g.pdparams", 0)
    picture = trainer.preview(batch).numpy()  # in evaluation mode
    style = engine.encode(batch["image"])
    assert style.dtype == np.float64
    np.testing.assert_array_equal(engine.paint(batch, style), picture)
    assert engine.paint(batch, style.astype(np.float32)).dtype == np.float64  # as styles are drawn
    checkpoint.write_state(tmp_path / "n_g.pdparams", trainer.G.state_dict())
    read, _ = read_network(tmp_path / "n_g.pdparams")
    for name, value in export_official(trainer.G).items():
        np.testing.assert_array_equal(read.weights[name], value, err_msg=name)


@pytest.mark.parametrize("make", [define_G, define_D, define_E, Trainer, lambda opt: VGG19(opt.kernels)])
def test_blocked_kernels_are_refused_in_float64(opt, make, float64):
    refuses(r"^kernels blocked .* float64: give kernels auto$", make, dataclasses.replace(opt, kernels="blocked"))
    make(dataclasses.replace(opt, kernels="plain"))
