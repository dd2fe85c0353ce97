"""The numbers of the paper authors' networks: generators, encoder, discriminator, VGG and a training run.

Both forms of the modulation and both kinds of convolution kernels are held to the same tolerances.
"""

import numpy as np
import paddle
import pytest
from common import PARITY, close
from reference_cases import (
    COLUMNS,
    PREFIX,
    case,
    evaluating,
    fill,
    filled_vgg,
    generate,
    maps,
    norm,
    same_gradients,
    thin,
    training,
    training_batch,
)

from model.discriminator import define_D
from model.encoder import define_E
from model.generator import define_G
from model.loss import feature_matching_loss, gan_loss, kld_loss, perceptual_loss
from model.semantics import Semantics
from model.trainer import Trainer
from model.weights import export_official

FORMS = pytest.mark.parametrize(
    "form",
    [
        pytest.param({"modulation": "pattern", "kernels": "blocked"}, id="pattern-blocked"),
        pytest.param({"modulation": "pattern", "kernels": "plain"}, id="pattern-plain"),
        pytest.param({"modulation": "dense", "kernels": "plain"}, id="dense-plain"),
    ],
)


@FORMS
@pytest.mark.parametrize("name", ["generator_batch", "generator_instance_vae", "generator_more_no_instance"])
def test_generator(name, form):
    ref = case(name, **form)
    opt, meta = ref.opt, ref.meta
    label, instance, _ = maps(meta["seed"], meta["batch"], *opt.image_size, opt, meta["cell"])
    rng = np.random.default_rng(meta["seed"] + 1000)
    z = rng.standard_normal((meta["batch"], opt.z_dim)).astype("float32") if opt.use_vae else None
    probe = rng.standard_normal((meta["batch"], 3, *opt.image_size)).astype("float32")

    net = evaluating(fill(define_G(opt), PREFIX["G"], meta["state"]["netG"]))
    close(thin(generate(net, label, instance, opt, z)), ref.out_eval, PARITY / 2, what="eval output")
    net.train()
    out = net(Semantics(label, instance, opt), None if z is None else paddle.to_tensor(z))
    close(thin(out.numpy()), ref.out_train, PARITY / 2, what="training output")
    (out * paddle.to_tensor(probe)).mean().backward()
    same_gradients(net, meta["grad_norms"])
    state = export_official(net)
    for key, value in meta["buffer_norms"].items():
        close(norm(state[key]), value, PARITY / 10, PARITY, f"{key} after a training pass")
    net.eval()
    close(thin(generate(net, label, instance, opt, z)), ref.out_eval_after_train, PARITY, what="eval output afterwards")


def test_encoder():
    ref = case("encoder")
    net = evaluating(fill(define_E(ref.opt), PREFIX["E"], ref.meta["state"]["netE"]))
    image = paddle.to_tensor(ref.image_small.repeat(8, 2).repeat(8, 3))
    mu, logvar = net(image)
    close(mu, ref.mu_eval, PARITY, what="mu in eval mode")
    close(logvar, ref.logvar_eval, PARITY, what="logvar in eval mode")
    mu, logvar = training(net)(image)
    close(mu, ref.mu_train, PARITY, what="mu in training mode")
    loss = kld_loss(mu, logvar)
    close(loss, ref.meta["kld"], 0, PARITY, "KL divergence")
    net.clear_gradients()
    loss.backward()
    same_gradients(net, ref.meta["grad_norms"])


def test_discriminator():
    ref = case("discriminator")
    opt, meta = ref.opt, ref.meta
    n = meta["batch"]
    label, instance, real = maps(meta["seed"], n, *opt.image_size, opt, meta["cell"])
    fake = np.tanh(np.random.default_rng(meta["seed"] + 1000).standard_normal(real.shape)).astype("float32")
    net = training(fill(define_D(opt), PREFIX["D"], meta["state"]["netD"]))
    semantics = Semantics(np.concatenate([label] * 2), np.concatenate([instance] * 2), opt)
    scales = net(semantics, paddle.to_tensor(np.concatenate([fake, real])))
    for i, features in enumerate(scales):
        close(features[-1], getattr(ref, f"pred_{i}"), PARITY, what=f"prediction of scale {i}")
        for j, t in enumerate(features):
            close([norm(t[:n]), norm(t[n:])], meta["norms"][i][j], PARITY, PARITY, f"feature {j} of scale {i}")
    on_fake, on_real = [[t[:n] for t in scale] for scale in scales], [[t[n:] for t in scale] for scale in scales]
    gan = PARITY / 10, PARITY
    for mode, want in meta["losses"].items():
        close(gan_loss(on_fake, True, mode, for_discriminator=False), want["G"], *gan, f"{mode}, generator")
        close(gan_loss(on_fake, False, mode), want["D_fake"], *gan, f"{mode}, fake")
        close(gan_loss(on_real, True, mode), want["D_real"], *gan, f"{mode}, real")
    matching = float(feature_matching_loss(on_fake, on_real)) * opt.lambda_feat
    close(matching, meta["feature_matching"], 0, PARITY, "feature matching")
    (gan_loss(on_fake, False) + gan_loss(on_real, True)).backward()
    same_gradients(net, meta["grad_norms"])


def test_vgg():
    ref = case("vgg")
    rng = np.random.default_rng(ref.meta["seed"])
    fake, real = (paddle.to_tensor(np.tanh(rng.standard_normal((1, 3, 64, 64))).astype("float32")) for _ in range(2))
    net = filled_vgg()
    fake.stop_gradient = False
    for i, feature in enumerate(net(fake)):
        close(norm(feature.detach()), ref.meta["feature_norms"][i], 0, PARITY, f"feature {i}")
    loss = perceptual_loss(net, fake, real)
    close(loss, ref.meta["loss"], 0, PARITY, "perceptual loss")
    loss.backward()
    close(thin(fake.grad), ref.grad_fake, 5 * PARITY * float(ref.max_grad_fake), what="gradient of the image")


def check_trajectory(ref, losses, norms, image):
    """Train from the case's weights, and compare every step, the parameters' norms and a picture afterwards.

    Args:
        ref: the case.
        losses: tolerances absolute [steps, 7] and relative of the losses; norms: name -> those of a parameter's norm.
        image: absolute tolerance of the picture.
    """
    opt, meta = ref.opt, ref.meta
    trainer = Trainer(opt)
    fill(trainer.G, PREFIX["G"], meta["state"]["netG"])
    fill(trainer.D, PREFIX["D"], meta["state"]["netD"])
    rows = []
    for step in range(meta["steps"]):
        found = trainer.step(training_batch(meta["seed"] + step, opt, meta["batch"], meta["cell"]))
        assert tuple(found) == COLUMNS
        rows.append([found[name] for name in COLUMNS])
    close(rows, ref.losses64, *losses, "losses")
    state = {PREFIX["G"] + k: v for k, v in export_official(trainer.G).items()}
    state |= {PREFIX["D"] + k: v for k, v in export_official(trainer.D).items()}
    for name, value in meta["param_norms64"].items():
        close(norm(state[name]), value, *norms(name), f"{name} after training")
    label, instance, _ = maps(meta["seed"] + 999, meta["batch"], *opt.image_size, opt, meta["cell"])
    picture = generate(evaluating(trainer.G), label, instance, opt)
    close(thin(picture), ref.eval64, image, what="eval output after training")


def test_trajectory_in_float64(float64):
    check_trajectory(case("trajectory"), (1e-11, 1e-11), lambda name: (1e-9, 1e-9), 1e-8)


SPREAD = 8  # times the largest distance from float64 of six float32 runs of the authors' networks


@FORMS
def test_trajectory_in_float32(form):
    ref = case("trajectory", **form)
    steps = np.arange(1, ref.meta["steps"] + 1)[:, None]
    usual = 2e-4 * steps + 1e-3 * steps * np.abs(ref.losses64)
    spread = ref.meta["param_norms_spread"]
    check_trajectory(
        ref,
        (np.maximum(usual, SPREAD * ref.losses_spread), 0),
        lambda name: (5e-3 + SPREAD * spread[name], 1e-3),
        max(2e-2, SPREAD * float(ref.eval_spread)),
    )
