"""The SPADE generator: semantics (and a style vector) -> photo (SPADE, appendix A, fig. 11)."""

import paddle
from paddle import nn

from model.architecture import SLOPE, SPADEResnetBlock, initialize
from model.convolution import Conv2D
from model.ops import backend, plain
from model.ops.recompute import recompute


class SPADEGenerator(nn.Layer):
    """Residual SPADE blocks from a small map to the full picture.

    Args:
        semantic_nc: channels of the semantics.
        start_size: (height, width) of the first feature map; the picture is 32, 64 or 128 times as large.
        ngf: channels of the last block but one in `most`, of the last otherwise.
        norm_G: such as spectralspadesyncbatch3x3.
        num_upsampling_layers: normal (5 upsamplings), more (6) or most (7, one more block).
        z_dim: length of the style vector, or None to start from the semantics.
        kernels: auto, blocked (compiled loops for CPUs) or plain (Paddle's operators).
        recompute: keep the blocks' inputs alone for the backward pass, and compute the rest again there.
    """

    def __init__(
        self,
        semantic_nc,
        start_size,
        ngf=64,
        norm_G="spectralspadesyncbatch3x3",
        num_upsampling_layers="normal",
        z_dim=None,
        output_nc=3,
        kernels="auto",
        recompute=False,
    ):
        super().__init__()
        self.Map, self.recompute = backend(kernels), recompute
        self.start_size, self.z_dim, self.depth = start_size, z_dim, num_upsampling_layers
        wide = 16 * ngf
        if z_dim is None:
            self.fc = Conv2D(semantic_nc, wide, 3, padding=1)
        else:
            self.fc = nn.Linear(z_dim, wide * start_size[0] * start_size[1])

        def block(fin, fout):
            return SPADEResnetBlock(fin, fout, norm_G, semantic_nc)

        self.head_0 = block(wide, wide)
        self.G_middle_0 = block(wide, wide)
        self.G_middle_1 = block(wide, wide)
        self.up_0 = block(wide, 8 * ngf)
        self.up_1 = block(8 * ngf, 4 * ngf)
        self.up_2 = block(4 * ngf, 2 * ngf)
        self.up_3 = block(2 * ngf, ngf)
        last = ngf
        if num_upsampling_layers == "most":
            self.up_4 = block(ngf, ngf // 2)
            last = ngf // 2
        self.conv_img = Conv2D(last, output_nc, 3, padding=1)

    def blocks(self):
        """(block, whether its input is upsampled first), in order."""
        deeper = self.depth in ("more", "most")
        order = [(self.head_0, False), (self.G_middle_0, True), (self.G_middle_1, deeper)]
        order += [(block, True) for block in (self.up_0, self.up_1, self.up_2, self.up_3)]
        return order + ([(self.up_4, True)] if self.depth == "most" else [])

    def start(self, semantics, z):
        """The first feature map [N, 16*ngf, *start_size]."""
        height, width = self.start_size
        if self.z_dim is None:
            return self.fc(plain.Map(semantics.one_hot(height, width))).data
        if z is None:
            z = paddle.randn([len(semantics), self.z_dim])
        return self.fc(z).reshape([z.shape[0], -1, height, width])

    def forward(self, semantics, z=None):
        """
        Args:
            semantics: `Semantics` of N maps.
            z: style vectors [N, z_dim]; None draws them. Ignored by a generator without VAE.

        Returns:
            [N, output_nc, H, W] in [-1,1].
        """
        x = self.Map.enter(self.start(semantics, z))
        return paddle.tanh(self.body(x, semantics).leave())

    def body(self, x, semantics):
        """The first `FeatureMap` -> the picture before tanh."""
        for block, up in self.blocks():
            x = self.run(block, x, semantics, up)
        return self.conv_img(x.activated(SLOPE))

    def run(self, block, x, semantics, up):
        """A pass of a block, on x upsampled first if `up`; with `recompute` it is made again for the backward pass."""

        def forward(x):
            return block(x.upsampled() if up else x, semantics)

        if not (self.recompute and paddle.is_grad_enabled()):
            return forward(x)
        return self.Map(recompute(block, lambda data: forward(self.Map(data)).data, x.data))


def define_G(opt):
    """The generator that `opt` asks for, initialised."""
    net = SPADEGenerator(
        opt.semantic_nc,
        opt.start_size,
        opt.ngf,
        opt.norm_G,
        opt.num_upsampling_layers,
        opt.z_dim if opt.use_vae else None,
        opt.output_nc,
        opt.kernels,
        opt.recompute,
    )
    return initialize(net, opt.init_type, opt.init_variance)
