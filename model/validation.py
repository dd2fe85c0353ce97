"""What a validation run paints: a split's label maps in order, and the styles of each batch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.data import Loader, PhotoMaps, read_photo
from model.errors import UserError
from model.options import OPT, ValOPT
from model.styles import arc, line
from model.synthesizer import Synthesizer


def choose_style(val: ValOPT, synthesizer: Synthesizer, has_photos: bool) -> str:
    """The style of a validation run in one word: none, photo, image, random or mean.

    Raises:
        UserError: What was asked for needs a VAE, an encoder or photos that are not there.
    """
    file = synthesizer.info["file"]
    if not synthesizer.z_dim:
        if val.style != "auto" or val.style_image or val.style_steps:
            raise UserError(f"{file} was trained without --use_vae and knows one style: leave out the style options")
        return "none"
    if val.style != "auto":
        style = val.style
    elif val.style_image:
        style = "image"
    else:
        style = "photo" if has_photos and synthesizer.has_encoder and not val.style_steps else "random"
    if style in ("photo", "image") and not synthesizer.has_encoder:
        raise UserError(
            f"style {style} needs the encoder, and there is none beside {file} (n_e.pdparams): put it "
            "there, or give --style random"
        )
    if style == "photo" and not has_photos:
        raise UserError(
            "style photo needs photos, and this split has label maps alone: give --style random or --style_image FILE"
        )
    return style


class Styles:
    """The styles that each batch of a validation run is painted in.

    Raises:
        UserError: A style image that cannot be read; see `choose_style`.
    """

    def __init__(self, val: ValOPT, synthesizer: Synthesizer, has_photos: bool):
        self.name = choose_style(val, synthesizer, has_photos)
        self.steps = val.style_steps
        self._seed, self._synthesizer = val.seed, synthesizer
        files = (val.style_image, val.style_image2) if self.name == "image" else ()
        self._ends = [synthesizer.encode(read_photo(file)) for file in files if file]

    def __call__(self, batch: Mapping[str, Any]) -> list[np.ndarray | None]:
        """A list of z [N, z_dim], of `steps` entries on the way from one style to another, or of one."""
        n, z_dim = len(batch["label"]), self._synthesizer.z_dim
        if self.name == "none":
            return [None]
        if self.name == "photo":
            return [self._synthesizer.encode_batch(batch["image"])]
        if self.name == "mean":
            return [np.zeros((n, z_dim), np.float32)]
        if self.name == "image":
            ends = [np.tile(z, (n, 1)) for z in self._ends]
            return line(*ends, self.steps) if self.steps else ends
        numbers = np.asarray(batch["index"])
        start = self._noise(numbers)
        return arc(start, self._noise(numbers + 2**32), self.steps) if self.steps else [start]

    def _noise(self, numbers: np.ndarray) -> np.ndarray:
        return np.stack([self._synthesizer.noise(self._seed, int(number)) for number in numbers])


def validation_loader(opt: OPT, split: str) -> Loader:
    """The batches of a split ("val" or "train") in order, cut to size as for validation: no flip, no random crop.

    Raises:
        UserError: Files are missing or unpaired.
    """
    if split == "val":
        try:
            return Loader(PhotoMaps(opt, "val"), opt)
        except UserError as error:
            raise UserError(f"{error} (the training split instead: --phase train)") from None
    if opt.preprocess_mode.endswith("_and_crop"):
        opt = dataclasses.replace(opt, load_size=opt.crop_size)
    maps = PhotoMaps(opt, split)
    maps.phase = "val"  # the training split's files, the validation's way of reading them
    return Loader(maps, opt)
