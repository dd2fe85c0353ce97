"""VGG19's convolutions up to relu5_1, for the perceptual loss (Simonyan & Zisserman 2014, table 1, column E)."""

import paddle.nn.functional as F
from paddle import nn

from model.convolution import Conv2D

# Output channels of each 3x3 convolution; "M" is a 2x2 max pooling. Cut behind conv5_1, the last one used.
LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)


class VGG19(nn.Layer):
    """Features relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 with torchvision's parameter names `features.N.*`.

    The weights are constants: no gradient reaches them, only the image. Fill them with
    `model.weights.load_official`.
    """

    def __init__(self):
        super().__init__()
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
        outputs, x, first_of_stage = [], image, True
        for module in self.features:
            x = F.relu(x) if isinstance(module, nn.ReLU) else module(x)
            if isinstance(module, nn.ReLU) and first_of_stage:
                outputs.append(x)
                first_of_stage = False
            elif isinstance(module, nn.MaxPool2D):
                first_of_stage = True
        return outputs
