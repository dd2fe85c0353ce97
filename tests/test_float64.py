"""Training, saving and painting in float64, after Paddle's default dtype is set."""

import dataclasses
from pathlib import Path

import numpy as np
import paddle
import pytest
from common import GRADIENT, ROUNDING, refuses, same
from reference_cases import filled_vgg, training_batch
from training_cases import arrays_of

from model.discriminator import define_D
from model.encoder import define_E
from model.generator import define_G
from model.serving.painter import Painter
from model.trainer import Trainer
from model.training import checkpoint
from model.vgg import VGG19
from model.weights import export_official, load_official
from model.weights.files import read_network

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

    trainer.sum_G.ready = trainer.sum_D.ready = None  # gradients wait for the step

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
    vgg = filled_vgg()
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
