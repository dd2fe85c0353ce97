"""The multiscale patch discriminator (SPADE, appendix A, fig. 13; pix2pixHD, section 3.2)."""

import paddle
import paddle.nn.functional as F
from paddle import nn

from model.architecture import conv_norm, initialize, leaky_relu
from model.convolution import Conv2D

MAX_WIDTH = 512


class NLayerDiscriminator(nn.Layer):
    """A patch discriminator: n_layers 4x4 convolutions and a one-channel prediction.

    Args:
        input_nc: channels of the semantics; the image's are counted apart, see `forward`.
    """

    def __init__(self, semantic_nc, image_nc=3, ndf=64, n_layers=4, norm="spectralinstance"):
        super().__init__()
        self.n_layers = n_layers
        self.model0 = nn.Sequential(Conv2D(semantic_nc + image_nc, ndf, 4, stride=2, padding=2), nn.LeakyReLU(0.2))
        width = ndf
        for n in range(1, n_layers):
            previous, width = width, min(width * 2, MAX_WIDTH)
            stride = 1 if n == n_layers - 1 else 2
            conv = conv_norm(previous, width, 4, stride=stride, padding=2, norm=norm)
            self.add_sublayer(f"model{n}", nn.Sequential(conv, nn.LeakyReLU(0.2)))
        self.add_sublayer(f"model{n_layers}", nn.Sequential(Conv2D(width, 1, 4, stride=1, padding=2)))

    def forward(self, x):
        """x [N, semantic_nc + image_nc, H, W] -> n_layers + 1 tensors, the last the prediction [N,1,h,w]."""
        features = []
        for n in range(self.n_layers + 1):
            x = getattr(self, f"model{n}")(x)
            features.append(x)
        return features


class MultiscaleDiscriminator(nn.Layer):
    """num_D patch discriminators, each on an input half the size of the one before.

    Args:
        semantic_nc: channels of the semantics, unknown class and instance edges included.
    """

    def __init__(self, semantic_nc, image_nc=3, ndf=64, num_D=2, n_layers=4, norm="spectralinstance"):
        super().__init__()
        self.num_D = num_D
        for i in range(num_D):
            net = NLayerDiscriminator(semantic_nc, image_nc, ndf, n_layers, norm)
            self.add_sublayer(f"discriminator_{i}", net)

    def forward(self, semantics, image):
        """
        Args:
            semantics: `Semantics` of N maps.
            image: [N,3,H,W] in [-1,1]; the trainer passes fakes and photos as one batch, as the released code does.

        Returns:
            num_D lists of n_layers_D + 1 tensors [N,C,h,w].
        """
        x = paddle.concat([semantics.one_hot(), image], axis=1)
        scales = []
        for i in range(self.num_D):
            if i:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, exclusive=True)
            scales.append(getattr(self, f"discriminator_{i}")(x))
        return scales


def define_D(opt):
    """The discriminator that `opt` asks for, initialised."""
    net = MultiscaleDiscriminator(opt.semantic_nc, opt.output_nc, opt.ndf, opt.num_D, opt.n_layers_D, opt.norm_D)
    return initialize(net, opt.init_type, opt.init_variance)
