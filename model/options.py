"""`OPT`: every option of training with its meaning, range and source.

The names are those of the released PyTorch code (`batchSize`, `norm_G`, ...). "Paper" is Park et al., Semantic Image
Synthesis with Spatially-Adaptive Normalization, CVPR 2019 (arXiv 1903.07291); "released code" is the authors'.
To change a default for good, edit its line in `OPT`: recipes (`configuration/presets.py`) hold only what differs from
these lines.
Paddle is not imported here, so that `--help` and mistakes answer at once.
"""

import dataclasses
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from model.configuration.fields import Checked, fields_of, options_of, read_yaml, to_yaml
from model.configuration.presets import PRESETS, layered
from model.configuration.texts import parse_ids, parse_norm, parse_norm_g
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
_data, _networks, _losses, _optimisation, _training, _output = map(options_of, GROUPS)

NUM_UPSAMPLING = {"normal": 5, "more": 6, "most": 7}

PREPROCESS_MODES = tuple(
    "resize_and_crop crop scale_width scale_width_and_crop scale_shortside scale_shortside_and_crop fixed none".split()
)


@dataclass(frozen=True)
class OPT(Checked):
    """All options of a training run; immutable (`dataclasses.replace` makes a changed copy), checked when made.

    The defaults are COCO-Stuff's. `OPT.from_preset("cityscapes", batchSize=4)` starts from another recipe.

    Raises:
        UserError: a value of the wrong type or out of its range, or values that contradict each other.
    """

    preset: str = _data(
        "coco_stuff",
        "recipe that the other options start from; in OPT(...) it is a note only, OPT.from_preset applies it",
        choices=PRESETS,
    )
    dataset_mode: str = _data(
        "coco_stuff",
        "layout of the files on disk; alone on the command line it also chooses the preset of its name, as in the "
        "released code",
        choices=("coco_stuff", "ade20k", "cityscapes", "facades", "camvid", "custom", "sample"),
    )
    dataroot: str = _data("dataset/coco_stuff", "folder of the data set")
    label_dir: str = _data("", "folder of the label maps, in place of dataset_mode's folders (custom has none)")
    image_dir: str = _data("", "folder of the photos that go with label_dir")
    instance_dir: str = _data("", "folder of the instance maps that go with label_dir; none with no_instance")
    palette: str = _data(
        "",
        "file that says which colour is which class, for label maps that hold colours: text with lines ID RED GREEN "
        "BLUE NAME, a JSON list of [red, green, blue] or of objects with color, name, id, or a palette PNG",
    )
    preprocess_mode: str = _data(
        "resize_and_crop",
        "how photo and maps get to size: resize_and_crop squashes to load_size x load_size, scale_* keep the shape, "
        "*crop cut out squares of crop_size, fixed resizes to crop_size wide and crop_size/aspect_ratio high, none "
        "rounds the sides to multiples of 32 (released code)",
        choices=PREPROCESS_MODES,
    )
    load_size: int = _data(286, "size in pixels that photos are scaled to before the crop (released code)", low=1)
    crop_size: int = _data(
        256,
        "width in pixels of the pictures that the networks see; a multiple of 32, 64 or 128 as num_upsampling_layers "
        "is normal, more or most (paper, appendix A: 256; Cityscapes 512)",
        low=1,
    )
    aspect_ratio: float = _data(
        1.0, "width over height of the generated pictures (paper, appendix A: 1; Cityscapes 2)", above=0
    )
    label_nc: int = _data(
        182,
        "number of classes in the label maps, ids 0..label_nc-1, without the unknown class (COCO-Stuff)",
        low=1,
        high=65535,
    )
    contain_dontcare_label: bool = _data(
        True,
        "there is an unknown class, whose channel is label_nc: that of the ids unknown_ids and of label_nc itself "
        "(released code; ADE20K's is 0); in a custom data set on if its label maps hold these ids, unless given",
    )
    unknown_ids: str = _data(
        "",
        "ids in the label maps that mean unlabelled beside label_nc, such as 0,255; they turn on "
        "contain_dontcare_label; empty = 255, or 65535 where label_nc exceeds 255",
    )
    no_instance: bool = _data(False, "go without instance maps and their edge channel (released code)")
    no_flip: bool = _data(False, "do not mirror training pictures at random")
    serial_batches: bool = _data(False, "read the pictures in order, without shuffling")
    max_dataset_size: int | None = _data(None, "read at most so many pictures; null = all", low=1)
    nThreads: int = _data(2, "worker processes of the loader; 0 loads in the main process", low=0)

    ngf: int = _networks(
        64,
        "channels of the generator's last block, 16 times as many in its first; of the encoder's first layer (paper, "
        "appendix A)",
        low=1,
    )
    ndf: int = _networks(64, "channels of the discriminator's first layer (paper, appendix A)", low=1)
    output_nc: int = _networks(
        3, "channels of the generated picture: 3 for colour, 1 for grey (released code)", low=1, high=3
    )
    norm_G: str = _networks(
        "spectralspadesyncbatch3x3",
        "generator's norm: [spectral]spade{batch,syncbatch,instance}{3x3,5x5}, the size is that of the modulation's "
        "convolutions (paper, section 3.1)",
    )
    norm_D: str = _networks(
        "spectralinstance", "discriminator's norm: [spectral]{instance,batch,syncbatch,none} (paper, appendix A)"
    )
    norm_E: str = _networks(
        "spectralinstance", "encoder's norm: [spectral]{instance,batch,syncbatch,none} (paper, appendix A)"
    )
    num_upsampling_layers: str = _networks(
        "normal",
        "times the generator doubles its size: normal 5, more 6, most 7 (and one more block) (released code)",
        choices=NUM_UPSAMPLING,
    )
    use_vae: bool = _networks(True, "learn an encoder that takes a style from a photo (paper, section 3.2)")
    z_dim: int = _networks(256, "length of the style vector (paper, appendix A)", low=0)
    num_D: int = _networks(2, "scales of the discriminator, each half as large (released code)", low=1)
    n_layers_D: int = _networks(4, "strided layers of each discriminator (released code)", low=1)

    gan_mode: str = _losses(
        "hinge",
        "adversarial loss: hinge (paper, appendix A), least squares, the original cross entropy, or Wasserstein",
        choices=("hinge", "ls", "original", "w"),
    )
    no_ganFeat_loss: bool = _losses(False, "leave out the discriminator's feature matching loss")
    no_vgg_loss: bool = _losses(False, "leave out the perceptual loss; needs no VGG weights then")
    lambda_feat: float = _losses(10.0, "weight of feature matching (paper, appendix A)", low=0)
    lambda_vgg: float = _losses(10.0, "weight of the perceptual loss (paper, appendix A)", low=0)
    lambda_kld: float = _losses(0.05, "weight of the encoder's KL divergence (paper, appendix A)", low=0)
    vgg_path: str = _losses(
        "vgg/vgg19pretrain.pdparams", "VGG19 weights: .pdparams, or torchvision's vgg19 as .pth or .safetensors"
    )

    lr: float = _optimisation(
        2e-4,
        "base learning rate of Adam; G gets half of it and D double, unless no_TTUR (paper, section 4: 1e-4 and 4e-4)",
        above=0,
    )
    beta1: float = _optimisation(
        0.0,
        "Adam's beta1 (paper, section 4); with no_TTUR on the command line 0.5 unless given (released code)",
        low=0,
        below=1,
    )
    beta2: float = _optimisation(
        0.9,
        "Adam's beta2 (released code; the paper's text says 0.999); with no_TTUR on the command line 0.999 unless "
        "given (released code)",
        low=0,
        below=1,
    )
    no_TTUR: bool = _optimisation(False, "same learning rate for G and D, not the two time-scale rule")
    G_lr: float | None = _optimisation(None, "learning rate of G and E; null = from lr", above=0)
    D_lr: float | None = _optimisation(None, "learning rate of D; null = from lr", above=0)
    D_steps_per_G: int = _optimisation(1, "steps of D for each step of G (released code)", low=1)
    niter: int = _optimisation(50, "epochs at the full learning rate (released code; paper, appendix A: 100)", low=0)
    niter_decay: int = _optimisation(0, "epochs after them in which it falls linearly to zero (released code)", low=0)
    init_type: str = _optimisation(
        "xavier",
        "how weights start (paper, appendix A: Glorot)",
        choices=("xavier", "xavier_uniform", "normal", "kaiming", "orthogonal", "none"),
    )
    init_variance: float = _optimisation(
        0.02, "gain of the initial weights, the standard deviation for normal (released code)", above=0
    )
    init_from: str = _optimisation(
        "",
        "start a new run from given networks: a run's folder, a generator's file (n_g.pdparams, latest_net_G.pth or "
        "another that tools/convert_weights.py reads) or the folder that it lies in; D and E are taken from beside "
        "it, where they are; a run that has a checkpoint goes on from that one",
    )

    batchSize: int = _training(1, "pictures per process and step", low=1)
    accumulate: int = _training(
        1,
        "parts that a batch is computed in, one after the other, to save memory; the step is the whole batch's, but "
        "batch norms see a part at a time",
        low=1,
    )
    max_steps: int | None = _training(
        None, "stop after so many steps in all; null = after niter + niter_decay epochs", low=1
    )
    seed: int = _training(0, "seed of weights, order, crops, flips and style noise", low=0, high=2**32 - 1)
    device: str = _training("auto", "auto (a GPU when there is one), cpu, gpu or gpu:N")
    modulation: str = _training(
        "pattern",
        "how SPADE's gamma and beta are computed: once per distinct label neighbourhood, or by convolutions at every "
        "pixel (dense); sorted is pattern with gradients summed over sorted pixels, for GPUs, with kernels plain; "
        "same numbers",
        choices=("pattern", "sorted", "dense"),
        renamed={"auto": "pattern"},
    )
    kernels: str = _training(
        "auto",
        "convolutions: as blocked matrix products, which are faster on CPUs, or Paddle's own (plain); same numbers",
        choices=("auto", "blocked", "plain"),
    )
    amp: bool = _training(False, "mixed precision (Paddle's level O1), on a GPU")
    ema: float = _training(
        0.0,
        "decay of the running average of G's and E's weights, for previews and val.py, 0.999 for example; 0 = none",
        low=0,
        below=1,
    )
    recompute: bool = _training(False, "compute activations again in the backward pass: slower, less memory")
    reuse_fake: bool = _training(
        False, "train D on the picture of G's step and not on a fresh one: faster, but not the published mathematics"
    )
    fresh: bool = _training(False, "start anew although output holds a checkpoint to resume from")

    name: str = _output("", "name of the run: its folder in output and in log_dir, where those are not chosen")
    output: str = _output("output", "folder of checkpoints (model/), pictures (pics/) and opt.yaml")
    log_dir: str = _output("log", "folder of log.npy and the VisualDL records")
    print_freq: int = _output(20, "steps between lines of losses", low=1)
    display_freq: int = _output(500, "steps between preview pictures; 0 = none", low=0)
    save_latest_freq: int = _output(1000, "steps between checkpoints to resume from; 0 = at epochs' ends only", low=0)
    save_epoch_freq: int = _output(1, "epochs between checkpoints that are kept", low=1)
    keep_epochs: int = _output(3, "how many of these are kept, the oldest go first", low=1)
    val_every: int = _output(
        0, "epochs between quick FID measurements, by which the best checkpoint is kept; 0 = none", low=0
    )
    val_images: int = _output(8, "label maps, evenly spread over the validation split, shown in the previews", low=0)

    def _check_together(self) -> None:
        for name in ("norm_D", "norm_E"):
            text = getattr(self, name).replace("sync_batch", "syncbatch")  # the released code's second spelling
            text += "none" if text in ("", "spectral") else ""
            parse_norm(text, name)
            object.__setattr__(self, name, text)
        parse_norm_g(self.norm_G)
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
        if self.output_nc == 2:
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

    # Derived values

    @property
    def photo_mode(self) -> str:
        """How photos are read, by Pillow's names: L (grey) or RGB."""
        return "L" if self.output_nc == 1 else "RGB"

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
        return self.spade_sizes[-1]

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
        return cls(**layered(fields_of(cls), {**overrides, "preset": name}))

    def save(self, path: str | os.PathLike) -> None:
        """Write the options as yaml, in one atomic step: the file is the old or the new one, whatever happens.

        Raises:
            UserError: no space, no permission.
        """
        with replacing(path, sync=True) as temporary:
            temporary.write_text(to_yaml(self, GROUPS), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "OPT":
        """Options from a yaml file that `save` wrote, or a handwritten one (what it leaves out has its default).

        Raises:
            UserError: no such file, not yaml, cut off, an unknown option, a value that is refused. Tags that would make
                Python objects are refused too, so that a stranger's file runs nothing.
        """
        values = read_yaml(cls, path)
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
        styled = self.use_vae and other.use_vae
        free = set() if styled else {"z_dim", "norm_E"}
        if not styled or self.start_size == other.start_size:
            free |= {"crop_size", "aspect_ratio"}
        found = {k: pair for k, pair in self.differences(other).items() if k in ARCHITECTURE - free}
        return {k: pair for k, pair in found.items() if len({str(v).replace("syncbatch", "batch") for v in pair}) > 1}


# Fields that a checkpoint's networks depend on; `OPT.incompatible` compares them with care.
ARCHITECTURE = {"label_nc", "contain_dontcare_label", "no_instance", "crop_size", "aspect_ratio"}
ARCHITECTURE |= {name for name, f in fields_of(OPT).items() if f.metadata["group"] == "networks"}
