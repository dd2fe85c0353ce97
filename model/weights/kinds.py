"""Which network a set of named arrays belongs to, and with which options it was built.

Shapes and names say nearly everything: the released SPADE checkpoints carry no options, so a user would otherwise have
to know them. What cannot be told from weights is said in `Found.notes`.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import paddle

from model.discriminator import MultiscaleDiscriminator
from model.encoder import ConvEncoder
from model.errors import UserError
from model.generator import SPADEGenerator
from model.judges.deeplab import DeepLabV2
from model.judges.inception import FIDInception
from model.options import OPT
from model.vgg import VGG19
from model.weights.mindspore_file import from_mindspore

# The convolutions up to relu5_1 of torchvision's vgg19, all that the perceptual loss uses; the names of its others; and
# the convolutions as PaddleClas and the earlier Paddle reproduction name them.
VGG_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
VGG_UNUSED = r"(features\.(30|32|34)|classifier\.[036])\.(weight|bias)$"
VGG_BLOCKS = [f"_conv_block_{b + 1}._conv_{c + 1}" for b, n in enumerate((2, 2, 4, 4, 1)) for c in range(n)]

_NONE = r"(?!)"  # matches no name
SEMANTICS = ("label_nc", "contain_dontcare_label", "no_instance")  # how the channels of the semantics divide
# Channels of the semantics of each data set: classes, unknown class, instance edges.
KNOWN_SEMANTICS = {
    opt.semantic_nc: (name, {k: getattr(opt, k) for k in SEMANTICS})
    for name in ("COCO-Stuff", "ADE20K", "Cityscapes", "Facades")
    for opt in [OPT.from_preset(name.lower().replace("-", "_"))]
}


@dataclass(frozen=True)
class Found:
    """Weights that were recognised.

    Args:
        kind: generator, discriminator, encoder, vgg19, inception or deeplab.
        source: the file's name, for messages.
        weights: {official name: array in torch's layout}.
        options: OPT fields (and other sizes) that the shapes tell.
        ignored: names of the file that the network does not need.
        notes: what a user should know about the conversion.
        construct: builds the empty network.
    """

    kind: str
    source: str
    weights: dict[str, np.ndarray]
    construct: Callable[[], paddle.nn.Layer]
    options: dict[str, object] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def parameters(self) -> int:
        """Numbers that training changes; statistics and spectral vectors are not counted."""
        counted = re.compile(r"\.(running_mean|running_var|num_batches_tracked|weight_u|weight_v)$")
        return sum(array.size for name, array in self.weights.items() if not counted.search(name))

    def differences(self, opt: OPT) -> dict[str, tuple[object, object]]:
        """{field of OPT: (what the shapes tell, its value in opt)} by which opt's network is not one of these weights.

        Batch and syncbatch norms have the same weights, and so have num_upsampling_layers normal and more. How the
        channels of the semantics divide is no matter of the weights, and of a start_size it is the number of cells.
        """

        def seen(name, value):
            if name.startswith("norm_"):
                return value.replace("syncbatch", "batch")
            if name == "num_upsampling_layers":
                return value == "most"
            return math.prod(value) if name == "start_size" else value

        fields = {k: (v, getattr(opt, k)) for k, v in self.options.items() if hasattr(opt, k) and k not in SEMANTICS}
        if self.kind == "discriminator" and sum(fields[k][0] - fields[k][1] for k in ("semantic_nc", "output_nc")) == 0:
            del fields["semantic_nc"], fields["output_nc"]  # of which it shows the sum
        return {k: pair for k, pair in fields.items() if seen(k, pair[0]) != seen(k, pair[1])}

    def advice(self, opt: OPT) -> str:
        """Which options of a run would fit these weights, for the message that opt's do not."""
        differ = self.differences(opt)
        channels, _ = differ.pop("semantic_nc", (None, None))
        cells, _ = differ.pop("start_size", (None, None))
        parts = [f"--{name} {str(value).lower()} (not {str(own).lower()})" for name, (value, own) in differ.items()]
        if channels:
            classes = channels - (opt.semantic_nc - opt.label_nc)
            fitting = [f"--label_nc {classes} with the other two as they are"] if classes > 0 else []
            if "label_nc" in self.options:
                fitting.append(" ".join(f"--{name} {str(self.options[name]).lower()}" for name in SEMANTICS))
            parts.append(
                f"maps of {channels} channels (not {opt.semantic_nc}), which are label_nc + 1 with "
                f"contain_dontcare_label + 1 without no_instance{': ' * bool(fitting)}{', or '.join(fitting)}"
            )
        if cells:
            parts.append(
                f"a first feature map of {math.prod(cells)} cells (not {math.prod(opt.start_size)}), as crop_size and "
                "aspect_ratio make it"
            )
        return f"these weights fit {'; '.join(parts)}" if parts else "is the file complete?"


def recognise(arrays: Mapping[str, np.ndarray], layout: str, source: str) -> Found:
    """Tell what network weights are of, and bring them to official names and torch layouts.

    Args:
        arrays: what `read_weights` returned.
        layout: "torch", "paddle" (Linear weights transposed) or "mindspore" (its own names too).
        source: the file's name, for messages.

    Raises:
        UserError: nothing known, more than one network, or a network that only looks like ours.
    """
    arrays = _with_usual_names(arrays, source)
    _refuse_earlier_reproduction(arrays, source)
    helpers = {name for name in arrays if _HELPERS.match(name)}
    candidates = dict.fromkeys(
        (kind, name.removesuffix(probe))
        for kind, (probe, _, _) in KINDS.items()
        for name in arrays
        if f".{name}".endswith(f".{probe}") and name not in helpers
    )
    if not candidates:
        some = ", ".join(list(arrays)[:4])
        raise UserError(
            f"{source}: these names ({some}, ...) belong to no network known here; expected SPADE's generator, "
            "discriminator or encoder, torchvision's VGG19, the FID Inception or DeepLabV2"
        )
    if len(candidates) > 1:
        what = ", ".join(f"{kind} ({prefix or 'no prefix'})" for kind, prefix in candidates)
        raise UserError(f"{source} holds several networks: {what}; save the one that is wanted in a file of its own")
    ((kind, prefix),) = candidates
    _, unneeded, fitted = KINDS[kind]
    mine = {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix) and n not in helpers}
    ignored = [name for name in arrays if not name.startswith(prefix) or name in helpers]
    if layout == "paddle":
        # In all of these networks a matrix is a Linear's weight, and nothing else is.
        mine = {name: value.T if value.ndim == 2 else value for name, value in mine.items()}
    if layout == "mindspore":
        mine, constants = from_mindspore(mine, source)
        ignored += constants
    ignored += [name for name in mine if re.match(unneeded, name)]
    found = fitted({name: value for name, value in mine.items() if not re.match(unneeded, name)}, source)
    notes = [f"prefix {prefix!r} removed"] if prefix else []
    return replace(found, ignored=ignored, notes=notes + found.notes)


# Optimisers keep arrays under the parameters' names, early synchronised batch norms sums beside the statistics.
_HELPERS = re.compile(r"(moment[12]|vhat|adam_[mv])\.|.*\._(tmp_running_mean|tmp_running_var|running_iter)$")
# torch.nn.utils.parametrizations.spectral_norm's names for what torch.nn.utils.spectral_norm, which the official names
# come from, calls weight_orig, weight_u and weight_v. Values and meaning are the same.
_PARAMETRIZED = re.compile(r"parametrizations\.weight\.(original|0\._[uv])$")
_USUAL = {"original": "weight_orig", "0._u": "weight_u", "0._v": "weight_v"}


def _with_usual_names(arrays: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Arrays without the names that today's PyTorch adds: spectral norm as a parametrization, and torch.compile's."""
    usual = {}
    for name, value in arrays.items():
        short = _PARAMETRIZED.sub(lambda match: _USUAL[match[1]], name.replace("_orig_mod.", ""))
        if short in usual:
            raise UserError(f"{source}: {name} is there a second time under another name; save one network alone")
        if re.search(r"(^|\.)parametrizations\.", short):
            raise UserError(
                f"{source}: {name} is a parametrization other than spectral norm, which no network here has: remove it "
                "with torch.nn.utils.parametrize.remove_parametrizations and save again"
            )
        usual[short] = value
    return usual


def _refuse_earlier_reproduction(arrays: Mapping[str, np.ndarray], source: str) -> None:
    signs = {"generator": r".*\.(spade|act_conv)_[01s]\.", "discriminator": r"nld_\d+\."}
    if "fc_mu.weight" in arrays:
        signs["encoder"] = r"model\.0\."
    for what, sign in signs.items():
        if any(re.match(sign, name) for name in arrays):
            raise UserError(
                f"{source} is the {what} of the earlier Paddle reproduction (or of PaddleGAN's photopen), another "
                "network: GELU for ReLU, SimAM attention, other layers; its weights would compute nonsense in SPADE. "
                "Run them with the code that they come from, or compare pictures with tools/evaluate.py"
            )


def _entry(arrays: Mapping[str, np.ndarray], name: str, source: str, dimensions: int) -> np.ndarray:
    if name not in arrays or arrays[name].ndim != dimensions:
        state = "is missing" if name not in arrays else f"has the shape {list(arrays[name].shape)}"
        raise UserError(f"{source}: {name} {state}, so the network's options cannot be told; is the file complete?")
    return arrays[name]


def _semantics(channels: int) -> tuple[dict[str, object], list[str]]:
    if channels not in KNOWN_SEMANTICS:
        parts = "label_nc + 1 with contain_dontcare_label + 1 without no_instance"
        return {"semantic_nc": channels}, [f"semantic_nc {channels} = {parts}; how it divides is not in the weights"]
    dataset, options = KNOWN_SEMANTICS[channels]
    note = f"semantic_nc {channels} is taken for {dataset}"
    if dataset == "ADE20K":
        note += "; its labels 0..150 stay as they are, 0 (unknown) is channel 0"
    return {"semantic_nc": channels, **options}, [note]


def _conv_norm(arrays: Mapping[str, np.ndarray], layer: str) -> str:
    """The norm string of a convolution of D or E."""
    spectral = "spectral" if any(f"{layer}{inner}.weight_orig" in arrays for inner in ("", ".0")) else ""
    if f"{layer}.weight" in arrays or f"{layer}.weight_orig" in arrays:
        return spectral + "none"
    return spectral + ("batch" if f"{layer}.1.running_mean" in arrays else "instance")


def _generator(arrays, source) -> Found:
    _, semantic_nc, kernel, _ = _entry(arrays, "head_0.norm_0.mlp_shared.0.weight", source, 4).shape
    output_nc, ngf, _, _ = _entry(arrays, "conv_img.weight", source, 4).shape
    options, notes = _semantics(semantic_nc)
    depth = "most" if "up_4.conv_1.bias" in arrays else "normal"
    if depth == "most":
        ngf *= 2
    else:
        notes.append("num_upsampling_layers normal and more have the same weights")
    spectral = "spectral" if "head_0.conv_0.weight_orig" in arrays else ""
    norm = "instance"
    if "head_0.norm_0.param_free_norm.running_mean" in arrays:
        norm = "syncbatch"
        notes.append("batch and syncbatch have the same weights")
    norm = f"{spectral}spade{norm}{kernel}x{kernel}"
    fc = arrays.get("fc.weight")
    z_dim, start, use_vae = None, (1, 1), fc is not None and fc.ndim == 2
    options |= {"ngf": ngf, "output_nc": output_nc, "num_upsampling_layers": depth, "norm_G": norm, "use_vae": use_vae}
    if use_vae:
        z_dim, cells = fc.shape[1], fc.shape[0] // (16 * ngf)
        sizes = [(round(w / a), w) for a in (1, 2, 0.5) for w in range(1, cells + 1) if round(w / a) * w == cells]
        start = sizes[0] if sizes else (1, cells)
        options |= {"z_dim": z_dim, "start_size": start}
        notes.append(f"the first feature map has {cells} cells, taken for {start[0]}x{start[1]}")
    else:
        notes.append("without VAE the picture's size is not in the weights")
    construct = partial(SPADEGenerator, semantic_nc, start, ngf, norm, depth, z_dim, output_nc)
    return Found("generator", source, arrays, construct, options, notes=notes)


def _discriminator(arrays, source) -> Found:
    ndf, channels, _, _ = _entry(arrays, "discriminator_0.model0.0.weight", source, 4).shape
    num_D = len({name.split(".")[0] for name in arrays})
    layers = max(int(m[1]) for name in arrays if (m := re.match(r"discriminator_0\.model(\d+)\.", name)))
    norm = _conv_norm(arrays, "discriminator_0.model1.0") if layers > 1 else "spectralinstance"
    output_nc = 1 if channels - 1 in KNOWN_SEMANTICS and channels - 3 not in KNOWN_SEMANTICS else 3
    semantic_nc = channels - output_nc
    options, notes = _semantics(semantic_nc)
    notes.append(f"{channels} channels are taken for {semantic_nc} of the maps and {output_nc} of the picture")
    options |= {"output_nc": output_nc, "ndf": ndf, "num_D": num_D, "n_layers_D": layers, "norm_D": norm}
    construct = partial(MultiscaleDiscriminator, semantic_nc, output_nc, ndf, num_D, layers, norm)
    return Found("discriminator", source, arrays, construct, options, notes=notes)


def _encoder(arrays, source) -> Found:
    z_dim = len(_entry(arrays, "fc_mu.weight", source, 2))
    norm = _conv_norm(arrays, "layer1")
    inner = "layer1" if norm.endswith("none") else "layer1.0"
    leaf = "weight_orig" if norm.startswith("spectral") else "weight"
    ngf, input_nc, _, _ = _entry(arrays, f"{inner}.{leaf}", source, 4).shape
    options = {"ngf": ngf, "z_dim": z_dim, "norm_E": norm, "output_nc": input_nc}
    return Found("encoder", source, arrays, partial(ConvEncoder, ngf, z_dim, norm, input_nc=input_nc), options)


def _vgg(arrays, source) -> Found:
    if any(name.endswith("running_mean") for name in arrays):
        raise UserError(f"{source} is a VGG with batch norm; the perceptual loss needs torchvision's plain vgg19")
    if "features.16.weight" not in arrays or "features.17.weight" in arrays:
        raise UserError(f"{source} is not VGG19 (another VGG has other layers); get torchvision's vgg19")
    return Found("vgg19", source, arrays, VGG19)


def _vgg_paddle(arrays, source) -> Found:
    weights, notes = {}, []
    for index, block in zip(VGG_CONVOLUTIONS, VGG_BLOCKS, strict=True):
        weight = _entry(arrays, f"{block}.weight", source, 4)
        weights[f"features.{index}.weight"] = weight
        weights[f"features.{index}.bias"] = arrays.get(f"{block}.bias", np.zeros(len(weight), np.float32))
    if f"{VGG_BLOCKS[0]}.bias" not in arrays:
        notes.append("this VGG19 has no biases (zeros are used): it is Paddle's, not torchvision's as in the paper")
    return Found("vgg19", source, weights, VGG19, notes=notes)


def _inception(arrays, source) -> Found:
    classes = len(_entry(arrays, "fc.weight", source, 2))
    if classes != 1008:
        raise UserError(
            f"{source} is an Inception v3 with {classes} classes; FID is defined by the one of 2015-12-05 with 1008, "
            "pt_inception-2015-12-05-6726825d.pth"
        )
    return Found("inception", source, arrays, FIDInception)


def _deeplab(arrays, source) -> Found:
    weights = {"base." + re.sub(r"^aspp\.stages\.", "aspp.", name): value for name, value in arrays.items()}
    classes = len(_entry(weights, "base.aspp.c0.weight", source, 4))
    return Found("deeplab", source, weights, partial(DeepLabV2, classes), {"classes": classes})


# kind: (a name that ends one name of every such file, names that the network does not need, the function that reads the
# sizes). DeepLab's multi-scale wrapper gives the prefix `base.`, and gave `scale.` in older files: it is cut like
# `module.` and put back.
KINDS = {
    "generator": ("conv_img.weight", _NONE, _generator),
    "discriminator": ("discriminator_0.model0.0.weight", _NONE, _discriminator),
    "encoder": ("fc_mu.weight", _NONE, _encoder),
    "vgg19": ("features.0.weight", VGG_UNUSED, _vgg),
    "vgg19 of Paddle": (f"{VGG_BLOCKS[0]}.weight", rf"(?!({'|'.join(VGG_BLOCKS)})\.(weight|bias)$)", _vgg_paddle),
    "inception": ("Mixed_7c.branch_pool.conv.weight", r"AuxLogits\.", _inception),
    "deeplab": ("aspp.c0.weight", _NONE, _deeplab),
    "deeplab, older": ("aspp.stages.c0.weight", _NONE, _deeplab),
}
