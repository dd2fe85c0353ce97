"""What is compared: the pattern form, the dense form and plain PyTorch, on the same weights and batches.

Frameworks are imported inside the functions: after the script has set their threads, and so that a process whose memory
is measured loads only its own.
"""

import argparse
import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import harness
from model.options import OPT

# The project's own two forms by the options that choose them. "dense" is a SPADE as one writes it with Paddle's
# operators; "pattern" is what training and val.py run on a CPU.
OURS = {"pattern": {}, "dense": {"modulation": "dense", "kernels": "plain"}}
FILE_CLASSES = 182  # ids in COCO-Stuff's files and in the built-in sample's
FORMS = (*OURS, "torch")
IMPORTS = dict.fromkeys(OURS, ("paddle", "model.trainer", "model.vgg", "model.weights.files"))
IMPORTS["torch"] = ("torch", "benchmarks.torch_spade")


# What users train, each as it differs from COCO-Stuff's options at 256x256, batch 1.
CASES = {
    "coco": {},
    "camvid": dict(size=128, aspect=4 / 3, batch=4, ngf=32, classes=11, instances=False, vae=False, vgg=False),
    "cityscapes": dict(size=512, aspect=2.0, classes=35, vae=False),
    "ade20k": dict(classes=150, instances=False, vae=False),
    "noise": dict(noisy=True),
}


@dataclass(frozen=True)
class Task:
    """A setting to measure. Plain values, which a child process gets as JSON.

    Attributes:
        case: what it is called.
        size: width in pixels. aspect: width over height.
        batch: images.
        ngf: width of the networks, ngf and ndf.
        classes: label_nc; there is an unknown class beside them.
        instances: whether there are instance maps. vae: a style encoder. vgg: the perceptual loss.
        noisy: maps whose pixels are all drawn, so that nearly every neighbourhood is another.
        seed: of weights, images and noise.
        maps: folder of label maps, None for the built-in sample.
    """

    case: str = "coco"
    size: int = 256
    aspect: float = 1.0
    batch: int = 1
    ngf: int = 64
    classes: int = 182
    instances: bool = True
    vae: bool = True
    vgg: bool = True
    noisy: bool = False
    seed: int = 0
    maps: str | None = None

    @classmethod
    def add_flags(cls, parser: argparse.ArgumentParser) -> None:
        """The flags that choose a task."""
        parser.add_argument(
            "--case", choices=CASES, default="coco", help="options and size, as the data set's users train"
        )
        for name, text in dict(size="width in pixels", batch="images in a batch", ngf="width of the networks").items():
            parser.add_argument(f"--{name}", type=harness.positive, help=f"{text}, in place of the case's")
        parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
        parser.add_argument("--no-dense", action="store_true", help="leave the dense form out, the slowest")

    @classmethod
    def of(cls, args: argparse.Namespace, **changes) -> "Task":
        """The task that a script's flags ask for."""
        flags = {name: value for name in ("size", "batch", "ngf") if (value := getattr(args, name, None))}
        fields = dict(case=args.case, seed=args.seed, maps=None if args.maps is None else str(args.maps))
        return cls(**{**CASES[args.case], **fields, **flags, **changes})

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return round(self.size / self.aspect), self.size

    @property
    def title(self) -> str:
        return f"{self.case} {self.size}x{self.shape[0]} batch {self.batch}"

    def options(self, form: str = "pattern") -> OPT:
        """The options of one form."""
        return OPT(
            crop_size=self.size, load_size=self.size, aspect_ratio=self.aspect, preprocess_mode="fixed",
            batchSize=self.batch, ngf=self.ngf, ndf=self.ngf, label_nc=self.classes, no_instance=not self.instances,
            use_vae=self.vae, no_vgg_loss=not self.vgg, **OURS.get(form, {}),
        )  # fmt: skip

    def load(self) -> harness.Maps:
        """The label maps; with fewer classes than theirs, ids are taken modulo the number of classes."""
        maps = harness.load_maps(self.maps, self.shape, max(self.classes, FILE_CLASSES))
        if self.noisy:
            rng, shape = np.random.default_rng(self.seed), maps.label.shape
            drawn = rng.integers(0, self.classes, shape), rng.integers(0, 9, shape)
            return dataclasses.replace(maps, label=drawn[0], instance=drawn[1], source="drawn pixels")
        known = maps.label < FILE_CLASSES
        return dataclasses.replace(maps, label=np.where(known, maps.label % self.classes, self.classes))

    def batches(self, form: str) -> list[dict[str, np.ndarray]]:
        """A batch for every map as the loader's workers would make it, the neighbourhoods numbered for "pattern"."""
        maps, opt, batches = self.load(), self.options(form), []
        for start in range(len(maps.label)):
            label, instance = maps.batch(self.batch, start)
            batch = {"label": label} | ({"instance": instance} if self.instances else {})
            batch["image"] = harness.random_images(self.batch, self.shape, self.seed + start)
            if form == "pattern":
                from model.semantics import pattern_arrays

                batch.update(pattern_arrays(label, batch.get("instance"), opt))
            batches.append(batch)
        return batches

    def noise(self, shape: tuple[int, ...], draw: int = 0) -> np.ndarray:
        """Standard normal numbers that depend on the seed and the draw alone."""
        return np.random.default_rng([self.seed, draw]).standard_normal(shape).astype(np.float32)


def fill(net, prefix: str, seed: int):
    """Load made-up weights, by names and seed, into a network of ours or of the baseline; returns it."""
    from model.weights.made_up import made_up_arrays, made_up_weights

    key = f"{seed} {prefix}."
    if hasattr(net, "sublayers"):
        return made_up_weights(net, key)
    from benchmarks.torch_spade import load_arrays

    return load_arrays(net, made_up_arrays({k: tuple(v.shape) for k, v in net.state_dict().items()}, key))


def prepare(trainer, task: Task, tensor: Callable):
    """Give a trainer, ours or the baseline's, the task's weights and style noise; returns it.

    Args:
        tensor: makes the trainer's kind of tensor of an array.
    """
    for name in ("G", "D", "E") if task.vae else ("G", "D"):
        fill(getattr(trainer, name), name, task.seed)
    draws = iter(range(10**9))
    trainer.sample_noise = lambda shape: tensor(task.noise(tuple(shape), next(draws)))  # the same for every form
    return trainer


def forms_of(args: argparse.Namespace) -> list[str]:
    """The forms to compare."""
    return [form for form in FORMS if not (args.no_dense and form == "dense")]


def memory(target: str, task: Task, args: argparse.Namespace, **arguments) -> dict[str, float]:
    """Result fields: each form's peak in MB, of the whole process and without the frameworks, and our share of it.

    Args:
        target: "module:function", which takes form, a task's fields and `arguments`.
    """
    if args.no_memory or harness.Interrupt.came:
        return {}
    fields, found = {}, {}
    for form in forms_of(args):
        given = {"form": form, "fields": vars(task), **arguments}
        found[form] = value = harness.peak_memory(target, given, IMPORTS[form])
        fields |= {f"{form}_peak_mb": value.peak / 2**20, f"{form}_work_mb": value.used / 2**20}
        if form != "pattern":
            fields[f"memory_ratio_vs_{form}"] = found["pattern"].peak / value.peak
            fields[f"work_memory_ratio_vs_{form}"] = found["pattern"].used / value.used
    return fields


class Cycle:
    """A callable that gives the next item to `work` at each call; `net` is what it works with."""

    def __init__(self, work: Callable, items: list, net=None):
        self.net, self._work, self._items = net, work, itertools.cycle(items)

    def __call__(self):
        return self._work(next(self._items))
