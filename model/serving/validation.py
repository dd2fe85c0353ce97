"""What a validation run paints: a split's label maps in order, and the styles of each batch."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.data.dataset import PhotoMaps
from model.data.loader import Loader
from model.errors import UserError
from model.options import OPT
from model.serving.styles import arc, on_line
from model.serving.synthesizer import Synthesizer
from model.serving.val_options import ValOPT


def _choice(val: ValOPT, synthesizer: Synthesizer, has_photos: bool) -> str:
    file = synthesizer.info["file"]
    if not synthesizer.z_dim:
        if val.style != "auto" or val.style_image or val.style_steps:
            raise UserError(f"{file} was trained without --use_vae and knows one style: leave out the style options")
        return "none"
    own = "photo" if has_photos and synthesizer.has_encoder and not val.style_steps else "random"
    style = val.style if val.style != "auto" else "image" if val.style_image else own
    if style in ("photo", "image") and not synthesizer.has_encoder:
        missing = f"the encoder, and there is none beside {file} (n_e.pdparams): put it there, or give --style random"
    elif style == "photo" and not has_photos:
        missing = "photos, and this split has label maps alone: give --style random or --style_image FILE"
    else:
        return style
    raise UserError(f"style {style} needs {missing}")


class Styles:
    """The styles that each batch of a validation run is painted in.

    Attributes:
        name: none, photo, image, random or mean.

    Raises:
        UserError: What was asked for needs a VAE, an encoder, photos or a style image that are not there.
    """

    def __init__(self, val: ValOPT, synthesizer: Synthesizer, has_photos: bool):
        self.name = _choice(val, synthesizer, has_photos)
        self.steps = val.style_steps
        self._seed, self._synthesizer = val.seed, synthesizer
        # A film's style must not change from picture to picture, unless that is asked for.
        self._is_one, self._first = bool(val.video) and val.style != "photo", None
        files = (val.style_image, val.style_image2) if self.name == "image" else ()
        try:
            self._ends = [synthesizer.encode(file) for file in files if file]
        except UserError as error:
            raise UserError(f"style image {error}") from None

    def __call__(self, batch: Mapping[str, Any]) -> list[np.ndarray | None]:
        """A list of z [N, z_dim], of `steps` entries on the way from one style to another, or of one."""
        n, z_dim = len(batch["label"]), self._synthesizer.z_dim
        if self.name == "none":
            return [None]
        if self.name == "photo":
            z = self._synthesizer.encode_batch(batch["image"])
            self._first = z[:1] if self._first is None else self._first
            return [np.tile(self._first, (n, 1)) if self._is_one else z]
        if self.name == "mean":
            return [np.zeros((n, z_dim), np.float32)]
        if self.name == "image":
            ends = [np.tile(z, (n, 1)) for z in self._ends]
            return [on_line(*ends, t) for t in np.linspace(0, 1, self.steps)] if self.steps else ends
        numbers = np.zeros(n, np.int64) if self._is_one else np.asarray(batch["index"])
        start = self._noise(numbers)
        return arc(start, self._noise(numbers + 2**32), self.steps) if self.steps else [start]

    def _noise(self, numbers: np.ndarray) -> np.ndarray:
        return np.stack([self._synthesizer.noise(self._seed, int(number)) for number in numbers])


def data_options(opt: OPT, val: ValOPT) -> OPT:
    """A checkpoint's options with the data that a validation run names in place of its own.

    Raises:
        UserError: There is no such folder, or the checkpoint's data lie in folders that dataroot does not name.
    """
    changes = {"batchSize": val.batchSize, "nThreads": val.nThreads}
    if val.how_many:
        changes["max_dataset_size"] = val.how_many
    if val.label_dir:
        changes.update(label_dir=val.label_dir, image_dir=val.image_dir, instance_dir=val.instance_dir)
    if val.dataroot:
        if opt.label_dir:
            raise UserError(
                f"dataroot {val.dataroot}: this checkpoint was trained on folders of files ({opt.label_dir}): give "
                "--label_dir and, with photos, --image_dir"
            )
        if not os.path.isdir(val.dataroot):
            raise UserError(f"dataroot {val.dataroot} is not a folder: give that of the data set")
        changes["dataroot"] = val.dataroot
    return dataclasses.replace(opt, **changes)


def validation_loader(opt: OPT, split: str, spread: int | None = None) -> Loader:
    """The batches of a split, a key of `SPLITS`, in order, cut to size as for validation: no flip, no random crop.

    Args:
        spread: so many of its pictures, evenly spread; None for all.

    Raises:
        UserError: Files are missing or unpaired.
    """
    try:
        data = PhotoMaps(opt, split, "val")
        return Loader(data.keep(spread) if spread else data, opt)
    except UserError as error:
        others = {"val": " (the training split instead: --phase train)", "test": " (the validation split: --phase val)"}
        raise UserError(f"{error}{'' if opt.label_dir else others.get(split, '')}") from None
