"""The multiscale discriminator."""

import dataclasses

import numpy as np
import paddle
import pytest
from common import GRADIENT, ROUNDING, close
from reference_cases import PREFIX, evaluating, fill, maps, training

from model.discriminator import define_D
from model.ops import plain
from model.options import OPT
from model.semantics import Semantics


def inputs(opt, n=2, seed=0):
    label, instance, image = maps(seed, n, *opt.image_size, opt, 8)
    return Semantics(label, instance, opt), paddle.to_tensor(image)


def test_shapes_of_every_scale_and_layer(tiny_opt):
    scales = define_D(tiny_opt)(*inputs(tiny_opt))
    # 4x4 kernels, padding 2, three strides of 2 and then 1: floor(n / 2) + 1 each, then n + 1 twice.
    sides = [[33, 17, 9, 10, 11], [17, 9, 5, 6, 7]]
    widths = [4, 8, 16, 32, 1]
    assert [[tuple(t.shape) for t in scale] for scale in scales] == [
        [(2, w, s, s) for w, s in zip(widths, side, strict=True)] for side in sides
    ]


@pytest.mark.parametrize("num_D, n_layers_D", [(1, 1), (3, 3), (2, 6)])
def test_scales_and_layers_follow_the_options(tiny_opt, num_D, n_layers_D):
    opt = dataclasses.replace(tiny_opt, num_D=num_D, n_layers_D=n_layers_D)
    scales = define_D(opt)(*inputs(opt))
    assert [len(scale) for scale in scales] == [n_layers_D + 1] * num_D
    assert all(scale[-1].shape[1] == 1 for scale in scales)


def test_widths_stop_at_512():
    opt = OPT(ndf=128, n_layers_D=5, num_D=1, label_nc=3, crop_size=32, use_vae=False, no_vgg_loss=True)
    shapes = {k: list(v.shape) for k, v in define_D(opt).named_parameters()}
    assert [shapes[f"discriminator_0.model{n}.0.0.weight_orig"][0] for n in range(1, 5)] == [256, 512, 512, 512]


def test_wide_pictures(tiny_opt):
    opt = dataclasses.replace(tiny_opt, aspect_ratio=2.0)
    scales = define_D(opt)(*inputs(opt))
    assert scales[0][0].shape == [2, 4, 17, 33] and scales[1][-1].shape == [2, 1, 5, 7]


def test_coco_s_discriminator_has_the_known_number_of_parameters():
    # 16 weights a window: 187 -> 64 -> 128 -> 256 -> 512 -> 1, biases only in the first and last, twice.
    net = define_D(OPT(use_vae=False, no_vgg_loss=True, init_type="none"))
    once = 16 * (187 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 1
    assert sum(int(p.size) for p in net.parameters()) == 2 * once


def test_second_scale_sees_the_averaged_input(tiny_opt):
    opt = dataclasses.replace(tiny_opt, no_instance=True)
    net = evaluating(fill(define_D(opt), PREFIX["D"]))
    semantics, image = inputs(opt)
    x = np.concatenate([semantics.one_hot().numpy(), image.numpy()], 1)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    half = np.nanmean(windows, (4, 5)).astype("float32")  # the padding does not count
    want = net.discriminator_1(plain.Map(paddle.to_tensor(half)))
    for a, b in zip(net(semantics, image)[1], want, strict=True):
        close(a, b, GRADIENT)


def test_images_of_a_batch_do_not_see_each_other(tiny_opt):
    net = evaluating(fill(define_D(tiny_opt), PREFIX["D"]))
    label, instance, image = maps(0, 3, 64, 64, tiny_opt, 8)
    whole = net(Semantics(label, instance, tiny_opt), paddle.to_tensor(image))
    one = net(Semantics(label[1:2], instance[1:2], tiny_opt), paddle.to_tensor(image[1:2]))
    for a, b in zip(whole, one, strict=True):
        close(a[-1].numpy()[1], b[-1].numpy()[0], ROUNDING)


def test_the_image_has_a_gradient(tiny_opt):
    net = training(fill(define_D(tiny_opt), PREFIX["D"]))
    semantics, image = inputs(tiny_opt)
    image.stop_gradient = False
    sum((scale[-1] ** 2).mean() for scale in net(semantics, image)).backward()
    assert float(image.grad.abs().sum()) > 0


def test_maps_change_the_prediction(tiny_opt):
    net = evaluating(fill(define_D(tiny_opt), PREFIX["D"]))
    semantics, image = inputs(tiny_opt)
    other, _ = inputs(tiny_opt, seed=1)
    assert float((net(semantics, image)[0][-1] - net(other, image)[0][-1]).abs().max()) > 1e-2
