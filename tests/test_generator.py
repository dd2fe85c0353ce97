"""The SPADE generator: sizes, names, counts, gradients, independence of images in a batch."""

import dataclasses

import numpy as np
import paddle
import pytest
from common import GRADIENT, PARITY, ROUNDING, close
from reference_cases import PREFIX, evaluating, fill, generate, maps, training

from model.generator import define_G
from model.options import OPT
from model.semantics import Semantics
from model.weights import official_names


def shapes(opt):
    """{name: shape} of a generator's parameters, without the memory for them: widths are linear in ngf.

    Every dimension is a + b * ngf, so two small networks tell a large one's.
    """
    one, two = (
        {name: np.array(p.shape) for name, p in define_G(dataclasses.replace(opt, ngf=ngf)).named_parameters()}
        for ngf in (2, 4)
    )
    return {name: tuple(int(d) for d in one[name] + (two[name] - one[name]) // 2 * (opt.ngf - 2)) for name in one}


def count(opt):
    return sum(int(np.prod(shape)) for shape in shapes(opt).values())


def inputs(opt, n=2, seed=0):
    label, instance, _ = maps(seed, n, *opt.image_size, opt, 8)
    return label, instance, np.random.default_rng(seed).standard_normal((n, opt.z_dim)).astype("float32")


# ---- counts and names ----


def test_coco_generator_has_97_480_899_parameters():
    assert count(OPT(use_vae=False)) == 97_480_899


def test_cityscapes_generator_has_93_0_million_parameters():
    opt = OPT.from_preset("cityscapes")
    total = count(dataclasses.replace(opt, use_vae=False))
    assert round(total / 1e6, 1) == 93.0


def test_counting_by_two_small_networks_is_right():
    opt = OPT(ngf=6, label_nc=3, crop_size=32)
    assert shapes(opt) == {name: tuple(p.shape) for name, p in define_G(opt).named_parameters()}


@pytest.mark.parametrize("depth, blocks", [("normal", 4), ("more", 4), ("most", 5)])
def test_blocks_of_each_depth_have_the_official_names(depth, blocks):
    opt = OPT(ngf=2, label_nc=3, crop_size=128, num_upsampling_layers=depth, use_vae=False)
    layers = {"fc", "head_0", "G_middle_0", "G_middle_1", "conv_img"} | {f"up_{i}" for i in range(blocks)}
    assert {name.split(".")[0] for name in official_names(define_G(opt)).values()} == layers


# ---- sizes ----


@pytest.mark.parametrize(
    "changes, size",
    [
        (dict(crop_size=32), (32, 32)),
        (dict(crop_size=96), (96, 96)),
        (dict(crop_size=64, aspect_ratio=2.0), (32, 64)),
        (dict(crop_size=32, aspect_ratio=0.5), (64, 32)),
        (dict(crop_size=96, aspect_ratio=1.5), (64, 96)),
        (dict(crop_size=64, num_upsampling_layers="more"), (64, 64)),
        (dict(crop_size=128, num_upsampling_layers="most"), (128, 128)),
        (dict(crop_size=32, use_vae=True, z_dim=3), (32, 32)),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_sizes(tiny_opt, changes, size):
    opt = dataclasses.replace(tiny_opt, **{"ngf": 2, **changes})
    net = evaluating(define_G(opt))
    assert net.start_size == opt.start_size
    label, instance, z = inputs(opt, 1)
    out = generate(net, label, instance, opt, z if opt.use_vae else None)
    assert out.shape == (1, 3, *size) and out.dtype == np.float32 and np.abs(out).max() <= 1


def test_labels_larger_than_the_picture_are_sampled(tiny_opt):
    net = evaluating(fill(define_G(tiny_opt), PREFIX["G"]))
    label, instance, _ = inputs(tiny_opt, 1)
    small = generate(net, label, instance, tiny_opt)
    no_edges = np.zeros_like(instance)
    large = generate(net, label.repeat(2, 1).repeat(2, 2), no_edges.repeat(2, 1).repeat(2, 2), tiny_opt)
    close(large, generate(net, label, no_edges, tiny_opt), ROUNDING)
    assert np.abs(large - small).max() > 1e-3  # instance edges matter


# ---- what an image depends on ----


FORMS = pytest.mark.parametrize("form", ["pattern", "dense"])


@FORMS
@pytest.mark.parametrize("norm", ["syncbatch", "instance"])
def test_images_of_a_batch_do_not_see_each_other_in_evaluation(tiny_opt, norm, form):
    changes = dict(norm_G=f"spectralspade{norm}3x3", use_vae=True, z_dim=8, modulation=form)
    opt = dataclasses.replace(tiny_opt, **changes)
    net = evaluating(fill(define_G(opt), PREFIX["G"]))
    label, instance, z = inputs(opt, 3)
    whole = generate(net, label, instance, opt, z)
    for i in range(3):
        one = slice(i, i + 1)
        close(generate(net, label[one], instance[one], opt, z[one])[0], whole[i], ROUNDING)


def test_evaluation_changes_nothing(tiny_opt):
    net = evaluating(fill(define_G(tiny_opt), PREFIX["G"]))
    before = {k: v.numpy() for k, v in net.state_dict().items()}
    label, instance, _ = inputs(tiny_opt)
    first = generate(net, label, instance, tiny_opt)
    np.testing.assert_array_equal(first, generate(net, label, instance, tiny_opt))
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k], err_msg=k)


def test_style_changes_the_picture_and_is_drawn_when_missing(tiny_opt):
    opt = dataclasses.replace(tiny_opt, use_vae=True, z_dim=8)
    net = evaluating(fill(define_G(opt), PREFIX["G"]))
    label, instance, z = inputs(opt)
    assert np.abs(generate(net, label, instance, opt, z) - generate(net, label, instance, opt, -z)).max() > 1e-2
    pictures = []
    for seed in (1, 1, 2):
        paddle.seed(seed)
        pictures.append(generate(net, label, instance, opt))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert np.abs(pictures[0] - pictures[2]).max() > 1e-2


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_both_forms_and_both_kernels_agree(tiny_opt, norm):
    results = []
    forms = [("dense", "plain"), ("pattern", "plain"), ("pattern", "blocked")]
    for form, kernels in forms:
        opt = dataclasses.replace(tiny_opt, modulation=form, kernels=kernels, norm_G=f"spectralspade{norm}3x3")
        net = training(fill(define_G(opt), PREFIX["G"]))
        label, instance, _ = inputs(opt)
        out = net(Semantics(label, instance, opt))
        (out * out * out).sum().backward()
        grads = {name: p.grad.numpy() for name, p in net.named_parameters()}
        results.append((out.numpy(), grads, {k: v.numpy() for k, v in net.state_dict().items()}))
    top = max(np.abs(g).max() for g in results[0][1].values())
    for (out, grads, state), form in zip(results[1:], forms[1:], strict=True):
        close(out, results[0][0], GRADIENT, what=str(form))
        for name, want in results[0][1].items():
            close(grads[name], want, 2 * PARITY * np.abs(want).max() + ROUNDING * top, what=f"{form} {name}")
        for name, want in results[0][2].items():
            close(state[name], want, PARITY / 10, PARITY, what=f"{form} {name}")
