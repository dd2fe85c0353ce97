"""The style encoder of the VAE: photo -> mean and log variance of its style vector (SPADE, appendix A, fig. 14)."""

from paddle import nn

from model.architecture import SLOPE, conv_norm, conv_norm_rows, initialize, leaky_relu
from model.exact import resized
from model.ops import cpu
from model.ops.cpu import use_blocked

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
        kernels: auto, blocked or plain, see `model.ops.cpu`.
        input_nc: channels of the photos.
    """

    def __init__(self, ngf=64, z_dim=256, norm="spectralinstance", kernels="auto", input_nc=3):
        super().__init__()
        self.blocked = use_blocked(kernels)
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
        if self.blocked:
            x, modulation, slope = x.transpose([0, 2, 3, 1]), None, 1.0
            for i in range(1, 7):
                x, modulation = conv_norm_rows(x, modulation, slope, getattr(self, f"layer{i}"))
                slope = SLOPE
            x = cpu.modulate(x, modulation, SLOPE).transpose([0, 3, 1, 2]).flatten(1)
            return self.fc_mu(x), self.fc_var(x)
        x = self.layer1(x)  # [N, ngf, 128, 128]
        for i in range(2, 7):
            x = getattr(self, f"layer{i}")(leaky_relu(x))
        x = leaky_relu(x).flatten(1)  # [N, 8*ngf*4*4]
        return self.fc_mu(x), self.fc_var(x)


def define_E(opt):
    """The encoder that `opt` asks for, initialised."""
    net = ConvEncoder(opt.ngf, opt.z_dim, opt.norm_E, opt.kernels, opt.output_nc)
    return initialize(net, opt.init_type, opt.init_variance)
