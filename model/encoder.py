"""The style encoder of the VAE: photo -> mean and log variance of its style vector (SPADE, appendix A, fig. 14)."""

from paddle import nn

from model.architecture import SLOPE, conv_norm, initialize
from model.ops import backend
from model.ops.exact import resized

SIDE = 256  # photos are resized to this before the first convolution
GRID = 4  # side of the last feature map: 256 / 2**6


class ConvEncoder(nn.Layer):
    """Six 3x3 convolutions of stride 2 and two linear heads.

    The released encoder leaves layer6 out for crop_size < 256 and then fails, since it resizes to 256 all the same;
    here layer6 is always there, so that any crop size works (test_encoder.py::test_small_crops_work).

    Args:
        ngf: channels of the first layer.
        z_dim: length of the style vector.
        norm: norm_E, such as spectralinstance.
        kernels: auto, blocked or plain, see `model.ops.backend`.
        input_nc: channels of the photos.
    """

    def __init__(self, ngf=64, z_dim=256, norm="spectralinstance", kernels="auto", input_nc=3):
        super().__init__()
        self.Map, self.input_nc = backend(kernels), input_nc
        widths = [input_nc, ngf, ngf * 2, ngf * 4, ngf * 8, ngf * 8, ngf * 8]
        for i in range(1, 7):
            self.add_sublayer(f"layer{i}", conv_norm(widths[i - 1], widths[i], 3, stride=2, padding=1, norm=norm))
        self.fc_mu = nn.Linear(widths[6] * GRID * GRID, z_dim)
        self.fc_var = nn.Linear(widths[6] * GRID * GRID, z_dim)

    def forward(self, image):
        """
        Args:
            image: [N,input_nc,H,W] in [-1,1].

        Returns:
            mu and logvar, each [N, z_dim].
        """
        x = image
        if tuple(x.shape[2:]) != (SIDE, SIDE):
            x = resized(x, (SIDE, SIDE))
        x = self.body(self.Map.enter(x)).leave().flatten(1)  # [N, 8*ngf*4*4]
        return self.fc_mu(x), self.fc_var(x)

    def body(self, x):
        """The photo's `FeatureMap` -> the last one."""
        for i in range(1, 7):  # 128, 64, 32, 16, 8, 4 pixels wide
            x = getattr(self, f"layer{i}")(x).activated(SLOPE)
        return x


def define_E(opt):
    """The encoder that `opt` asks for, initialised."""
    net = ConvEncoder(opt.ngf, opt.z_dim, opt.norm_E, opt.kernels, opt.output_nc)
    return initialize(net, opt.init_type, opt.init_variance)
