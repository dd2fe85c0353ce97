"""VGG19's convolutions up to relu5_1, for the perceptual loss (Simonyan & Zisserman 2014, table 1, column E)."""

import paddle
import paddle.nn.functional as F
from paddle import nn

from model.convolution import Conv2D
from model.ops import cpu
from model.ops.cpu import use_blocked

# Output channels of each 3x3 convolution; "M" is a 2x2 max pooling. Cut behind conv5_1, the last one used.
LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)


class VGG19(nn.Layer):
    """Features relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 with torchvision's parameter names `features.N.*`.

    The weights are constants: no gradient reaches them, only the image. Fill them with
    `model.weights.files.load_official`.
    """

    def __init__(self, kernels="auto"):
        super().__init__()
        self.blocked = use_blocked(kernels)
        if self.blocked:
            self.distances = self.blocked_distances  # what `perceptual_loss` looks for
        modules, channels = [], 3
        for width in LAYERS:
            if width == "M":
                modules.append(nn.MaxPool2D(2, 2))
                continue
            modules += [Conv2D(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        self.features = nn.LayerList(modules)
        for p in self.parameters():
            p.stop_gradient = True
        self.eval()

    def forward(self, image):
        """
        Args:
            image: [N,3,H,W] in [-1,1]; the released code feeds it so, without ImageNet's mean and deviation.

        Returns:
            [N,64,H,W], [N,128,H/2,W/2], [N,256,H/4,W/4], [N,512,H/8,W/8], [N,512,H/16,W/16].
        """
        return [F.relu(f) for f in self.raw(image)]

    def raw(self, image):
        """The five features before their ReLU, [N,C,h,w]."""
        if self.blocked:
            return [f.transpose([0, 3, 1, 2]) for f in self.raw_rows(image.transpose([0, 2, 3, 1]))]
        return self.walk(
            image, lambda x, conv, slope: conv(F.relu(x) if slope == 0 else x), lambda x: F.max_pool2d(x, 2)
        )

    def raw_rows(self, x):
        """The same in blocked form, [N,H,W,C] in and out."""
        return self.walk(x, lambda x, conv, slope: cpu.conv(x, conv, slope=slope), pool_rows)

    def walk(self, x, convolve, pool):
        """Apply the layers; ReLUs are left to the next convolution (the maximum of ReLUs is the ReLU of the maximum).

        Args:
            convolve: (x, conv, slope) -> conv(leaky ReLU of that slope).
            pool: x -> 2x2 maxima.
        """
        outputs, slope, first_of_stage = [], 1.0, True
        for module in self.features:
            if isinstance(module, nn.MaxPool2D):
                x, first_of_stage = pool(x), True
            elif isinstance(module, Conv2D):
                x, slope = convolve(x, module, slope), 0.0
                if first_of_stage:
                    outputs.append(x)
                    first_of_stage = False
        return outputs

    def blocked_distances(self, fake, real):
        """Mean absolute differences of the five features, 0-d tensors; `real` gets no gradient."""
        fake, real = (t.transpose([0, 2, 3, 1]) for t in (fake, real))
        with paddle.no_grad():
            targets = self.raw_rows(real)
        return [cpu.ReluDistance.apply(f, t) for f, t in zip(self.raw_rows(fake), targets, strict=True)]


def pool_rows(x):
    """2x2 maxima of [N,H,W,C]."""
    return cpu.MaxPool.apply(x)
