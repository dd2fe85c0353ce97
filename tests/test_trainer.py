"""One training step: who gets gradients, learning rates, style noise, determinism."""

import dataclasses
from pathlib import Path

import numpy as np
import paddle
import pytest
from reference_cases import COLUMNS, fill, training_batch, vgg_shapes

from model.discriminator import define_D
from model.encoder import define_E
from model.errors import UserError
from model.generator import define_G
from model.semantics import Semantics
from model.serving.painter import Painter
from model.trainer import Trainer, halves
from model.training import checkpoint
from model.vgg import VGG19
from model.weights import export_official, load_official
from model.weights.files import read_network


@pytest.fixture
def opt(tiny_opt):
    return dataclasses.replace(tiny_opt, ngf=2, crop_size=32, z_dim=4, use_vae=True)


def changed(net, before):
    """Names of a network's parameters that differ from an earlier export."""
    now = export_official(net)
    return {name for name, _ in net.named_parameters() if (now[name] != before[name]).any()}


def gradients(net):
    return [name for name, p in net.named_parameters() if p.grad is not None and bool((p.grad != 0).any())]


def run(opt, steps, vgg=None):
    trainer = Trainer(opt, vgg)
    return trainer, [trainer.step(training_batch(i, opt)) for i in range(steps)]


def as_vgg(image):
    return [image * k for k in (1, 2, 3, 4, 5)]


def test_losses_have_the_seven_names_and_add_up(opt):
    opt = dataclasses.replace(opt, no_vgg_loss=False)
    trainer, (losses, _) = run(opt, 2, as_vgg)
    assert tuple(losses) == COLUMNS
    assert all(isinstance(v, float) and np.isfinite(v) for v in losses.values())
    assert losses["d_loss"] == pytest.approx(losses["d_loss_f"] + losses["d_loss_r"], rel=1e-6)
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
        assert ten[name] == pytest.approx(factor * one[name], rel=1e-5), name


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


def test_d_s_weights_can_be_trained_after_the_generator_s_step(opt):
    trainer, _ = run(opt, 2)
    assert not any(p.stop_gradient for net in trainer.networks().values() for p in net.parameters())


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
    ],
)
def test_learning_rates(opt, changes, rates):
    trainer = Trainer(dataclasses.replace(opt, **changes))
    assert (trainer.optimizer_G.get_lr(), trainer.optimizer_D.get_lr()) == pytest.approx(rates)


def test_linear_decay_after_niter(opt):
    trainer = Trainer(dataclasses.replace(opt, lr=2e-4, niter=2, niter_decay=4))
    got = []
    for epoch in range(1, 7):
        trainer.set_epoch(epoch)
        got.append((trainer.optimizer_G.get_lr(), trainer.optimizer_D.get_lr()))
    factors = [1, 1, 1, 0.75, 0.5, 0.25]
    np.testing.assert_allclose(got, [(1e-4 * f, 4e-4 * f) for f in factors], rtol=1e-6)


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
    with pytest.raises(UserError, match="no_vgg_loss"):
        Trainer(dataclasses.replace(opt, no_vgg_loss=False))


def test_halves_split_fakes_from_photos():
    fake, real = halves([[paddle.arange(6).reshape([6, 1])]])
    assert fake[0][0].flatten().tolist() == [0, 1, 2] and real[0][0].flatten().tolist() == [3, 4, 5]


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
    batches = [training_batch(i, opt) for i in range(2)]
    for batch in batches:
        batch["image"] = batch["image"][:, : opt.output_nc]
    losses = [trainer.step(batch) for batch in batches]
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
    assert losses[0] == pytest.approx(plain_losses[0], rel=1e-4, abs=1e-5)
    assert set(plain) == set(gradients)
    for net in trainer.networks():
        keys = [key for key in gradients if key.startswith(net)]
        want, got = (np.concatenate([array[key].ravel() for key in keys]) for array in (gradients, plain))
        assert np.linalg.norm(got - want) < 0.01 * np.linalg.norm(want), net  # a leaky ReLU's kink is worth as much


def test_a_float64_training_goes_on_from_what_it_saved(opt, float64):
    """From float64's state to the last bit, from float32's too; reading a file of weights keeps float64's numbers."""
    opt = dataclasses.replace(opt, ema=0.9, beta1=0.5)
    batches = [training_batch(i, opt) for i in range(2)]

    def start():
        return Trainer(opt, batches=lambda: batches)

    def go_on(state, arrays):
        trainer = start()
        trainer.load_networks(arrays, Path("there"))
        trainer.load_state_dict(state, "there")
        return trainer.step(batches[1]), {name: export_official(net) for name, net in trainer.saved_networks().items()}

    first = start()
    first.step(batches[0])
    state = first.state_dict()
    arrays = {
        k: {n: v.numpy().copy() for n, v in net.state_dict().items()} for k, net in first.saved_networks().items()
    }
    want = first.step(batches[1]), {name: export_official(net) for name, net in first.saved_networks().items()}
    got = go_on(state, arrays)
    assert got[0] == want[0]
    for name, net in want[1].items():
        for key, value in net.items():
            np.testing.assert_array_equal(got[1][name][key], value, err_msg=f"{name} {key}")

    def rounded(values):
        return {k: v.astype(np.float32) if getattr(v, "dtype", None) == np.float64 else v for k, v in values.items()}

    for name in ("optimizer_G", "optimizer_D"):
        state[name] = rounded(state[name])
    near, _ = go_on(state, {name: rounded(net) for name, net in arrays.items()})
    assert near != want[0] and near == pytest.approx(want[0], rel=1e-4)


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
    with pytest.raises(UserError, match=r"^kernels blocked .* float64: give kernels auto$"):
        make(dataclasses.replace(opt, kernels="blocked"))
    make(dataclasses.replace(opt, kernels="plain"))
