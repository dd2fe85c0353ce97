"""Each loss once, a pure function of tensors; the weights lambda_* are applied by the trainer."""

import paddle
import paddle.nn.functional as F

from model.errors import UserError
from model.ops.feature_map import FeatureMap
from model.vgg import VGG19

# Weights of relu1_1 .. relu5_1 in the perceptual loss (released code; SPADE, appendix A, takes pix2pixHD's).
VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


def _hinge(prediction, target_is_real, for_discriminator):
    if not for_discriminator:
        return -prediction.mean()
    return F.relu(1 - prediction if target_is_real else 1 + prediction).mean()


def _least_squares(prediction, target_is_real, for_discriminator):
    return ((prediction - float(target_is_real)) ** 2).mean()


def _original(prediction, target_is_real, for_discriminator):
    # -log sigmoid(p) for real, -log(1 - sigmoid(p)) for fake
    return F.softplus(-prediction if target_is_real else prediction).mean()


def _wasserstein(prediction, target_is_real, for_discriminator):
    return (-prediction if target_is_real else prediction).mean()


GAN_MODES = {"hinge": _hinge, "ls": _least_squares, "original": _original, "w": _wasserstein}


def gan_loss(scales, target_is_real, mode="hinge", for_discriminator=True):
    """Adversarial loss, averaged over the discriminator's scales (SPADE, section 3.2; pix2pixHD, eq. 3).

    Args:
        scales: the discriminator's output, num_D lists of feature tensors [N,C,h,w] whose last is the prediction.
        target_is_real: the label that the loss asks for.
        mode: hinge, ls (least squares), original (cross entropy) or w (Wasserstein, no gradient penalty).
        for_discriminator: False for the generator's side, which only hinge treats differently.

    Returns:
        A 0-d tensor.
    """
    if mode not in GAN_MODES:
        raise UserError(f"gan_mode {mode!r} is unknown: use one of {', '.join(GAN_MODES)}")
    if mode == "hinge" and not for_discriminator and not target_is_real:
        raise UserError("the generator's hinge loss must aim for real")
    losses = [GAN_MODES[mode](features[-1], target_is_real, for_discriminator) for features in scales]
    return sum(losses) / len(losses)


def feature_matching_loss(fake, real):
    """L1 distance of the discriminator's intermediate features, summed over layers, averaged over scales
    (pix2pixHD, eq. 4).

    Args:
        fake, real: num_D lists of tensors [N,C,h,w]; predictions (the last of each) take no part, `real` gets no
            gradient.

    Returns:
        A 0-d tensor, to be multiplied by lambda_feat.
    """
    total = 0.0
    for fake_scale, real_scale in zip(fake, real, strict=True):
        for f, r in zip(fake_scale[:-1], real_scale[:-1], strict=True):
            total = total + F.l1_loss(f, r.detach())
    return total / len(fake)


def perceptual_loss(vgg, fake, real):
    """Weighted L1 distance of VGG19 features (Johnson et al. 2016; weights of the released code).

    Args:
        vgg: a `VGG19`, or another callable image -> five features.
        fake, real: images [N,3,H,W], or grey [N,1,H,W], in [-1,1]; `real` gets no gradient.
    """
    if fake.shape[1] == 1:  # VGG sees grey as a colour picture whose channels are equal
        fake, real = (image.expand([-1, 3, -1, -1]) for image in (fake, real))
    features = vgg.maps if isinstance(vgg, VGG19) else vgg
    with paddle.no_grad():
        targets = features(real)
    distances = [_distance(f, t) for f, t in zip(features(fake), targets, strict=True)]
    return sum(w * d for w, d in zip(VGG_WEIGHTS, distances, strict=True))


def _distance(x, target):
    return x.distance(target) if isinstance(x, FeatureMap) else F.l1_loss(x, target)


def kld_loss(mu, logvar):
    """KL divergence of N(mu, exp(logvar)) from N(0, 1), summed over the batch and z (SPADE, appendix A; VAE, app. B).

    Args:
        mu, logvar: [N, z_dim].
    """
    return -0.5 * (1 + logvar - mu * mu - logvar.exp()).sum()
