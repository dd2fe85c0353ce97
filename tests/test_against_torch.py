"""Networks and training against the plain PyTorch baseline, for options that the reference cases leave out."""

import re

import numpy as np
import paddle
import pytest
from common import PARITY, close
from reference_cases import (
    PREFIX,
    fill,
    generate,
    gradient_norms,
    maps,
    norm,
    training,
    training_batch,
    vgg_shapes,
    weights,
)

from model.discriminator import define_D
from model.encoder import define_E
from model.generator import define_G
from model.options import OPT
from model.semantics import Semantics
from model.trainer import Trainer
from model.training.loss_log import COLUMNS
from model.vgg import VGG19
from model.weights import export_official, load_official

torch = pytest.importorskip("torch")
from benchmarks import torch_spade  # noqa: E402

# From 2x2 pixels up: a batch norm over two values is a sign, which two frameworks need not round alike.
BASE = dict(ngf=2, ndf=4, label_nc=5, crop_size=64, load_size=64, z_dim=8, use_vae=False, no_vgg_loss=True)

SLOW = pytest.mark.slow


def options(**changes):
    return OPT(**{**BASE, **changes})


# ---- the same weights on both sides ----


def aligned(name, net):
    """A name of ours in the baseline, which keeps a convolution without a norm behind it in a Sequential too."""
    names = net.state_dict()
    if name in names:
        return name
    return re.sub(r"(model\d+\.0|layer\d+)\.(?=\w+$)", r"\1.0.", name)


def pair(ours, theirs, prefix):
    """Fill both networks with the same drawn weights; the baseline must have no entry that ours lacks."""
    arrays = weights(prefix, {name: array.shape for name, array in export_official(ours).items()})
    load_official(ours, arrays)
    torch_spade.load_arrays(theirs, {aligned(name, theirs): array for name, array in arrays.items()})
    return ours, theirs


def same_gradient_norms(ours, theirs, rtol=5 * PARITY):
    want = {name: norm(p.grad) for name, p in theirs.named_parameters()}
    got, top = gradient_norms(ours), max(want.values())
    assert {aligned(name, theirs) for name in got} == set(want)
    for name, value in got.items():
        close(value, want[aligned(name, theirs)], 1e-5 * top, rtol, f"gradient of {name}")


def same_state(ours, theirs, atol=PARITY / 10, rtol=PARITY):
    want = theirs.state_dict()
    for name, array in export_official(ours).items():
        close(norm(array), norm(want[aligned(name, theirs)]), atol, rtol, name)


# ---- one network each ----


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(dict(norm_G="spectralspadesyncbatch5x5", modulation="dense"), marks=SLOW),
        dict(norm_G="spectralspadesyncbatch5x5", modulation="pattern"),
        dict(norm_G="spectralspadeinstance5x5", no_instance=True),
        dict(norm_G="spadebatch3x3"),
        dict(norm_G="spadeinstance3x3", use_vae=True),
        dict(contain_dontcare_label=False),
        dict(crop_size=96, aspect_ratio=1.5),
        dict(aspect_ratio=0.5, use_vae=True),
        dict(num_upsampling_layers="more", crop_size=128, aspect_ratio=2.0, modulation="dense"),
        pytest.param(
            dict(num_upsampling_layers="most", crop_size=256, aspect_ratio=2.0), marks=pytest.mark.slow, id="most"
        ),
        dict(output_nc=1),
    ],
    ids=lambda changes: "-".join(f"{k}={v}" for k, v in changes.items()),
)
def test_generator(changes):
    opt = options(**changes)
    n = 1 if opt.crop_size > 96 else 2
    label, instance, _ = maps(3, n, *opt.image_size, opt, 8)
    rng = np.random.default_rng(4)
    probe = rng.standard_normal((n, opt.output_nc, *opt.image_size)).astype("float32")
    z = rng.standard_normal((n, opt.z_dim)).astype("float32") if opt.use_vae else None
    ours, theirs = pair(define_G(opt), torch_spade.SPADEGenerator(opt), PREFIX["G"])
    seg, style = torch_spade.one_hot_semantics(label, instance, opt), None if z is None else torch.from_numpy(z)

    def compare(what):
        ours.eval(), theirs.eval()
        with torch.no_grad():
            close(generate(ours, label, instance, opt, z), theirs(seg, style), PARITY / 2, what=what)

    compare("eval output")
    got = training(ours)(Semantics(label, instance, opt), None if z is None else paddle.to_tensor(z))
    want = training(theirs)(seg, style)
    close(got.detach(), want.detach(), PARITY / 2, what="training output")
    (got * paddle.to_tensor(probe)).mean().backward()
    (want * torch.from_numpy(probe)).mean().backward()
    same_gradient_norms(ours, theirs)
    same_state(ours, theirs)
    compare("eval output after a training pass")


@pytest.mark.parametrize(
    "changes",
    [
        dict(norm_D="spectralbatch"),
        dict(norm_D="batch", no_instance=True),
        dict(norm_D="instance", contain_dontcare_label=False),
        dict(norm_D="spectralnone"),
        dict(norm_D="none", n_layers_D=2),
        dict(num_D=3, n_layers_D=3),
        dict(num_D=1, n_layers_D=5, ndf=40),
        dict(crop_size=96, aspect_ratio=1.5),
    ],
    ids=lambda changes: "-".join(f"{k}={v}" for k, v in changes.items()),
)
def test_discriminator(changes):
    opt = options(**changes)
    label, instance, image = maps(5, 4, *opt.image_size, opt, 8)
    ours, theirs = pair(define_D(opt), torch_spade.MultiscaleDiscriminator(opt), PREFIX["D"])
    x = torch.cat([torch_spade.one_hot_semantics(label, instance, opt), torch.from_numpy(image)], 1)
    for mode in ("eval", "train"):
        getattr(ours, mode)(), getattr(theirs, mode)()
        got, want = ours(Semantics(label, instance, opt), paddle.to_tensor(image)), theirs(x)
        assert [len(scale) for scale in got] == [opt.n_layers_D + 1] * opt.num_D
        for i, (a, b) in enumerate(zip(got, want, strict=True)):
            for j, (f, g) in enumerate(zip(a, b, strict=True)):
                close(f.detach(), g.detach(), PARITY, PARITY, f"{mode}, feature {j} of scale {i}")
    sum((scale[-1] ** 2).mean() for scale in got).backward()
    sum((scale[-1] ** 2).mean() for scale in want).backward()
    same_gradient_norms(ours, theirs)
    same_state(ours, theirs)


@pytest.mark.parametrize("norm_E", ["spectralinstance", "spectralbatch", "batch", "instance", "spectralnone", "none"])
@pytest.mark.parametrize("size", [(64, 64), (256, 256), (200, 300)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_encoder(norm_E, size):
    opt = options(norm_E=norm_E, use_vae=True)
    image = np.random.default_rng(6).uniform(-1, 1, (2, 3, size[0] // 4, size[1] // 4)).astype("float32")
    image = image.repeat(4, 2).repeat(4, 3)
    ours, theirs = pair(define_E(opt), torch_spade.ConvEncoder(opt), PREFIX["E"])
    for mode in ("eval", "train"):
        getattr(ours, mode)(), getattr(theirs, mode)()
        got, want = ours(paddle.to_tensor(image)), theirs(torch.from_numpy(image))
        for name, a, b in zip(("mu", "logvar"), got, want, strict=True):
            close(a.detach(), b.detach(), PARITY, PARITY, f"{name}, {mode}")
    (got[0] ** 2 + got[1]).sum().backward()
    (want[0] ** 2 + want[1]).sum().backward()
    same_gradient_norms(ours, theirs)
    same_state(ours, theirs)


# ---- training ----


class Pooled:
    """Stands for VGG, which takes seconds: the image at five sizes, by either framework's `functional`."""

    def __init__(self, functional):
        self.functional = functional

    def __call__(self, image):
        return [image] + [self.functional.avg_pool2d(image, side) for side in (2, 4, 8, 16)]


def train_both(opt, steps, vgg=(None, None), batch=2):
    """Run both trainers from the same weights on the same batches and style noise; returns the losses of each step.

    Adam's step is the sign of a gradient at first, so more than a few steps cannot be compared in float32: rounding has
    its say.
    """
    dtype = paddle.get_default_dtype()
    loose, state = (1e-8, (1e-8, 1e-8)) if dtype == "float64" else (1, (5e-3, 1e-3))
    ours, theirs = Trainer(opt, vgg[0]), torch_spade.TorchTrainer(opt, vgg[1])
    for name in ("G", "D", "E") if opt.use_vae else ("G", "D"):
        pair(getattr(ours, name), getattr(theirs, name), PREFIX[name])
    noise = [np.random.default_rng(7) for _ in range(2)]
    ours.sample_noise = lambda shape: paddle.to_tensor(noise[0].standard_normal(tuple(shape)).astype(dtype))
    theirs.sample_noise = lambda shape: torch.from_numpy(noise[1].standard_normal(tuple(shape)).astype(dtype))
    for net in (theirs.G, theirs.D, theirs.E):
        if net is not None:
            net.train()
    kept, rows = dict.fromkeys(COLUMNS, 0.0), []
    for step in range(steps):
        data = training_batch(20 + step, opt, batch)
        got = ours.step(data)
        seg = torch_spade.one_hot_semantics(data["label"], data["instance"], opt)
        image = torch.from_numpy(data["image"].astype(dtype))
        if step % opt.D_steps_per_G == 0:
            kept |= {name: value.item() for name, value in theirs.generator_step(seg, image).items()}
        kept |= {name: value.item() for name, value in theirs.discriminator_step(seg, image).items()}
        for name in COLUMNS:
            tolerances = loose * 2e-4 * (step + 1), loose * 1e-3 * (step + 1)
            close(got[name], kept[name], *tolerances, f"{name} of step {step + 1}")
        rows.append(got)
    for name in ("G", "D", "E") if opt.use_vae else ("G", "D"):
        same_state(getattr(ours, name), getattr(theirs, name), *state)
    return rows


@pytest.fixture
def both_float64(float64):
    """`float64`, in PyTorch too."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


SLOW_RATE = dict(no_TTUR=True, beta1=0.5, beta2=0.999)


@pytest.mark.parametrize(
    "changes",
    [
        dict(gan_mode="ls", D_steps_per_G=3, **SLOW_RATE),
        pytest.param(dict(num_D=3, n_layers_D=3, no_instance=True), marks=SLOW),
        dict(use_vae=True, norm_G="spectralspadeinstance5x5", lambda_kld=0.5),
        pytest.param(dict(gan_mode="original", D_steps_per_G=2), marks=SLOW),
        pytest.param(dict(gan_mode="w", no_ganFeat_loss=True), marks=SLOW),
        pytest.param(dict(norm_D="spectralbatch", norm_G="spadebatch3x3", contain_dontcare_label=False), marks=SLOW),
        pytest.param(dict(use_vae=True, gan_mode="ls", norm_E="spectralbatch", aspect_ratio=0.5), marks=SLOW),
    ],
    ids=lambda changes: "-".join(f"{k}={v}" for k, v in changes.items()),
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_trajectory(changes, dtype, request):
    if dtype == "float64":
        request.getfixturevalue("both_float64")
    opt = options(**changes)
    rows = train_both(opt, 4 if opt.D_steps_per_G > 1 else 3)
    assert (rows[0]["g_loss_feat"] == 0) == opt.no_ganFeat_loss
    assert (rows[0]["g_loss_vae"] > 0) == opt.use_vae
    g = [row["g_loss_gan"] for row in rows]
    assert [g[i] == g[i - 1] for i in range(1, len(g))] == [i % opt.D_steps_per_G > 0 for i in range(1, len(g))]


def test_trajectory_with_every_loss():
    opt = options(use_vae=True, no_vgg_loss=False, lambda_vgg=5.0)
    rows = train_both(opt, 2, (Pooled(paddle.nn.functional), Pooled(torch.nn.functional)))
    assert all(row["g_loss_vgg"] > 0 and row["g_loss_vae"] > 0 and row["g_loss_feat"] > 0 for row in rows)


@SLOW
def test_trajectory_with_vgg19():
    opt = options(no_vgg_loss=False)
    vgg, theirs = fill(VGG19(), "vgg.", vgg_shapes()), torch_spade.VGG19()
    torch_spade.load_arrays(theirs, weights("vgg.", vgg_shapes()))
    train_both(opt, 2, (vgg, theirs))


# ---- the baseline by itself ----


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="gan_mode 'x'"):
        torch_spade.gan_loss([[None]], True, "x")
    with pytest.raises(ValueError, match="norm 'layer'"):
        torch_spade.normalised_conv("layer", 1, 1, 3)


def test_the_discriminator_step_leaves_no_gradient_in_the_generator():
    trainer, data = torch_spade.TorchTrainer(options()), training_batch(0, options())
    seg = torch_spade.one_hot_semantics(data["label"], data["instance"], trainer.opt)
    trainer.discriminator_step(seg, torch.from_numpy(data["image"]))
    assert all(p.grad is None for p in trainer.G.parameters())
    assert any(p.grad.abs().sum() > 0 for p in trainer.D.parameters())


def test_weights_load_strictly():
    net = torch_spade.NLayerDiscriminator(options())
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    arrays.popitem()
    with pytest.raises(RuntimeError, match="Missing key"):
        torch_spade.load_arrays(net, arrays)
