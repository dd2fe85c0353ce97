"""Networks with weights that follow from their entries' names, maps from seeds, and the reference cases on disk.

The cases in data/reference/ hold numbers that the paper authors' networks gave on a CPU, in float32 and for the
training in float64, thinned to every second pixel. They hold no weights and no pictures: both are drawn here from names
and seeds, alike in any framework.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
from common import PARITY, close

from model.encoder import define_E
from model.generator import define_G
from model.normalization import BatchNorm
from model.ops.device import as_tensor
from model.options import OPT
from model.semantics import Semantics
from model.vgg import LAYERS, VGG19
from model.weights import load_official
from model.weights.made_up import entry as entry
from model.weights.made_up import made_up_arrays, made_up_weights

FOLDER = Path(__file__).parent / "data" / "reference"
PREFIX = {"G": "netG.", "D": "netD.", "E": "netE."}
COLUMNS = ("g_loss_gan", "g_loss_feat", "g_loss_vgg", "g_loss_vae", "d_loss", "d_loss_f", "d_loss_r")


# ---- drawn values ----


def weights(prefix, shapes):
    """{official name: array} for {official name: shape}."""
    return made_up_arrays(shapes, prefix)


def vgg_shapes():
    """{torchvision's name: shape} of VGG19's convolutions up to conv5_1."""
    shapes, fin, index = {}, 3, 0
    for width in LAYERS:
        if width == "M":
            index += 1
            continue
        shapes |= {f"features.{index}.weight": (width, fin, 3, 3), f"features.{index}.bias": (width,)}
        fin, index = width, index + 2
    return shapes


def fill(net, prefix, shapes=None):
    """Load a network's drawn weights; `shapes` default to the network's own."""
    if shapes is None:
        return made_up_weights(net, prefix)
    load_official(net, made_up_arrays(shapes, prefix))
    return net


def filled_vgg():
    """A VGG19 with drawn weights."""
    return fill(VGG19(), "vgg.", vgg_shapes())


def write_model(folder, opt):
    """Write a trained model's files: drawn weights that tell inputs apart, norms as if batches were seen, options."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name, define in (("n_g", define_G), ("n_e", define_E))[: 1 + opt.use_vae]:
        net = fill(define(opt), f"{name}.")
        for layer in net.sublayers():
            if isinstance(layer, BatchNorm):
                layer.running_mean.set_value(rng.normal(0, 0.2, layer.running_mean.shape).astype("float32"))
                layer.running_var.set_value(rng.uniform(0.5, 2, layer.running_var.shape).astype("float32"))
        paddle.save(net.state_dict(), str(folder / f"{name}.pdparams"))
    opt.save(folder / "opt.yaml")
    return folder


def maps(seed, batch, height, width, opt, cell):
    """Random blocks of `cell` pixels: label and instance int64 [N,H,W], and a noise image float32 [N,3,H,W]."""
    rng = np.random.default_rng(seed)

    def blocks(high, side):
        ids = rng.integers(0, high, (batch, 1, -(-height // side), -(-width // side)))[:, 0]
        return ids.repeat(side, 1).repeat(side, 2)[:, :height, :width]

    label = blocks(opt.label_nc + int(opt.contain_dontcare_label), cell)
    instance = blocks(40, 2 * cell)
    return label, instance, np.tanh(rng.standard_normal((batch, 3, height, width))).astype(np.float32)


def training_batch(seed, opt, batch=2, cell=8):
    """One batch of `maps` as `Trainer.step` takes it; smooth images for an encoder, which enlarges them."""
    height, width = opt.image_size
    label, instance, image = maps(seed, batch, height, width, opt, cell)
    if opt.use_vae:
        image = image[:, :, ::8, ::8].repeat(8, 2).repeat(8, 3)[:, :, :height, :width]
    return {"label": label, "instance": instance, "image": image}


# ---- cases on disk ----


def case(name, **changes):
    """A case: .opt, .meta and the arrays by name; `changes` go over its options."""
    data = np.load(FOLDER / f"{name}.npz")
    meta = json.loads(str(data["meta"]))
    opt = OPT(**{**meta.get("opt", {}), **changes})
    return SimpleNamespace(meta=meta, opt=opt, **{key: data[key] for key in data.files if key != "meta"})


def thin(image):
    """Every second row and column, as the cases keep them."""
    return np.asarray(image)[:, :, ::2, ::2]


# ---- modes (Paddle 2.6's train() and eval() return nothing) ----


def training(net):
    """The network, in training mode."""
    net.train()
    return net


def evaluating(net):
    """The network, in evaluation mode."""
    net.eval()
    return net


# ---- comparing ----


def norm(array):
    """Euclidean norm in float64."""
    return float(np.linalg.norm(np.asarray(array, np.float64)))


def gradient_norms(net):
    """{official name: norm of the gradient} of every parameter that has one."""
    return {name: norm(p.grad) for name, p in net.named_parameters() if p.grad is not None}


def same_gradients(net, want, rtol=5 * PARITY):
    """Assert the norm of every parameter's gradient; small ones are measured by the largest."""
    got, top = gradient_norms(net), max(want.values())
    assert set(got) == set(want)
    for name, value in want.items():
        close(got[name], value, 1e-5 * top, rtol, f"gradient of {name}")


def generate(net, label, instance, opt, z=None):
    """The generator's picture as an array, without a graph."""
    with paddle.no_grad():
        return net(Semantics(label, instance, opt), None if z is None else as_tensor(z)).numpy()
