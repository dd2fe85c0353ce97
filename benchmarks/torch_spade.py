"""SPADE in plain PyTorch: the baseline that this project's speed and memory are compared with.

Written from the paper (SPADE, CVPR 2019, arXiv 1903.07291) the way such code is usually run: NCHW, a one-hot label map
resized in every SPADE layer, `nn.Conv2d` for every convolution, the training step in the released code's order. It
takes no short cuts. Parameter names are the official ones, so the same weights go into both implementations. `opt` is
anything with the fields of `model.OPT`.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

UPSAMPLINGS = {"normal": 5, "more": 6, "most": 7}
VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
LOSS_NAMES = ("g_loss_gan", "g_loss_feat", "g_loss_vgg", "g_loss_vae", "d_loss", "d_loss_f", "d_loss_r")


def semantic_channels(opt) -> int:
    """Channels of the one-hot map: classes, the unknown class and the instance edges, as far as `opt` has them."""
    return opt.label_nc + int(opt.contain_dontcare_label) + int(not opt.no_instance)


def one_hot_semantics(label, instance, opt) -> Tensor:
    """One-hot label map and instance edges.

    Args:
        label: integer array or tensor [N, H, W]; the unknown class is `opt.label_nc`.
        instance: integer array or tensor [N, H, W]; not read when `opt.no_instance`.

    Returns:
        float32 [N, semantic_channels(opt), H, W], the edges in the last channel.
    """
    label = torch.as_tensor(np.asarray(label).astype(np.int64)).unsqueeze(1)
    classes = opt.label_nc + int(opt.contain_dontcare_label)
    n, _, h, w = label.shape
    one_hot = torch.zeros(n, classes, h, w).scatter_(1, label, 1.0)
    if opt.no_instance:
        return one_hot
    ids = torch.as_tensor(np.asarray(instance).astype(np.int64)).unsqueeze(1)
    edges = torch.zeros(ids.shape, dtype=torch.bool)
    horizontal = ids[..., :, 1:] != ids[..., :, :-1]
    vertical = ids[..., 1:, :] != ids[..., :-1, :]
    edges[..., :, 1:] |= horizontal
    edges[..., :, :-1] |= horizontal
    edges[..., 1:, :] |= vertical
    edges[..., :-1, :] |= vertical
    return torch.cat([one_hot, edges.float()], dim=1)


class SPADE(nn.Module):
    """Normalise without parameters, then scale and shift by maps predicted from the labels (section 3.1, eq. 1)."""

    def __init__(self, channels: int, semantic_nc: int, norm: str = "syncbatch", kernel_size: int = 3):
        super().__init__()
        norms = {"syncbatch": nn.BatchNorm2d, "batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}
        self.param_free_norm = norms[norm](channels, affine=False)
        hidden, pad = 128, kernel_size // 2
        self.mlp_shared = nn.Sequential(nn.Conv2d(semantic_nc, hidden, kernel_size, padding=pad), nn.ReLU(inplace=True))
        self.mlp_gamma = nn.Conv2d(hidden, channels, kernel_size, padding=pad)
        self.mlp_beta = nn.Conv2d(hidden, channels, kernel_size, padding=pad)

    def gamma_beta(self, seg: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        hidden = self.mlp_shared(F.interpolate(seg, size=size, mode="nearest"))
        return self.mlp_gamma(hidden), self.mlp_beta(hidden)

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        gamma, beta = self.gamma_beta(seg, x.shape[2:])
        return self.param_free_norm(x) * (1 + gamma) + beta


class SPADEResnetBlock(nn.Module):
    """Two SPADE-LeakyReLU-convolution groups and a shortcut, learned where the width changes (figure 4)."""

    def __init__(self, fin: int, fout: int, norm_G: str, semantic_nc: int):
        super().__init__()
        found = re.fullmatch(r"(spectral)?spade(batch|syncbatch|instance)(\d+)x\3", norm_G)
        if found is None:
            raise ValueError(f"norm_G {norm_G!r} is not of the form [spectral]spade(batch|syncbatch|instance)NxN")
        spectral, norm, kernel_size = found[1], found[2], int(found[3])
        wrap = spectral_norm if spectral else nn.Identity()
        middle = min(fin, fout)
        self.learned_shortcut = fin != fout
        self.conv_0 = wrap(nn.Conv2d(fin, middle, 3, padding=1))
        self.conv_1 = wrap(nn.Conv2d(middle, fout, 3, padding=1))
        self.norm_0 = SPADE(fin, semantic_nc, norm, kernel_size)
        self.norm_1 = SPADE(middle, semantic_nc, norm, kernel_size)
        if self.learned_shortcut:
            self.conv_s = wrap(nn.Conv2d(fin, fout, 1, bias=False))
            self.norm_s = SPADE(fin, semantic_nc, norm, kernel_size)

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        shortcut = self.conv_s(self.norm_s(x, seg)) if self.learned_shortcut else x
        dx = self.conv_0(F.leaky_relu(self.norm_0(x, seg), 0.2))
        dx = self.conv_1(F.leaky_relu(self.norm_1(dx, seg), 0.2))
        return shortcut + dx


class SPADEGenerator(nn.Module):
    """Semantics (and a style vector) to an image (section 3.2, appendix A).

    `forward(seg [N, semantic_nc, H, W], z [N, z_dim] or None)` gives float32 [N, output_nc, H, W] in [-1, 1].
    """

    def __init__(self, opt):
        super().__init__()
        if opt.num_upsampling_layers not in UPSAMPLINGS:
            raise ValueError(f"num_upsampling_layers {opt.num_upsampling_layers!r} is not one of {list(UPSAMPLINGS)}")
        nf, seg_nc = opt.ngf, semantic_channels(opt)
        self.depth, self.use_vae, self.z_dim = opt.num_upsampling_layers, opt.use_vae, opt.z_dim
        width = opt.crop_size // 2 ** UPSAMPLINGS[self.depth]
        self.start_size = (round(width / opt.aspect_ratio), width)

        def block(fin: int, fout: int) -> SPADEResnetBlock:
            return SPADEResnetBlock(fin, fout, opt.norm_G, seg_nc)

        if opt.use_vae:
            self.fc = nn.Linear(opt.z_dim, 16 * nf * self.start_size[0] * self.start_size[1])
        else:
            self.fc = nn.Conv2d(seg_nc, 16 * nf, 3, padding=1)
        self.head_0 = block(16 * nf, 16 * nf)
        self.G_middle_0 = block(16 * nf, 16 * nf)
        self.G_middle_1 = block(16 * nf, 16 * nf)
        self.up_0 = block(16 * nf, 8 * nf)
        self.up_1 = block(8 * nf, 4 * nf)
        self.up_2 = block(4 * nf, 2 * nf)
        self.up_3 = block(2 * nf, nf)
        if self.depth == "most":
            self.up_4 = block(nf, nf // 2)
        self.conv_img = nn.Conv2d(nf // 2 if self.depth == "most" else nf, opt.output_nc, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, seg: Tensor, z: Tensor | None = None) -> Tensor:
        if self.use_vae:
            if z is None:
                z = torch.randn(len(seg), self.z_dim)
            x = self.fc(z).view(len(seg), -1, *self.start_size)
        else:
            x = self.fc(F.interpolate(seg, size=self.start_size, mode="nearest"))
        x = self.up(self.head_0(x, seg))
        x = self.G_middle_0(x, seg)
        if self.depth != "normal":
            x = self.up(x)
        x = self.up(self.G_middle_1(x, seg))
        x = self.up(self.up_0(x, seg))
        x = self.up(self.up_1(x, seg))
        x = self.up(self.up_2(x, seg))
        x = self.up_3(x, seg)
        if self.depth == "most":
            x = self.up_4(self.up(x), seg)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))


def normalised_conv(norm: str, *args, **kwargs) -> nn.Sequential:
    """A convolution under `norm` ("spectralinstance", "instance", "spectralbatch", "spectral", ...): [conv, norm]."""
    found = re.fullmatch(r"(spectral)?(instance|batch|none)?", norm)
    if found is None:
        raise ValueError(f"norm {norm!r} is not of the form [spectral][instance|batch|none]")
    layers = {"instance": nn.InstanceNorm2d, "batch": nn.BatchNorm2d}
    layer = layers.get(found[2])
    conv = nn.Conv2d(*args, **kwargs, bias=layer is None)
    modules = [spectral_norm(conv) if found[1] else conv]
    if layer is not None:
        modules.append(layer(conv.out_channels, affine=found[2] == "batch"))
    return nn.Sequential(*modules)


class ConvEncoder(nn.Module):
    """An image's style: mean and log variance, each [N, z_dim] (section 3.2, appendix A, figure 14)."""

    def __init__(self, opt):
        super().__init__()
        widths = [3] + [opt.ngf * k for k in (1, 2, 4, 8, 8, 8)]
        for i, (fin, fout) in enumerate(zip(widths, widths[1:], strict=False), 1):
            setattr(self, f"layer{i}", normalised_conv(opt.norm_E, fin, fout, 3, stride=2, padding=1))
        self.fc_mu = nn.Linear(widths[-1] * 4 * 4, opt.z_dim)
        self.fc_var = nn.Linear(widths[-1] * 4 * 4, opt.z_dim)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if image.shape[2:] != (256, 256):
            image = F.interpolate(image, size=(256, 256), mode="bilinear")
        x = self.layer1(image)
        for i in range(2, 7):
            x = getattr(self, f"layer{i}")(F.leaky_relu(x, 0.2))
        x = F.leaky_relu(x, 0.2).flatten(1)
        return self.fc_mu(x), self.fc_var(x)


class NLayerDiscriminator(nn.Module):
    """PatchGAN on the concatenation of semantics and image (appendix A, figure 13); gives every layer's output."""

    def __init__(self, opt):
        super().__init__()
        self.n_layers = opt.n_layers_D
        fin = semantic_channels(opt) + opt.output_nc
        first = nn.Conv2d(fin, opt.ndf, 4, stride=2, padding=2)
        self.model0 = nn.Sequential(first, nn.LeakyReLU(0.2, inplace=True))
        width = opt.ndf
        for n in range(1, self.n_layers):
            fin, width = width, min(opt.ndf * 2**n, 512)
            stride = 1 if n == self.n_layers - 1 else 2
            conv = normalised_conv(opt.norm_D, fin, width, 4, stride=stride, padding=2)
            setattr(self, f"model{n}", nn.Sequential(conv, nn.LeakyReLU(0.2, inplace=True)))
        setattr(self, f"model{self.n_layers}", nn.Sequential(nn.Conv2d(width, 1, 4, padding=2)))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for n in range(self.n_layers + 1):
            x = getattr(self, f"model{n}")(x)
            outputs.append(x)
        return outputs


class MultiscaleDiscriminator(nn.Module):
    """`num_D` discriminators, each on the half-size input of the one before: num_D lists of n_layers_D + 1 tensors."""

    def __init__(self, opt):
        super().__init__()
        self.num_D = opt.num_D
        for i in range(opt.num_D):
            setattr(self, f"discriminator_{i}", NLayerDiscriminator(opt))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        scales = []
        for i in range(self.num_D):
            if i > 0:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            scales.append(getattr(self, f"discriminator_{i}")(x))
        return scales


class VGG19(nn.Module):
    """VGG19 up to relu5_1, frozen: relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 of an image in [-1, 1]."""

    TAPS = (1, 6, 11, 20, 29)

    def __init__(self):
        super().__init__()
        layers, fin = [], 3
        for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512):
            if width == 0:
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(fin, width, 3, padding=1), nn.ReLU(inplace=True)]
                fin = width
        self.features = nn.Sequential(*layers)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.TAPS:
                outputs.append(x)
        return outputs


def gan_loss(scales: Sequence[Sequence[Tensor]], real: bool, mode: str, for_discriminator: bool = True) -> Tensor:
    """Adversarial loss of the last output of every scale, averaged over the scales."""

    def one(x: Tensor) -> Tensor:
        sign = 1.0 if real else -1.0
        if mode == "hinge":
            return F.relu(1 - sign * x).mean() if for_discriminator else -x.mean()
        if mode == "ls":
            return F.mse_loss(x, torch.full_like(x, float(real)))
        if mode == "original":
            return F.binary_cross_entropy_with_logits(x, torch.full_like(x, float(real)))
        if mode == "w":
            return -sign * x.mean()
        raise ValueError(f"gan_mode {mode!r} is not one of hinge, ls, original, w")

    return sum(one(scale[-1]) for scale in scales) / len(scales)


def feature_matching_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 distance of all discriminator features but the predictions, summed over layers, averaged over scales."""
    total = 0.0
    for fake_scale, real_scale in zip(fake, real, strict=True):
        for a, b in zip(fake_scale[:-1], real_scale[:-1], strict=True):
            total = total + F.l1_loss(a, b.detach())
    return total / len(fake)


def perceptual_loss(vgg: nn.Module, fake: Tensor, real: Tensor) -> Tensor:
    """Weighted L1 distance of VGG features."""
    pairs = zip(VGG_WEIGHTS, vgg(fake), vgg(real), strict=True)
    return sum(weight * F.l1_loss(a, b.detach()) for weight, a, b in pairs)


def kld_loss(mu: Tensor, logvar: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the encoder's Gaussian from the standard one, summed over batch and dimensions."""
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def initialise(net: nn.Module, gain: float) -> nn.Module:
    """Xavier-normal weights and zero biases for every convolution and linear layer."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(getattr(module, "weight_orig", module.weight), gain=gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def load_arrays(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """Load {official name: torch-layout array}, strictly; returns `net`."""
    net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    return net


class TorchTrainer:
    """Networks, optimisers and one training step (section 4, appendix A), in the released code's order.

    Args:
        opt: options; `lr`, `beta1`, `beta2`, `no_TTUR`, `lambda_*`, `gan_mode` and the networks' fields are read.
        vgg: the network of the perceptual loss, or None for none.
    """

    def __init__(self, opt, vgg: nn.Module | None = None):
        self.opt, self.vgg = opt, vgg
        self.G = initialise(SPADEGenerator(opt), opt.init_variance)
        self.D = initialise(MultiscaleDiscriminator(opt), opt.init_variance)
        self.E = initialise(ConvEncoder(opt), opt.init_variance) if opt.use_vae else None
        lr_G, lr_D = (opt.lr, opt.lr) if opt.no_TTUR else (opt.lr / 2, opt.lr * 2)
        betas = (opt.beta1, opt.beta2)
        params_G = list(self.G.parameters()) + (list(self.E.parameters()) if self.E is not None else [])
        self.optimizer_G = torch.optim.Adam(params_G, lr=lr_G, betas=betas)
        self.optimizer_D = torch.optim.Adam(self.D.parameters(), lr=lr_D, betas=betas)

    def sample_noise(self, shape: tuple[int, int]) -> Tensor:
        """Standard normal style noise."""
        return torch.randn(shape)

    def encode(self, image: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """A sampled style and the divergence's two arguments; (None, 0, 0) without an encoder."""
        if self.E is None:
            return None, torch.zeros(()), torch.zeros(())
        mu, logvar = self.E(image)
        return self.sample_noise(tuple(mu.shape)) * torch.exp(0.5 * logvar) + mu, mu, logvar

    def discriminate(self, seg: Tensor, fake: Tensor, real: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Features of the fake and of the real images, computed in one batch."""
        both = torch.cat([torch.cat([seg, fake], dim=1), torch.cat([seg, real], dim=1)], dim=0)
        scales = self.D(both)
        n = len(fake)
        return [[t[:n] for t in scale] for scale in scales], [[t[n:] for t in scale] for scale in scales]

    def generator_step(self, seg: Tensor, image: Tensor) -> dict[str, Tensor]:
        """One update of G and E; the losses."""
        opt = self.opt
        z, mu, logvar = self.encode(image)
        fake = self.G(seg, z)
        on_fake, on_real = self.discriminate(seg, fake, image)
        losses = {"g_loss_gan": gan_loss(on_fake, True, opt.gan_mode, for_discriminator=False)}
        if not opt.no_ganFeat_loss:
            losses["g_loss_feat"] = feature_matching_loss(on_fake, on_real) * opt.lambda_feat
        if self.vgg is not None:
            losses["g_loss_vgg"] = perceptual_loss(self.vgg, fake, image) * opt.lambda_vgg
        if self.E is not None:
            losses["g_loss_vae"] = kld_loss(mu, logvar) * opt.lambda_kld
        self.optimizer_G.zero_grad()
        sum(losses.values()).backward()
        self.optimizer_G.step()
        return losses

    def discriminator_step(self, seg: Tensor, image: Tensor) -> dict[str, Tensor]:
        """One update of D on a new fake; the losses."""
        with torch.no_grad():
            z, _, _ = self.encode(image)
            fake = self.G(seg, z)
        on_fake, on_real = self.discriminate(seg, fake, image)
        loss_fake = gan_loss(on_fake, False, self.opt.gan_mode)
        loss_real = gan_loss(on_real, True, self.opt.gan_mode)
        loss = loss_fake + loss_real
        self.optimizer_D.zero_grad()
        loss.backward()
        self.optimizer_D.step()
        return {"d_loss": loss, "d_loss_f": loss_fake, "d_loss_r": loss_real}

    def step(self, batch: Mapping[str, object]) -> dict[str, float]:
        """One training step.

        Args:
            batch: image float32 [N, 3, H, W] in [-1, 1], label integer [N, H, W], instance integer [N, H, W] (not
                needed with `no_instance`); arrays or tensors.

        Returns:
            The seven losses by name; 0.0 for those that the options leave out.
        """
        for net in (self.G, self.D, self.E):
            if net is not None:
                net.train()
        seg = one_hot_semantics(batch["label"], batch.get("instance"), self.opt)
        image = torch.as_tensor(batch["image"])
        losses = {**self.generator_step(seg, image), **self.discriminator_step(seg, image)}
        return {name: losses[name].item() if name in losses else 0.0 for name in LOSS_NAMES}
