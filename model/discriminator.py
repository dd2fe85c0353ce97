"""The multiscale patch discriminator (SPADE, appendix A, fig. 13; pix2pixHD, section 3.2)."""

from paddle import nn

from model.architecture import LeakyReLU, conv_norm, initialize
from model.convolution import Conv2D
from model.ops import backend

MAX_WIDTH = 512


class NLayerDiscriminator(nn.Layer):
    """A patch discriminator: n_layers 4x4 convolutions and a one-channel prediction.

    Args:
        semantic_nc: channels of the semantics, unknown class and instance edges included.
        image_nc: channels of the pictures.
        ndf: channels of the first convolution; they double with each further one, up to MAX_WIDTH.
        n_layers: 4x4 convolutions before the prediction, all but the last of stride 2.
        norm: [spectral] followed by instance, batch, syncbatch or none, for all but the first and the prediction.
    """

    def __init__(self, semantic_nc, image_nc=3, ndf=64, n_layers=4, norm="spectralinstance"):
        super().__init__()
        self.n_layers = n_layers
        self.model0 = nn.Sequential(Conv2D(semantic_nc + image_nc, ndf, 4, stride=2, padding=2), LeakyReLU())
        width = ndf
        for n in range(1, n_layers):
            previous, width = width, min(width * 2, MAX_WIDTH)
            stride = 1 if n == n_layers - 1 else 2
            conv = conv_norm(previous, width, 4, stride=stride, padding=2, norm=norm)
            self.add_sublayer(f"model{n}", nn.Sequential(conv, LeakyReLU()))
        self.add_sublayer(f"model{n_layers}", nn.Sequential(Conv2D(width, 1, 4, stride=1, padding=2)))

    def forward(self, x):
        """A `FeatureMap` of semantics and picture -> the tensors of n_layers + 1 maps, the last the prediction."""
        features = []
        for n in range(self.n_layers + 1):
            x = getattr(self, f"model{n}")(x)
            features.append(x.data)
        return features


class MultiscaleDiscriminator(nn.Layer):
    """num_D patch discriminators, each on an input half the size of the one before.

    Args:
        semantic_nc, image_nc, ndf, n_layers, norm: as `NLayerDiscriminator`'s.
        num_D: number of scales.
        kernels: auto, blocked or plain, see `model.ops.backend`.
    """

    def __init__(self, semantic_nc, image_nc=3, ndf=64, num_D=2, n_layers=4, norm="spectralinstance", kernels="auto"):
        super().__init__()
        self.num_D, self.Map = num_D, backend(kernels)
        for i in range(num_D):
            net = NLayerDiscriminator(semantic_nc, image_nc, ndf, n_layers, norm)
            self.add_sublayer(f"discriminator_{i}", net)

    def forward(self, semantics, image):
        """
        Args:
            semantics: `Semantics` of N maps.
            image: [N,3,H,W] in [-1,1], or M*N of them for M pictures a map: the trainer passes fakes and photos as one
                batch, as the released code does.

        Returns:
            num_D lists of n_layers_D + 1 tensors [N,C,h,w] (M*N).
        """
        scales = self.features(semantics, image)
        return [[self.Map(feature).leave() for feature in scale] for scale in scales]

    def features(self, semantics, image):
        """`forward` for losses, to which the layout is the same: its tensors in the backend's layout."""
        x, scales = self.Map.join(semantics, image), []
        for i in range(self.num_D):
            x = x.halved() if i else x
            scales.append(getattr(self, f"discriminator_{i}")(x))
        return scales


def define_D(opt):
    """The discriminator that `opt` asks for, initialised."""
    net = MultiscaleDiscriminator(
        opt.semantic_nc, opt.output_nc, opt.ndf, opt.num_D, opt.n_layers_D, opt.norm_D, opt.kernels
    )
    return initialize(net, opt.init_type, opt.init_variance)
