"""Losses of hand-computed values."""

import math

import numpy as np
import paddle
import pytest
from common import ROUNDING, refuses

from model.loss import GAN_MODES, VGG_WEIGHTS, feature_matching_loss, gan_loss, kld_loss, perceptual_loss


def scales(*predictions):
    """A discriminator's output with these predictions; the features before them must not matter."""
    return [[paddle.full([1, 2, 3, 3], 99.0), paddle.to_tensor(p, dtype="float32")] for p in predictions]


def softplus(x):
    return math.log1p(math.exp(x))


# Predictions 2 and -0.5 on the first scale, 0 on the second: the mean over each scale, then over the scales.
@pytest.mark.parametrize(
    "mode, generator, fake, real",
    [
        ("hinge", (-0.75 + 0) / 2, ((3 + 0.5) / 2 + 1) / 2, ((0 + 1.5) / 2 + 1) / 2),
        ("ls", ((1 + 2.25) / 2 + 1) / 2, ((4 + 0.25) / 2 + 0) / 2, ((1 + 2.25) / 2 + 1) / 2),
        (
            "original",
            ((softplus(-2) + softplus(0.5)) / 2 + math.log(2)) / 2,
            ((softplus(2) + softplus(-0.5)) / 2 + math.log(2)) / 2,
            ((softplus(-2) + softplus(0.5)) / 2 + math.log(2)) / 2,
        ),
        ("w", -0.375, 0.375, -0.375),
    ],
)
def test_gan_losses_by_hand(mode, generator, fake, real):
    out = scales([[[[2.0, -0.5]]]], [[[[0.0]]]])
    assert float(gan_loss(out, True, mode, for_discriminator=False)) == pytest.approx(generator, abs=ROUNDING)
    assert float(gan_loss(out, False, mode)) == pytest.approx(fake, abs=ROUNDING)
    assert float(gan_loss(out, True, mode)) == pytest.approx(real, abs=ROUNDING)


def test_hinge_is_flat_beyond_its_margin():
    out = scales([[[[1.5, -1.5]]]])
    out[0][-1].stop_gradient = False
    (gan_loss(out, True) + gan_loss(out, False)).backward()
    np.testing.assert_allclose(out[0][-1].grad.numpy().ravel(), [0.5, -0.5])  # 1.5 as fake, -1.5 as real


@pytest.mark.parametrize("value", [-200.0, 200.0])
def test_original_loss_stays_finite(value):
    out = scales([[[[value]]]])
    assert float(gan_loss(out, True, "original")) == pytest.approx(max(0.0, -value))
    assert float(gan_loss(out, False, "original")) == pytest.approx(max(0.0, value))


@pytest.mark.parametrize("mode", GAN_MODES)
def test_losses_are_scalars_and_equal_for_one_scale_and_its_copies(mode):
    one = gan_loss(scales([[[[0.3, -2.0]]]]), True, mode)
    assert one.shape == [] and one.dtype == paddle.float32
    assert float(gan_loss(scales([[[[0.3, -2.0]]]], [[[[0.3, -2.0]]]]), True, mode)) == pytest.approx(float(one))


def test_wrong_modes_are_refused():
    refuses("gan_mode 'wgan'.*hinge, ls, original, w", gan_loss, scales([[[[0.0]]]]), True, "wgan")
    refuses("hinge", gan_loss, scales([[[[0.0]]]]), False, "hinge", for_discriminator=False)


def test_feature_matching_by_hand():
    def features(*values):
        return [paddle.full([1, 1, 2, 2], float(v)) for v in values]

    fake, real = [features(1, 2, 50), features(3, 0, 50)], [features(0, 4, -50), features(3, 5, -50)]
    # Predictions, the last of each scale, take no part: (1 + 2 + 0 + 5) / 2 scales.
    assert float(feature_matching_loss(fake, real)) == pytest.approx(4.0)


def test_feature_matching_moves_the_fake_only():
    fake, real = paddle.to_tensor([[1.0]]), paddle.to_tensor([[3.0]])
    fake.stop_gradient = real.stop_gradient = False
    feature_matching_loss([[fake, fake]], [[real, real]]).backward()
    assert fake.grad.item() == -1 and real.grad is None


def test_perceptual_loss_by_hand():
    assert VGG_WEIGHTS == (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)

    def vgg(image):
        return [image * k for k in (1, 2, 3, 4, 5)]

    fake, real = paddle.full([1, 3, 2, 2], 1.0), paddle.full([1, 3, 2, 2], 3.0)
    fake.stop_gradient = real.stop_gradient = False
    loss = perceptual_loss(vgg, fake, real)
    assert float(loss) == pytest.approx(2 * (1 / 32 + 2 / 16 + 3 / 8 + 4 / 4 + 5))
    loss.backward()
    assert float(fake.grad.sum()) == pytest.approx(-float(loss) / 2, rel=ROUNDING) and real.grad is None


@pytest.mark.parametrize(
    "mu, logvar, per_entry",
    [(0.0, 0.0, 0.0), (1.0, 0.0, 0.5), (0.0, math.log(4), 0.5 * (4 - 1 - math.log(4))), (-2.0, -1.0, 2 + 0.5 / math.e)],
)
def test_kld_by_hand_is_a_sum(mu, logvar, per_entry):
    # KL(N(m, s^2) | N(0, 1)) = (s^2 + m^2 - 1 - log s^2) / 2, over 3 x 5 entries
    loss = kld_loss(paddle.full([3, 5], mu), paddle.full([3, 5], logvar))
    assert float(loss) == pytest.approx(15 * per_entry, abs=ROUNDING)
