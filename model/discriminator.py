"""The multiscale patch discriminator (SPADE, appendix A, fig. 13; pix2pixHD, section 3.2)."""

import paddle
from paddle import nn

from model.architecture import SLOPE, LeakyReLU, conv_norm, conv_norm_rows, initialize
from model.convolution import Conv2D
from model.exact import halved
from model.ops import cpu
from model.ops.cpu import use_blocked

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
        """x [N, semantic_nc + image_nc, H, W] -> n_layers + 1 tensors, the last the prediction [N,1,h,w]."""
        features = []
        for n in range(self.n_layers + 1):
            x = getattr(self, f"model{n}")(x)
            features.append(x)
        return features

    def forward_rows(self, classes, channels, image):
        """The same in blocked form, with the part of the first layer that sees the semantics computed once a map.

        Args:
            classes: the channels of the semantics that occur, [N,H,W,K]; channels: their numbers, int64 [K].
            image: [M*N,H,W,3]: M pictures a map.

        Returns:
            n_layers + 1 tensors [M*N,h,w,C], the last the prediction.
        """
        first = self.model0[0]
        semantic_nc = first.weight.shape[1] - image.shape[3]
        labels = cpu.conv(classes, first, weight=first.weight.index_select(channels, axis=1))
        copies = image.shape[0] // classes.shape[0]
        labels = paddle.concat([labels] * copies) if copies > 1 else labels
        x = cpu.conv(image, first, weight=first.weight[:, semantic_nc:], residual=labels, with_bias=False)
        modulation = cpu.identity(x)
        features = [cpu.modulate(x, modulation, SLOPE)]
        for n in range(1, self.n_layers):
            x, modulation = conv_norm_rows(x, modulation, SLOPE, getattr(self, f"model{n}")[0])
            features.append(cpu.modulate(x, modulation, SLOPE))
        last = getattr(self, f"model{self.n_layers}")[0]
        return [*features, cpu.conv(x, last, modulation, SLOPE)]


class MultiscaleDiscriminator(nn.Layer):
    """num_D patch discriminators, each on an input half the size of the one before.

    Args:
        semantic_nc, image_nc, ndf, n_layers, norm: as `NLayerDiscriminator`'s.
        num_D: number of scales.
        kernels: auto, blocked or plain, see `model.ops.cpu`.
    """

    def __init__(self, semantic_nc, image_nc=3, ndf=64, num_D=2, n_layers=4, norm="spectralinstance", kernels="auto"):
        super().__init__()
        self.num_D, self.blocked = num_D, use_blocked(kernels)
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
        if self.blocked:
            rows = self.forward_rows(semantics, image)
            return [[feature.transpose([0, 3, 1, 2]) for feature in scale] for scale in rows]
        copies = image.shape[0] // len(semantics)
        x = paddle.concat([paddle.concat([semantics.one_hot()] * copies), image], axis=1)
        scales = []
        for i in range(self.num_D):
            x = halved(x) if i else x
            scales.append(getattr(self, f"discriminator_{i}")(x))
        return scales

    def features(self, semantics, image):
        """`forward` in whichever layout is at hand, [N,C,h,w] or [N,h,w,C]: losses are the same for both."""
        return self.forward_rows(semantics, image) if self.blocked else self.forward(semantics, image)

    def forward_rows(self, semantics, image):
        """The same in blocked form; features are [N,h,w,C]."""
        classes, channels = semantics.occurring()
        scales = []
        for i in range(self.num_D):
            if i:
                classes, image = halved(classes), halved(image)
            maps = (t.transpose([0, 2, 3, 1]) for t in (classes, image))
            classes_rows, image_rows = maps
            scales.append(getattr(self, f"discriminator_{i}").forward_rows(classes_rows, channels, image_rows))
        return scales


def define_D(opt):
    """The discriminator that `opt` asks for, initialised."""
    net = MultiscaleDiscriminator(
        opt.semantic_nc, opt.output_nc, opt.ndf, opt.num_D, opt.n_layers_D, opt.norm_D, opt.kernels
    )
    return initialize(net, opt.init_type, opt.init_variance)
