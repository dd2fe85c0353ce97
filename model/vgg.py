"""VGG19's convolutions up to relu5_1, for the perceptual loss (Simonyan & Zisserman 2014, table 1, column E)."""

from paddle import nn

from model.convolution import Conv2D
from model.ops import backend

# Output channels of each 3x3 convolution; "M" is a 2x2 max pooling. Cut behind conv5_1, the last one used.
LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)


class VGG19(nn.Layer):
    """Features relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 with torchvision's parameter names `features.N.*`.

    The weights are constants: no gradient reaches them, only the image. Fill them with
    `model.weights.files.load_official`.
    """

    def __init__(self, kernels="auto"):
        super().__init__()
        self.Map = backend(kernels)
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
        return [x.leave() for x in self.maps(image)]

    def maps(self, image):
        """`forward`'s features as `FeatureMap`s."""
        x, features, is_first = self.Map.enter(image), [], True
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2D):
                x, is_first = x.max_pooled(), True
            elif isinstance(layer, Conv2D):
                x = layer(x).activated(0)
                if is_first:
                    features.append(x)
                is_first = False
        return features
