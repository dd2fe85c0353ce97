"""`OPT`: every option of training with its meaning, range and source; presets, command line, yaml files.

The names are those of the released PyTorch code (`batchSize`, `norm_G`, ...). "Paper" is Park et al., Semantic Image
Synthesis with Spatially-Adaptive Normalization, CVPR 2019 (arXiv 1903.07291); "released code" is the authors'.
To change a default for good, edit its line in `OPT`: presets hold only what differs from these lines.
Paddle is not imported here, so that `--help` and mistakes answer at once.
"""

import argparse
import dataclasses
import difflib
import math
import numbers
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from model.errors import UserError
from model.files import replacing

# The order is that of --help and of the yaml file.
GROUPS = {
    "data": "where the pictures are and how they are cut to size",
    "networks": "generator, encoder and discriminator; fixed for a checkpoint's life",
    "losses": "terms of the objective and their weights",
    "optimisation": "learning rates, schedule, initialisation",
    "training": "how the steps are carried out",
    "output": "what is written, and how often",
}

PHOTO_MODES = {1: "L", 3: "RGB"}  # Pillow's names, by output_nc
NUM_UPSAMPLING = {"normal": 5, "more": 6, "most": 7}
PREPROCESS_MODES = (
    "resize_and_crop",
    "crop",
    "scale_width",
    "scale_width_and_crop",
    "scale_shortside",
    "scale_shortside_and_crop",
    "fixed",
    "none",
)
NORM_G = re.compile(r"(spectral)?spade(batch|syncbatch|instance)(3x3|5x5)")
NORM_DE = re.compile(r"(spectral)?(instance|batch|syncbatch|none)")


def parse_norm_g(text: str) -> tuple[bool, str, int]:
    """Split the generator's norm, such as `spectralspadesyncbatch3x3`.

    Returns:
        (spectral norm on the convolutions, parameter-free norm `batch|syncbatch|instance`, kernel size 3 or 5).

    Raises:
        UserError: the text is not of the form [spectral]spade{batch,syncbatch,instance}{3x3,5x5}.
    """
    match = NORM_G.fullmatch(text)
    if match is None:
        valid = [
            f"{s}spade{n}{k}"
            for s in ("spectral", "")
            for n in ("batch", "syncbatch", "instance")
            for k in ("3x3", "5x5")
        ]
        raise UserError(
            f"norm_G {text!r} is unknown: expected [spectral]spade{{batch,syncbatch,instance}}{{3x3,5x5}}"
            f"{_closest(text, valid)}"
        )
    return bool(match[1]), match[2], int(match[3][0])


def parse_norm(text: str, option: str = "norm") -> tuple[bool, str]:
    """Split the discriminator's or encoder's norm, such as `spectralinstance`.

    Returns:
        (spectral norm on the convolutions, norm `instance|batch|syncbatch|none`; instance has no parameters).

    Raises:
        UserError: the text is not of the form [spectral]{instance,batch,syncbatch,none}; `option` names it.
    """
    match = NORM_DE.fullmatch(text)
    if match is None:
        valid = [s + n for s in ("spectral", "") for n in ("instance", "batch", "syncbatch", "none")]
        raise UserError(
            f"{option} {text!r} is unknown: expected [spectral]{{instance,batch,syncbatch,none}}{_closest(text, valid)}"
        )
    return bool(match[1]), match[2]


def parse_ids(text: str) -> tuple[int, ...]:
    """The ids of the option unknown_ids, such as `0,255`, in their order.

    Raises:
        UserError: something between the commas is no whole number from 0 to 65535.
    """
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    for word in words:
        if not re.fullmatch("[0-9]{1,5}", word) or int(word) > 65535:
            raise UserError(
                f"unknown_ids {text!r}: {word!r} is no id: expected whole numbers 0..65535 with commas between"
            )
    return tuple(map(int, words))


def _closest(text: str, valid: Iterable[str], prefix: str = "") -> str:
    """'; did you mean X?' for the valid word nearest to the text, or nothing."""
    likeness = {
        word: difflib.SequenceMatcher(None, text.lower().replace("-", "_"), word.lower()).ratio() for word in valid
    }
    near = max(likeness, key=likeness.get, default=None)  # of several the first, which is the usual one
    return f"; did you mean {prefix}{near}?" if near is not None and likeness[near] >= 0.55 else ""


def _opt(
    default: Any,
    group: str,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A documented dataclass field: low <= value <= high, above < value < below, or one of the choices."""
    return field(
        default=default,
        metadata=dict(group=group, help=text, low=low, high=high, above=above, below=below, choices=tuple(choices)),
    )


def _range_text(meta: Mapping[str, Any]) -> str:
    """The valid values in words, '' when there is nothing to say."""
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    parts = [
        f"{word} {meta[key]}"
        for key, word in (("low", ">="), ("above", ">"), ("high", "<="), ("below", "<"))
        if meta[key] is not None
    ]
    return " and ".join(parts)


class _Checked:
    """What OPT and ValOPT share: values brought to their type and checked one by one when the object is made."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = _typed(f, getattr(self, f.name))
            object.__setattr__(self, f.name, value)  # the one write to a frozen object: 10 becomes 10.0
            _check_range(f, value)
        self._check_together()

    def _check_together(self) -> None:
        """Refuse values that are each valid and contradict each other."""


def _kinds(f: dataclasses.Field) -> tuple[type, ...]:
    return getattr(f.type, "__args__", (f.type,))


def _expected(f: dataclasses.Field) -> str:
    """The values of a field's type in words."""
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a finite number",
        str: "text (in a yaml file, put it in quotes)",
        type(None): "null",
    }
    return " or ".join(words[kind] for kind in _kinds(f))


def _typed(f: dataclasses.Field, value: Any) -> Any:
    """The value as its field's type; NumPy's numbers and paths are welcome, text that looks like a number is not."""
    kinds = _kinds(f)
    if value is None and type(None) in kinds:
        return None
    if bool in kinds and isinstance(value, bool):
        return value
    if int in kinds and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if float in kinds and isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    if str in kinds and isinstance(value, (str, os.PathLike)):
        if "\0" in str(value):
            raise UserError(f"{f.name} {value!r} holds a NUL character, which no name can")
        return os.fspath(value)
    raise UserError(f"{f.name} {value!r} is not {_expected(f)}")


def _check_range(f: dataclasses.Field, value: Any) -> None:
    meta = f.metadata
    if value is None:
        return
    if meta["choices"]:
        if value not in meta["choices"]:
            raise UserError(
                f"{f.name} {value!r} is unknown: expected {_range_text(meta)}{_closest(value, meta['choices'])}"
            )
        return
    if (
        (meta["low"] is not None and value < meta["low"])
        or (meta["above"] is not None and value <= meta["above"])
        or (meta["high"] is not None and value > meta["high"])
        or (meta["below"] is not None and value >= meta["below"])
    ):
        raise UserError(f"{f.name} {value} is out of range: expected {_range_text(meta)}")


@dataclass(frozen=True)
class OPT(_Checked):
    """All options of a training run; immutable (`dataclasses.replace` makes a changed copy), checked when made.

    The defaults are COCO-Stuff's. `OPT.from_preset("cityscapes", batchSize=4)` starts from another recipe.

    Raises:
        UserError: a value of the wrong type or out of its range, or values that contradict each other.
    """

    # data
    preset: str = _opt(
        "coco_stuff",
        "data",
        "recipe that the other options start from; in OPT(...) it is a note only, OPT.from_preset applies it",
        choices=("coco_stuff", "ade20k", "ade20k_mindspore", "cityscapes", "facades", "custom", "sample"),
    )
    dataset_mode: str = _opt(
        "coco_stuff",
        "data",
        "layout of the files on disk; alone on the command line it also "
        "chooses the preset of its name, as in the released code",
        choices=("coco_stuff", "ade20k", "cityscapes", "facades", "custom", "sample"),
    )
    dataroot: str = _opt("dataset/coco_stuff", "data", "folder of the data set")
    label_dir: str = _opt("", "data", "folder of the label maps, in place of dataset_mode's folders (custom has none)")
    image_dir: str = _opt("", "data", "folder of the photos that go with label_dir")
    instance_dir: str = _opt("", "data", "folder of the instance maps that go with label_dir; none with no_instance")
    palette: str = _opt(
        "",
        "data",
        "file that says which colour is which class, for label maps that hold colours: text with lines ID RED GREEN "
        "BLUE NAME, a JSON list of [red, green, blue] or of objects with color, name, id, or a palette PNG",
    )
    preprocess_mode: str = _opt(
        "resize_and_crop",
        "data",
        "how photo and maps get to size: resize_and_crop squashes "
        "to load_size x load_size, scale_* keep the shape, *crop cut out squares of crop_size, "
        "fixed resizes to crop_size wide and crop_size/aspect_ratio high, none rounds the "
        "sides to multiples of 32 (released code)",
        choices=PREPROCESS_MODES,
    )
    load_size: int = _opt(
        286, "data", "size in pixels that photos are scaled to before the crop (released code)", low=1
    )
    crop_size: int = _opt(
        256,
        "data",
        "width in pixels of the pictures that the networks see; a multiple of 32, 64 or "
        "128 as num_upsampling_layers is normal, more or most (paper, appendix A: 256; Cityscapes "
        "512)",
        low=1,
    )
    aspect_ratio: float = _opt(
        1.0, "data", "width over height of the generated pictures (paper, appendix A: 1; Cityscapes 2)", above=0
    )
    label_nc: int = _opt(
        182,
        "data",
        "number of classes in the label maps, ids 0..label_nc-1, without the unknown class (COCO-Stuff)",
        low=1,
    )
    contain_dontcare_label: bool = _opt(
        True,
        "data",
        "there is an unknown class, whose channel is label_nc: that of the ids unknown_ids and of label_nc itself "
        "(released code; ADE20K's is 0); in a custom data set on if its label maps hold these ids, unless given",
    )
    unknown_ids: str = _opt(
        "",
        "data",
        "ids in the label maps that mean unlabelled beside label_nc, such as 0,255; they turn on "
        "contain_dontcare_label; empty = 255, or 65535 where label_nc exceeds 255",
    )
    no_instance: bool = _opt(False, "data", "go without instance maps and their edge channel (released code)")
    no_flip: bool = _opt(False, "data", "do not mirror training pictures at random")
    serial_batches: bool = _opt(False, "data", "read the pictures in order, without shuffling")
    max_dataset_size: int | None = _opt(None, "data", "read at most so many pictures; null = all", low=1)
    nThreads: int = _opt(2, "data", "worker processes of the loader; 0 loads in the main process", low=0)

    # networks
    ngf: int = _opt(
        64,
        "networks",
        "channels of the generator's last block, 16 times as many in its first; of the "
        "encoder's first layer (paper, appendix A)",
        low=1,
    )
    ndf: int = _opt(64, "networks", "channels of the discriminator's first layer (paper, appendix A)", low=1)
    output_nc: int = _opt(
        3, "networks", "channels of the generated picture: 3 for colour, 1 for grey (released code)", low=1, high=3
    )
    norm_G: str = _opt(
        "spectralspadesyncbatch3x3",
        "networks",
        "generator's norm: [spectral]spade{batch,syncbatch,"
        "instance}{3x3,5x5}, the size is that of the modulation's convolutions (paper, section 3.1)",
    )
    norm_D: str = _opt(
        "spectralinstance",
        "networks",
        "discriminator's norm: [spectral]{instance,batch,syncbatch,none} (paper, appendix A)",
    )
    norm_E: str = _opt(
        "spectralinstance", "networks", "encoder's norm: [spectral]{instance,batch,syncbatch,none} (paper, appendix A)"
    )
    num_upsampling_layers: str = _opt(
        "normal",
        "networks",
        "times the generator doubles its size: normal 5, more 6, most 7 (and one more block) (released code)",
        choices=NUM_UPSAMPLING,
    )
    use_vae: bool = _opt(True, "networks", "learn an encoder that takes a style from a photo (paper, section 3.2)")
    z_dim: int = _opt(256, "networks", "length of the style vector (paper, appendix A)", low=0)
    num_D: int = _opt(2, "networks", "scales of the discriminator, each half as large (released code)", low=1)
    n_layers_D: int = _opt(4, "networks", "strided layers of each discriminator (released code)", low=1)

    # losses
    gan_mode: str = _opt(
        "hinge",
        "losses",
        "adversarial loss: hinge (paper, appendix A), least squares, the original cross entropy, or Wasserstein",
        choices=("hinge", "ls", "original", "w"),
    )
    no_ganFeat_loss: bool = _opt(False, "losses", "leave out the discriminator's feature matching loss")
    no_vgg_loss: bool = _opt(False, "losses", "leave out the perceptual loss; needs no VGG weights then")
    lambda_feat: float = _opt(10.0, "losses", "weight of feature matching (paper, appendix A)", low=0)
    lambda_vgg: float = _opt(10.0, "losses", "weight of the perceptual loss (paper, appendix A)", low=0)
    lambda_kld: float = _opt(0.05, "losses", "weight of the encoder's KL divergence (paper, appendix A)", low=0)
    vgg_path: str = _opt(
        "vgg/vgg19pretrain.pdparams",
        "losses",
        "VGG19 weights: .pdparams, or torchvision's vgg19 as .pth or .safetensors",
    )

    # optimisation
    lr: float = _opt(
        2e-4,
        "optimisation",
        "base learning rate of Adam; G gets half of it and D double, unless no_TTUR (paper, section 4: 1e-4 and 4e-4)",
        above=0,
    )
    beta1: float = _opt(
        0.0,
        "optimisation",
        "Adam's beta1 (paper, section 4); with no_TTUR on the command line 0.5 unless given (released code)",
        low=0,
        below=1,
    )
    beta2: float = _opt(
        0.9,
        "optimisation",
        "Adam's beta2 (released code; the paper's text says 0.999); with no_TTUR "
        "on the command line 0.999 unless given (released code)",
        low=0,
        below=1,
    )
    no_TTUR: bool = _opt(False, "optimisation", "same learning rate for G and D, not the two time-scale rule")
    G_lr: float | None = _opt(None, "optimisation", "learning rate of G and E; null = from lr", above=0)
    D_lr: float | None = _opt(None, "optimisation", "learning rate of D; null = from lr", above=0)
    D_steps_per_G: int = _opt(1, "optimisation", "steps of D for each step of G (released code)", low=1)
    niter: int = _opt(
        50, "optimisation", "epochs at the full learning rate (released code; paper, appendix A: 100)", low=0
    )
    niter_decay: int = _opt(
        0, "optimisation", "epochs after them in which it falls linearly to zero (released code)", low=0
    )
    init_type: str = _opt(
        "xavier",
        "optimisation",
        "how weights start (paper, appendix A: Glorot)",
        choices=("xavier", "xavier_uniform", "normal", "kaiming", "orthogonal", "none"),
    )
    init_variance: float = _opt(
        0.02, "optimisation", "gain of the initial weights, the standard deviation for normal (released code)", above=0
    )

    init_from: str = _opt(
        "",
        "optimisation",
        "start a new run from given networks: a run's folder, a generator's file (n_g.pdparams, latest_net_G.pth or "
        "another that tools/convert_weights.py reads) or the folder that it lies in; D and E are taken from beside it, "
        "where they are; a run that has a checkpoint goes on from that one",
    )

    # training
    batchSize: int = _opt(1, "training", "pictures per process and step", low=1)
    accumulate: int = _opt(
        1,
        "training",
        "parts that a batch is computed in, one after the other, to save memory; the step is the whole batch's, but "
        "batch norms see a part at a time",
        low=1,
    )
    max_steps: int | None = _opt(
        None, "training", "stop after so many steps in all; null = after niter + niter_decay epochs", low=1
    )
    seed: int = _opt(0, "training", "seed of weights, order, crops, flips and style noise", low=0, high=2**32 - 1)
    device: str = _opt("auto", "training", "auto (a GPU when there is one), cpu, gpu or gpu:N")
    modulation: str = _opt(
        "auto",
        "training",
        "how SPADE's gamma and beta are computed: once per distinct label "
        "neighbourhood (pattern), at every pixel (dense), or whichever is faster (auto); same "
        "numbers",
        choices=("auto", "pattern", "dense"),
    )
    kernels: str = _opt(
        "auto",
        "training",
        "convolutions: as blocked matrix products, which are faster on CPUs, or Paddle's own (plain); same numbers",
        choices=("auto", "blocked", "plain"),
    )
    amp: bool = _opt(False, "training", "mixed precision (Paddle's level O1), on a GPU")
    ema: float = _opt(
        0.0,
        "training",
        "decay of the running average of G's and E's weights, for previews and val.py, 0.999 for example; 0 = none",
        low=0,
        below=1,
    )
    recompute: bool = _opt(False, "training", "compute activations again in the backward pass: slower, less memory")
    reuse_fake: bool = _opt(
        False,
        "training",
        "train D on the picture of G's step and not on a fresh one: faster, but not the published mathematics",
    )
    fresh: bool = _opt(False, "training", "start anew although output holds a checkpoint to resume from")

    # output
    name: str = _opt("", "output", "name of the run: its folder in output and in log_dir, where those are not chosen")
    output: str = _opt("output", "output", "folder of checkpoints (model/), pictures (pics/) and opt.yaml")
    log_dir: str = _opt("log", "output", "folder of log.npy and the VisualDL records")
    print_freq: int = _opt(20, "output", "steps between lines of losses", low=1)
    display_freq: int = _opt(500, "output", "steps between preview pictures; 0 = none", low=0)
    save_latest_freq: int = _opt(
        1000, "output", "steps between checkpoints to resume from; 0 = at epochs' ends only", low=0
    )
    save_epoch_freq: int = _opt(1, "output", "epochs between checkpoints that are kept", low=1)
    keep_epochs: int = _opt(3, "output", "how many of these are kept, the oldest go first", low=1)
    val_every: int = _opt(
        0, "output", "epochs between quick FID measurements, by which the best checkpoint is kept; 0 = none", low=0
    )
    val_images: int = _opt(8, "output", "label maps of the validation split shown in the previews", low=0)

    # Fields that a checkpoint's networks depend on; `incompatible` compares them with care.
    ARCHITECTURE: ClassVar[frozenset[str]] = frozenset(
        (
            "label_nc",
            "contain_dontcare_label",
            "no_instance",
            "output_nc",
            "crop_size",
            "aspect_ratio",
            "ngf",
            "ndf",
            "norm_G",
            "norm_D",
            "norm_E",
            "num_upsampling_layers",
            "use_vae",
            "z_dim",
            "num_D",
            "n_layers_D",
        )
    )

    def _check_together(self) -> None:
        for name in ("norm_D", "norm_E"):
            text = getattr(self, name).replace("sync_batch", "syncbatch")  # the released code's second spelling
            parse_norm(text if text not in ("", "spectral") else text + "none", name)
            object.__setattr__(self, name, text if text not in ("", "spectral") else text + "none")
        parse_norm_g(self.norm_G)
        _check_device(self.device)
        if self.name:
            if not re.fullmatch(r"\w[\w.-]*", self.name):
                raise UserError(f"name {self.name!r} is no folder's name: expected letters, digits, '_', '-' and '.'")
            for f in dataclasses.fields(self):
                if f.name in ("output", "log_dir") and getattr(self, f.name) == f.default:
                    object.__setattr__(self, f.name, f"{f.default}/{self.name}")
        step = 2**self.num_up
        sized = "crop" in self.preprocess_mode or self.preprocess_mode == "fixed"
        if sized and self.crop_size % step:
            near = max(step, round(self.crop_size / step) * step)
            raise UserError(
                f"crop_size {self.crop_size} is not divisible by {step} (the generator doubles its size "
                f"{self.num_up} times): the nearest valid value is {near}"
            )
        if min(self.start_size) < 1:
            raise UserError(
                f"crop_size {self.crop_size} and aspect_ratio {self.aspect_ratio:g} leave the generator's "
                f"first block {self.start_size[0]}x{self.start_size[1]} pixels: num_upsampling_layers "
                f"{self.num_upsampling_layers} needs width and height of at least {step}"
            )
        if self.use_vae and self.z_dim < 1:
            raise UserError(
                f"use_vae needs a style vector, and z_dim is {self.z_dim}: give z_dim >= 1 or --use_vae false"
            )
        if self.output_nc not in PHOTO_MODES:
            raise UserError(f"output_nc {self.output_nc}: photos are read in colour (3) or grey (1); give one of these")
        ids = parse_ids(self.unknown_ids)
        object.__setattr__(self, "unknown_ids", ",".join(map(str, dict.fromkeys(ids))))
        if ids and not self.contain_dontcare_label:
            raise UserError(
                f"unknown_ids {self.unknown_ids} and contain_dontcare_label false exclude each other: unlabelled "
                "pixels need the channel of the unknown class; leave out one of them"
            )
        if set(range(self.label_nc)) <= set(ids):
            raise UserError(f"unknown_ids {self.unknown_ids} leave no class, for label_nc is {self.label_nc}")
        if self.amp and self.kernels == "blocked":
            raise UserError("amp and kernels blocked exclude each other: give --kernels auto or plain")
        if self.reuse_fake and self.D_steps_per_G > 1:
            raise UserError(
                f"reuse_fake and D_steps_per_G {self.D_steps_per_G} exclude each other: D's further steps "
                "have no picture of G's to reuse"
            )
        if self.dataset_mode == "custom" and not self.label_dir:
            raise UserError("dataset_mode custom needs label_dir, the folder of the label maps")
        _check_folders(self)

    # Derived values

    @property
    def photo_mode(self) -> str:
        """How photos are read: L (grey) or RGB."""
        return PHOTO_MODES[self.output_nc]

    @property
    def semantic_nc(self) -> int:
        """Channels of the generator's semantic input: classes, unknown, instance edges."""
        return self.label_nc + self.contain_dontcare_label + (not self.no_instance)

    @property
    def num_up(self) -> int:
        """How often the generator doubles its size: 5, 6 or 7."""
        return NUM_UPSAMPLING[self.num_upsampling_layers]

    @property
    def start_size(self) -> tuple[int, int]:
        """(height, width) of the generator's first block in pixels."""
        width = self.crop_size // 2**self.num_up
        return round(width / self.aspect_ratio), width

    @property
    def generator_size(self) -> tuple[int, int]:
        """(height, width) of the generated pictures in pixels."""
        height, width = self.start_size
        return height * 2**self.num_up, width * 2**self.num_up

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels that crop_size and aspect_ratio ask for."""
        return round(self.crop_size / self.aspect_ratio), self.crop_size

    @property
    def spade_sizes(self) -> tuple[tuple[int, int], ...]:
        """The (height, width) of every SPADE layer of the generator in pixels, smallest first."""
        height, width = self.start_size
        return tuple((height << i, width << i) for i in range(self.num_up + 1))

    @property
    def loader_size(self) -> tuple[int, int] | None:
        """(height, width) of the loader's pictures in pixels; None where it depends on the file."""
        if "crop" in self.preprocess_mode:
            return self.crop_size, self.crop_size
        return self.image_size if self.preprocess_mode == "fixed" else None

    @property
    def learning_rates(self) -> tuple[float, float]:
        """(G and E's, D's) learning rate of the first epoch: the two time-scale update rule (paper, section 4)."""
        g, d = (self.lr, self.lr) if self.no_TTUR else (self.lr / 2, self.lr * 2)
        return self.G_lr or g, self.D_lr or d

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's (beta1, beta2), of G and D alike, with TTUR as without (released code)."""
        return self.beta1, self.beta2

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run."""
        return self.niter + self.niter_decay

    def decay(self, epoch: int) -> float:
        """Factor in [0, 1] of the learning rates in an epoch, counted from 1 (released code).

        The first epoch after `niter` still has the full rate, and the last one 1 / niter_decay of it.
        """
        if self.niter_decay == 0:
            return 1.0
        return min(1.0, max(0.0, 1 - (epoch - 1 - self.niter) / self.niter_decay))

    # Checks for training

    def check_geometry(self, size: tuple[int, int] | None = None) -> None:
        """See that pictures and the generator's output have the same size, before anything is built.

        Args:
            size: (height, width) of the pictures in pixels; default: `image_size`.

        Raises:
            UserError: they differ; the message names the values that fit.
        """
        height, width = size or self.image_size
        g_height, g_width = self.generator_size
        if (height, width) == (g_height, g_width):
            return
        step = 2**self.num_up
        begin = f"pictures of {width}x{height} (width x height) and the generator's of {g_width}x{g_height} differ"
        if width != g_width:
            raise UserError(f"{begin}: crop_size must be the pictures' width and a multiple of {step}")
        columns = g_width // step
        nearest = sorted(range(1, 2 * columns + 1), key=lambda rows: abs(math.log(rows * self.aspect_ratio / columns)))
        fits = [f"{columns / rows:.6g} ({g_width}x{rows * step})" for rows in sorted(nearest[:3], reverse=True)]
        raise UserError(
            f"{begin}: aspect_ratio {self.aspect_ratio:g} does not fit, values that do are {', '.join(fits)}"
        )

    def check_training(self) -> None:
        """What training from files needs beyond valid options; `parse_train` has called it.

        Raises:
            UserError: sizes that do not fit, crops larger than what they are cut from, no epochs, no folder of photos.
        """
        if self.accumulate > self.batchSize:
            raise UserError(
                f"accumulate {self.accumulate} is more than batchSize {self.batchSize}, the pictures of a step, which "
                "it divides: raise --batchSize or lower --accumulate"
            )
        width = self.generator_size[1]
        if "crop" in self.preprocess_mode and self.image_size != self.loader_size:
            raise UserError(
                f"preprocess_mode {self.preprocess_mode} cuts squares, and aspect_ratio is "
                f"{self.aspect_ratio:g}: give aspect_ratio 1 or preprocess_mode fixed"
            )
        if self.preprocess_mode.endswith("and_crop") and self.load_size < self.crop_size:
            raise UserError(
                f"load_size {self.load_size} is smaller than crop_size {self.crop_size}, so that crops "
                f"would leave the picture: give load_size >= {self.crop_size} (usual: "
                f"{round(self.crop_size * 286 / 256)}) or preprocess_mode fixed"
            )
        if self.preprocess_mode == "scale_width" and self.load_size != width:
            raise UserError(
                f"preprocess_mode scale_width makes pictures {self.load_size} wide (load_size), and the "
                f"generator's are {width} wide: give load_size {width}, or another crop_size"
            )
        self.check_geometry()
        if self.total_epochs < 1:
            raise UserError("niter 0 and niter_decay 0 leave nothing to train: give niter >= 1")
        if self.label_dir and not self.image_dir:
            raise UserError("label_dir needs image_dir, the folder of the photos, for training")
        if self.label_dir and not self.no_instance and not self.instance_dir:
            raise UserError(
                "label_dir needs instance_dir, the folder of the instance maps, for training, or no_instance"
            )

    # Making, saving, comparing

    @classmethod
    def from_preset(cls, name: str, /, **overrides: Any) -> "OPT":
        """Options of a recipe, changed by keyword.

        Raises:
            UserError: an unknown preset or option, or a value that is refused.
        """
        return _layered({**overrides, "preset": name})

    def save(self, path: str | os.PathLike) -> None:
        """Write the options as yaml, in one atomic step: the file is the old or the new one, whatever happens.

        Raises:
            UserError: no space, no permission.
        """
        with replacing(path, sync=True) as temporary:
            temporary.write_text(self.to_yaml(), encoding="utf-8")

    def to_yaml(self) -> str:
        """What `save` writes: every option, by group."""
        lines = [_HEADER, "# Read by val.py and by train.py --config; meanings: train.py --help.\n"]
        for group, title in GROUPS.items():
            values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata["group"] == group}
            lines.append(f"\n# {group}: {title}\n")
            plain = not any("\x85" in str(value) for value in values.values())  # which a reader takes for a line break
            lines.append(yaml.safe_dump(values, sort_keys=False, allow_unicode=plain, width=4096))
        return "".join(lines) + _END

    @classmethod
    def load(cls, path: str | os.PathLike) -> "OPT":
        """Options from a yaml file that `save` wrote, or a handwritten one (what it leaves out has its default).

        Raises:
            UserError: no such file, not yaml, cut off, an unknown option, a value that is refused. Tags that would make
                Python objects are refused too, so that a stranger's file runs nothing.
        """
        values = _read_yaml(cls, path)
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def differences(self, other: "OPT") -> dict[str, tuple[Any, Any]]:
        """{field: (this value, the other's)} of the fields that differ."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def incompatible(self, other: "OPT") -> dict[str, tuple[Any, Any]]:
        """The differences in ARCHITECTURE that keep one's weights from fitting the other's networks.

        Batch and sync-batch norms have the same weights. Without a style vector the generator is fully convolutional,
        so sizes, z_dim and norm_E do not matter then.
        """
        found = {k: v for k, v in self.differences(other).items() if k in self.ARCHITECTURE}
        for name in ("norm_G", "norm_D", "norm_E"):
            if name in found and len({norm.replace("syncbatch", "batch") for norm in found[name]}) == 1:
                del found[name]
        styled = self.use_vae and other.use_vae
        if not styled or self.start_size == other.start_size:
            found = {k: v for k, v in found.items() if k not in ("crop_size", "aspect_ratio")}
        if not styled:
            found = {k: v for k, v in found.items() if k not in ("z_dim", "norm_E")}
        return found


# What each recipe changes in OPT's defaults, and nothing else.
# Paper, appendix A: 200 epochs, the learning rate falls from the 100th on; the released recipes have no encoder.
_LONG = dict(niter=100, niter_decay=100, use_vae=False)
# Id 0 is ADE20K's unknown class and stays channel 0, as the released weights expect; hence 151 channels.
_ADE20K = dict(
    dataset_mode="ade20k",
    dataroot="dataset/ADEChallengeData2016",
    label_nc=150,
    contain_dontcare_label=True,
    no_instance=True,
    **_LONG,
)
PRESETS: dict[str, dict[str, Any]] = {
    "coco_stuff": {},
    "ade20k": _ADE20K,
    # MindSpore's recipe: 8 processes with 8 pictures each, its Adam's beta2; the rates are TTUR's, said outright.
    "ade20k_mindspore": dict(_ADE20K, batchSize=8, G_lr=1e-4, D_lr=4e-4, beta2=0.999),
    "cityscapes": dict(
        dataset_mode="cityscapes",
        dataroot="dataset/cityscapes",
        label_nc=35,
        contain_dontcare_label=False,
        no_instance=False,
        preprocess_mode="fixed",
        load_size=512,
        crop_size=512,
        aspect_ratio=2.0,
        num_upsampling_layers="more",
        **_LONG,
    ),
    "facades": dict(
        dataset_mode="facades",
        dataroot="dataset/facades",
        label_nc=13,
        contain_dontcare_label=False,
        no_instance=True,
        **_LONG,
    ),
    "custom": dict(dataset_mode="custom", dataroot="", label_nc=13, contain_dontcare_label=False),
    # Small and short enough that two CPU cores show recognisable scenes in about ten minutes. From the released gain
    # of 0.02 gamma and beta start so close to 0 that little but two colours shows after 30 steps; gain 1 is Glorot's.
    "sample": dict(
        dataset_mode="sample",
        dataroot="dataset/sample",
        crop_size=128,
        load_size=143,
        ngf=16,
        ndf=16,
        z_dim=16,
        no_vgg_loss=True,
        lambda_kld=0.02,
        lr=1e-3,
        no_TTUR=True,
        beta1=0.0,  # as with TTUR, whose end would change the betas
        beta2=0.9,
        init_variance=1.0,
        batchSize=2,
        niter=1,
        niter_decay=2,
        print_freq=10,
        display_freq=20,
        save_latest_freq=60,
    ),
}


@dataclass(frozen=True)
class ValOPT(_Checked):
    """Options of a validation run; those of the networks and the data come from the checkpoint.

    Raises:
        UserError: a value of the wrong type or out of its range, or values that contradict each other.
    """

    checkpoint: str = _opt(
        "output/model",
        "data",
        "folder of checkpoints, one checkpoint in it, a generator's .pdparams file, or an exported model",
    )
    which_epoch: str = _opt("latest", "data", "checkpoint of the folder: latest, best, or an epoch's number")
    use_ema: bool = _opt(True, "data", "take the averaged weights of G when the checkpoint has them")
    phase: str = _opt("val", "data", "split of the data set", choices=("val", "train"))
    dataroot: str = _opt("", "data", "folder of the data set; default: the checkpoint's")
    label_dir: str = _opt(
        "", "data", "folder of label maps to paint, in place of the data set's; default: the checkpoint's"
    )
    image_dir: str = _opt("", "data", "folder of the photos that go with label_dir, if there are any")
    instance_dir: str = _opt("", "data", "folder of the instance maps that go with label_dir, if there are any")
    how_many: int | None = _opt(None, "data", "first so many pictures only; null = all", low=1)
    batchSize: int = _opt(1, "data", "pictures per step", low=1)
    nThreads: int = _opt(2, "data", "worker processes of the loader; 0 loads in the main process", low=0)
    device: str = _opt("auto", "data", "auto (a GPU when there is one), cpu, gpu or gpu:N")
    style: str = _opt(
        "auto",
        "style",
        "style of the pictures, with a checkpoint that has an encoder: each photo's own "
        "(photo), style_image's (image), noise from the seed (random), the mean of all (mean); auto is "
        "image when style_image is given, else photo, else random",
        choices=("auto", "photo", "image", "random", "mean"),
    )
    style_image: str = _opt("", "style", "photo whose style all pictures get")
    style_image2: str = _opt("", "style", "photo whose style an interpolation ends with")
    style_steps: int = _opt(
        0,
        "style",
        "pictures per label map on the way from style_image to style_image2, or "
        "between two draws of noise without them; 0 = no interpolation",
        low=0,
    )
    seed: int = _opt(0, "style", "seed of the noise", low=0, high=2**32 - 1)
    results_dir: str = _opt("output_val", "output", "folder to write to, pictures under pics/")
    panels: bool = _opt(False, "output", "write label | generated | photo side by side as well")
    format: str = _opt(
        "auto",
        "output",
        "of the pictures: jpg (quality 95), png (exact), or png when scores are computed, else jpg (auto)",
        choices=("auto", "jpg", "png"),
    )
    metrics: str = _opt("", "metrics", "scores to compute, with commas between: fid, seg")
    seg_model: str = _opt(
        "",
        "metrics",
        "network for seg in place of DeepLabV2: .onnx, a Paddle inference model, or FILE.py:NAME (docs/evaluation.md)",
    )
    other: str = _opt(
        "",
        "metrics",
        "another checkpoint or exported model, or a folder of another implementation's pictures, scored beside",
    )
    other_name: str = _opt("other", "metrics", "what tables and sheets call it")
    sheets: int = _opt(8, "metrics", "comparison sheets of the first so many pictures, with seg; 0 = none", low=0)

    def _check_together(self) -> None:
        _check_device(self.device)
        _check_folders(self)
        if self.dataroot and self.label_dir:
            raise UserError(
                f"dataroot {self.dataroot} and label_dir {self.label_dir} exclude each other: give one of them"
            )
        if self.other and not self.metric_names:
            raise UserError(f"other {self.other} is compared by scores: give --metrics fid, seg or fid,seg too")
        if self.other_name in ("generated", "photos", "") or set(self.other_name) & set("/\\|"):
            raise UserError(f"other_name {self.other_name!r}: expected a word other than generated and photos")
        if self.seg_model and "seg" not in self.metric_names:
            raise UserError(f"seg_model {self.seg_model} computes segmentation scores: give --metrics seg or fid,seg")
        if self.metric_names and self.style_steps:
            raise UserError(
                f"metrics {self.metrics} and style_steps {self.style_steps} exclude each other: scores need one "
                "picture for each photo"
            )
        for metric in self.metric_names:
            if metric not in ("fid", "seg"):
                raise UserError(
                    f"metrics {metric!r} is unknown: expected fid, seg or fid,seg{_closest(metric, ('fid', 'seg'))}"
                )
        if self.which_epoch not in ("latest", "best") and not self.which_epoch.isdigit():
            raise UserError(f"which_epoch {self.which_epoch!r} is unknown: expected latest, best, or an epoch's number")
        if self.style == "image" and not self.style_image:
            raise UserError("style image needs style_image, the photo to take the style from")
        if self.style_image and self.style not in ("auto", "image"):
            raise UserError(f"style {self.style} and style_image {self.style_image} exclude each other")
        if self.style_image2 and not (self.style_image and self.style_steps):
            raise UserError("style_image2 ends an interpolation: give style_image and style_steps too")
        if self.style_steps == 1:
            raise UserError("style_steps 1 shows no change: give at least 2, or 0 for no interpolation")
        if self.style_steps and self.style_image and not self.style_image2:
            raise UserError(f"style_steps {self.style_steps} goes from one style to another: give style_image2 too")
        if self.style_steps and self.style in ("photo", "mean"):
            raise UserError(
                f"style {self.style} and style_steps {self.style_steps} exclude each other: interpolate "
                "between two images or, with style random, two draws of noise"
            )

    @property
    def suffix(self) -> str:
        """Ending of the pictures' files: JPEG changes pictures, which FID notices."""
        return ("png" if self.metric_names else "jpg") if self.format == "auto" else self.format

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The scores asked for, each once, in order."""
        return tuple(dict.fromkeys(word.strip() for word in self.metrics.split(",") if word.strip()))


def _check_folders(opt: "OPT | ValOPT") -> None:
    if (opt.image_dir or opt.instance_dir) and not opt.label_dir:
        raise UserError("image_dir and instance_dir go with label_dir, which is empty: give label_dir too")


def _check_device(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|gpu(:\d+)?", device):
        raise UserError(f"device {device!r} is unknown: expected auto, cpu, gpu or gpu:N")


# Yaml

_HEADER = "# Options of a SPADE training run.\n"
_END = "...\n"  # yaml's end of document: a file of ours without it was cut off
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")  # 2e-4, which PyYAML reads as text for want of a point


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which would quietly take the last of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                what = f"{key.value} is given twice" if isinstance(key, yaml.ScalarNode) else "a name must be a word"
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_yaml(cls: type, path: str | os.PathLike) -> dict[str, Any]:
    """The mapping in a yaml file, its keys checked against a class's fields."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = yaml.load(text, _Loader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected a yaml file of options") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        line = f", line {where.line + 1}" if where else ""
        raise UserError(f"{path}{line}: not a yaml file of options: {what}") from None
    if text.startswith(_HEADER) and not text.rstrip().endswith(_END.strip()):
        raise UserError(f"{path}: cut off, its last line is not '...': take an older copy, or write the options again")
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: expected lines 'option: value', found {'nothing' if values is None else type(values).__name__}"
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key, value in values.items():
        if key not in fields:
            raise UserError(f"{path}: unknown option {key}{_closest(str(key), fields)}")
        if isinstance(value, str) and fields[key].type in (float, float | None) and _NUMBER.fullmatch(value):
            value = float(value)
        try:
            values[key] = _typed(fields[key], value)
            _check_range(fields[key], values[key])
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return values


# Command line

# jsonargparse, not tyro or simple-parsing. It is an argparse that understands typing's types and needs nothing but
# PyYAML. A switch may have a value, so that both --use_vae and --use_vae false work (in tyro it has one or has none);
# help has our groups (simple-parsing makes one group of a dataclass); errors are raised, not printed, so that they
# become one line. Its own config files are not used: there the last on the command line wins, and presets are unknown.

# Options of the released code and its ports under another name here, so that old command lines explain themselves.
_RENAMED = {
    "cache_filelist_read": "not needed, listing a folder is quick",
    "cache_filelist_write": "not needed, listing a folder is quick",
    "checkpoints_dir": "--output, in val.py --checkpoint",
    "ckpt_dir": "--output, in val.py --checkpoint",
    "coco_no_portraits": "done by moving the folders *_portrait away; they are read where they exist",
    "continue_train": "a run resumes by itself; --fresh starts anew",
    "datasetdir": "--dataroot",
    "debug": "--max_steps N --print_freq 1 --display_freq 1",
    "decay_epoch": "--niter, the epochs before the decay",
    "display_winsize": "not needed, pictures are written in their own size",
    "distribute": "python -m paddle.distributed.launch train.py",
    "fid_eval_ckpt_dir": "val.py --metrics fid, which reads the weights in inception/",
    "gpu_ids": "--device",
    "id": "--device gpu:N",
    "lastoutput": "--output, from which a run resumes by itself",
    "load_from_opt_file": "options travel with the checkpoint; --config FILE reads others",
    "model": "not needed, there is one",
    "nef": "--ngf, which is the encoder's width too, as in the released code",
    "netD": "not needed, there is one, the multi-scale discriminator",
    "netG": "not needed, there is one, SPADE",
    "no_html": "--display_freq 0, which writes no pictures",
    "no_pairing_check": "not needed, files are paired by name, always",
    "now_epoch": "a run resumes by itself; --fresh starts anew",
    "optimizer": "not needed, it is Adam",
    "predict_inst": "val.py --label_dir FOLDER --instance_dir FOLDER",
    "predict_result": "val.py --label_dir FOLDER, which writes to --results_dir",
    "semantic_nc": "computed from label_nc, contain_dontcare_label and no_instance",
    "tf_log": "not needed, VisualDL records are always written, in --log_dir",
    "total_epoch": "--niter and --niter_decay, the sum of which is the number of epochs",
    "vgg_ckpt_path": "--vgg_path",
    "vggwpath": "--vgg_path",
}


def _shown(value: Any) -> str:
    """A value as the command line and yaml write it."""
    words = {None: "null", True: "true", False: "false", "": "empty"}
    return words[value] if value is None or isinstance(value, bool) or value == "" else str(value)


def _parser(cls: type, prog: str, description: str, groups: Mapping[str, str], epilog: str = ""):
    import jsonargparse  # here, since reading a checkpoint's options needs no parser

    class Formatter(argparse.HelpFormatter):
        def _fill_text(self, text, width, indent):
            return "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in text.split("\n"))

    parser = jsonargparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=Formatter,
        exit_on_error=False,
        allow_abbrev=False,
        usage="%(prog)s [--option VALUE ...]",
    )
    parser.add_argument("--config", type=str, metavar="FILE", help="yaml file of options; flags win over it")
    titled = {group: parser.add_argument_group(group, title) for group, title in groups.items()}
    for f in dataclasses.fields(cls):
        extra = dict(nargs="?", const=True) if f.type is bool else {}
        allowed = _range_text(f.metadata)
        titled[f.metadata["group"]].add_argument(
            f"--{f.name}",
            type=f.type,
            default=f.default,
            metavar="true|false" if f.type is bool else "VALUE",
            help=f"{f.metadata['help']}{'; ' if allowed else ''}{allowed} (default: {_shown(f.default)})",
            **extra,
        )
    return parser


def _flags(cls: type, parser: Any, argv: Sequence[str]) -> dict[str, Any]:
    """The options given on a command line, by name, brought to their types."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    known = ["config", "help", *fields]
    given = {word[2:].split("=", 1)[0] for word in argv if word.startswith("--")}
    for name in sorted(given):
        if name in known:
            continue
        positive = re.sub("^no[_-]", "", name)
        if positive != name and positive in fields and fields[positive].type is bool:
            raise UserError(f"unknown option --{name}: to switch it off, give --{positive} false")
        if name in _RENAMED:
            raise UserError(f"unknown option --{name}: here it is {_RENAMED[name]}")
        other = ValOPT if cls is OPT else OPT
        if name in {f.name for f in dataclasses.fields(other)}:
            program, why = ("val.py", "") if cls is OPT else ("train.py", ": options travel with the checkpoint")
            raise UserError(f"--{name} is an option of {program} alone{why}")
        raise UserError(f"unknown option --{name}{_closest(name, known, '--') or '; see --help'}")
    try:
        values = parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        raise UserError(_one_line(str(error), fields)) from None
    return {name: values[name] for name in given if name != "help"}


def _one_line(message: str, fields: Mapping[str, dataclasses.Field]) -> str:
    """The parser's messages without the names of Python's types."""
    text = " ".join(message.split())
    match = re.fullmatch(r"Parser key \"(\w+)\": .*?(?:Got|Given) value: (.*)", text)
    if match and match[1] in fields:
        return f"--{match[1]} {match[2]} is not {_expected(fields[match[1]])}"
    return text[:1].lower() + text[1:]


def _layered(flags: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> OPT:
    """Flags over config file over preset over defaults."""
    given = {**(config or {}), **flags}
    fields = {f.name: f for f in dataclasses.fields(OPT)}
    for key in given:
        if key not in fields:
            raise UserError(f"unknown option {key}{_closest(key, fields)}")
    # As in the released code, naming the data set's layout alone brings its recipe.
    named = next((name for name in ("preset", "dataset_mode") if given.get(name)), None)
    preset = given[named] if named else fields["preset"].default
    if preset not in PRESETS:
        raise UserError(
            f"{named} {preset!r} is unknown: expected one of {', '.join(PRESETS)}{_closest(str(preset), PRESETS)}"
        )
    declared = {"contain_dontcare_label": True} if given.get("unknown_ids") else {}  # whatever the preset says
    values = {**PRESETS[preset], **declared, **given, "preset": preset}
    if values.get("no_TTUR"):  # the released command line's defaults without TTUR
        values = {"beta1": 0.5, "beta2": 0.999, **values}
    return OPT(**values)


def parse_train(argv: Sequence[str] | None = None) -> OPT:
    """Options of training from a command line (default: the process's): flags > --config > --preset > defaults.

    Raises:
        UserError: an unknown option, a wrong value, options that contradict each other or cannot be trained.
    """
    argv = sys.argv[1:] if argv is None else argv
    recipes = {name: ", ".join(f"{k}={_shown(v)}" for k, v in values.items()) for name, values in PRESETS.items()}
    epilog = "\n".join(["presets:", *(f"  {k}: {v or 'the defaults as shown'}" for k, v in recipes.items())])
    parser = _parser(
        OPT,
        "train.py",
        "Train SPADE. Flags win over --config, which wins over --preset, which wins over the defaults.",
        GROUPS,
        epilog,
    )
    flags = _flags(OPT, parser, argv)
    config = _read_yaml(OPT, flags.pop("config")) if "config" in flags else {}
    opt = _layered(flags, config)
    if opt.dataset_mode == "custom" and "contain_dontcare_label" not in {**config, **flags}:
        from model.data.dataset import with_unknown_class  # which reads files, and only these options depend on them

        opt = with_unknown_class(opt)
    opt.check_training()
    return opt


def parse_val(argv: Sequence[str] | None = None) -> ValOPT:
    """Options of validation from a command line (default: the process's): flags > --config > defaults.

    Raises:
        UserError: an unknown option, a wrong value, options that contradict each other.
    """
    argv = sys.argv[1:] if argv is None else argv
    groups = {
        "data": "checkpoint and pictures",
        "style": "the look of the pictures",
        "output": "what is written",
        "metrics": "what the pictures are judged by",
    }
    parser = _parser(ValOPT, "val.py", "Generate pictures from a validation split with a trained checkpoint.", groups)
    flags = _flags(ValOPT, parser, argv)
    config = _read_yaml(ValOPT, flags.pop("config")) if "config" in flags else {}
    return ValOPT(**{**config, **flags})
