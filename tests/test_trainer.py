"""Training steps: gradients, rates, noise; what saves memory or time; mixed precision; resuming."""

import contextlib
import copy
import dataclasses

import numpy as np
import paddle
import pytest
from common import GRADIENT, PARITY, ROUNDING, close, refuses, same
from reference_cases import COLUMNS, maps, training_batch
from training_cases import arrays_of, batches, run

import model.trainer
from model.convolution import Conv2D, one_power_iteration
from model.normalization import BatchNorm
from model.ops import gradient_sum
from model.semantics import Part, Semantics, pattern_arrays
from model.trainer import Trainer, halves, micro_batches
from model.training import checkpoint
from model.weights import export_official


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

    trainer.update, trainer.sum_G.ready, trainer.sum_D.ready = keep, None, None
    return found, trainer.step(batch), trainer


def test_large_parameters_move_in_the_backward_pass_and_drop_their_gradients(opt, monkeypatch):
    monkeypatch.setattr(gradient_sum, "ALONE", 4096)
    left, ends = [], []
    for early in (True, False):
        trainer = Trainer(opt)
        if not early:
            trainer.sum_G.ready = trainer.sum_D.ready = None
        update = trainer.update

        def counted(optimizer, scaler, update=update):
            large = [p for p in optimizer._parameter_list if gradient_sum.byte_count(p) >= 4096]
            left.append(sum(p.grad is not None for p in large))
            update(optimizer, scaler)

        trainer.update = counted
        for batch in batches(opt, 2):
            trainer.step(batch)
        ends.append({f"{name} {key}": v for name, net in trainer.networks().items()
                     for key, v in export_official(net).items()})  # fmt: skip
    assert left[:4] == [0] * 4 and min(left[4:]) > 0
    same(*ends)


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
