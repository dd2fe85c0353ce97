"""Data sets: the examples of a split, read, checked and transformed."""

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from model.data.agreement import TURN_THE_PHOTO, Agreement, if_greys, turned_apart
from model.data.label_ids import check_ids, foreign_ids, id_ranges, is_class, reading
from model.data.listing import list_files, list_items, natural_order, not_read
from model.data.palettes import read_palette
from model.data.pictures import read_photo
from model.data.preprocess import crop_and_flip, scaled_size, transform
from model.data.reading import id_counts, read_ids
from model.errors import UserError


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """`count` of some items, at most all, evenly spread from the first on."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def _some_ids(files: list[str], read: Callable[[str], Image.Image]) -> tuple[set[int], int]:
    """The ids that at most 32 label maps hold, evenly spread over all, and how many maps these are."""
    chosen = evenly(files, 32)
    return {i for file in chosen for i in id_counts(read(file))}, len(chosen)


def with_unknown_class(opt):
    """The options with an unknown class if label maps hold the ids that it would have, and no others that do not fit.

    For a user's own data, of which nobody said whether they have it. What a palette file names is a class, and of
    two such ids one may be a class that label_nc does not count.
    """
    changed = dataclasses.replace(opt, contain_dontcare_label=True)
    try:
        palette = read_palette(opt.palette) if opt.palette else None
        files = list_files(opt, "train")["label"].files
        read = functools.partial(read_ids, palette=palette)
        ids = _some_ids([files[key] for key in sorted(files, key=natural_order)], read)[0]
    except UserError:
        return opt  # told where the data set is read
    names = palette.names if palette else {}
    meant = foreign_ids(ids, opt)
    fits = len(meant) == 1 and not foreign_ids(meant, changed) and not is_class(names.get(meant[0], ""))
    return changed if fits else opt


class PhotoMaps:
    """Photos with label and instance maps of any supported layout, preprocessed for one phase.

    `dataset[index]` or `dataset[epoch, index]` gives a dict: image float32 [3, H, W] in [-1, 1] (absent without
    photos), label int64 [H, W] with unlabelled as `opt.label_nc`, instance int32 [H, W] (absent with `no_instance`;
    without instance maps the label map, so that edges run where classes meet), name str, index int.

    Args:
        split: "train", "val" or "test", whose files are read.
        phase: how, by default as the split's name says. In phase "train" crop and flip are drawn from (opt.seed, epoch,
            index). In the others nothing is flipped, crops are central, and the modes that scale and crop scale to
            crop_size, as the released code's test options do.

    Attributes:
        items: the files of each example.
        not_read: which files beside them are passed over for their suffix, in words.
        without_photos: why the examples have no photos, in words; nothing where they have.

    Raises:
        UserError: files are missing, unpaired, or hold ids that do not fit.
    """

    def __init__(self, opt, split: str = "train", phase: str | None = None):
        self.phase = phase = phase or split
        self.palette = read_palette(opt.palette) if opt.palette else None
        listings = list_files(opt, split)
        self.items = list_items(opt, split, listings)
        self.not_read = not_read(listings)
        self.without_photos = ""
        if self.items[0].image is None:
            folder = listings["image"].folder if "image" in listings else ""
            state = "holds none" if os.path.isdir(folder) else "is not there"
            self.without_photos = f"{folder} {state}" if folder else "no folder of photos is given"
        self._agreement = Agreement()
        if phase == "train":
            self._scan_ids(opt)
        if phase != "train" and opt.preprocess_mode.endswith("_and_crop"):
            opt = dataclasses.replace(opt, load_size=opt.crop_size)
        self.opt = opt

    def _scan_ids(self, opt) -> None:
        """Look at some label maps before anything is built: at palettes, and at ids, unknown of a custom data set."""
        files = [item.label for item in self.items]
        ids, seen = _some_ids(files, self._read_label)
        if opt.dataset_mode == "custom" and foreign_ids(ids, opt):
            options = reading(ids, self.palette.names if self.palette else {}, opt).options
            raise UserError(
                f"{os.path.commonpath([os.path.dirname(file) for file in files])}: {seen} of {len(files)} label maps "
                f"looked at hold the ids {id_ranges(ids)}, and label_nc {opt.label_nc} does not fit them: give "
                f"{options} (tools/check_dataset.py custom looks at all){self._agreement.if_greys()}"
            )

    def _read_label(self, path: str) -> Image.Image:
        label = read_ids(path, palette=self.palette)
        self._agreement.check(path, label.info)
        return label

    def __len__(self) -> int:
        return len(self.items)

    def keep(self, count: int) -> "PhotoMaps":
        """Keep so many examples, at most all, evenly spread: a film's first frames are one picture again and again."""
        self.items = evenly(self.items, count)
        return self

    def names(self, indices) -> list[str]:
        """Names, as items have them, of the given indices, for messages and output files."""
        return [self.items[int(i)].name for i in indices]

    def __getitem__(self, key) -> dict:
        epoch, index = key if isinstance(key, tuple) else (1, key)
        item, opt = self.items[index], self.opt
        label = self._read_label(item.label)
        check_ids(id_counts(label), opt, item.label, if_greys(item.label, label.info))
        image = read_photo(item.image) if item.image else None
        instance = read_ids(item.instance, coded=True) if item.instance else None
        self._check_sizes(item, image, label, instance)
        crop_pos, flip = self._choose(label.size, epoch, index)
        try:
            image, label, instance = transform(image, label, instance, opt, crop_pos, flip)
        except UserError as error:
            raise UserError(f"{item.label}: {error}") from error
        if instance is None and not opt.no_instance:
            instance = label.astype(np.int32)
        if self.phase == "train":
            self._check_geometry(item, label.shape)
        example = {"image": image, "label": label, "instance": instance, "name": item.name, "index": index}
        return {k: v for k, v in example.items() if v is not None}

    def _choose(self, size, epoch, index):
        width, height = scaled_size(size, self.opt)
        if "crop" in self.opt.preprocess_mode and min(width, height) < self.opt.crop_size:
            warnings.warn(
                f"pictures smaller than crop_size {self.opt.crop_size} after scaling are padded with zeros "
                f"(black, class 0), as in the released code: choose another preprocess_mode",
                stacklevel=2,
            )
        if self.phase == "train":
            return crop_and_flip(self.opt, size, epoch, index)
        return (max(0, width - self.opt.crop_size) // 2, max(0, height - self.opt.crop_size) // 2), False

    def _check_geometry(self, item, size) -> None:
        mode = self.opt.preprocess_mode
        try:
            self.opt.check_geometry(size)
        except UserError as error:
            raise UserError(
                f"{item.label}: preprocess_mode {mode} makes it {size[1]}x{size[0]} (width x height): {error}; "
                "or choose a mode that gives one size, such as resize_and_crop or fixed"
            ) from None

    def _check_sizes(self, item, image, label, instance) -> None:
        if len({p.size for p in (image, label, instance) if p is not None}) > 1:
            read = ("photo", item.image, image), ("label", item.label, label), ("instance", item.instance, instance)
            sizes = ", ".join(f"{what} {path} {p.width}x{p.height}" for what, path, p in read if p is not None)
            if image is not None and turned_apart(image, label):
                way_out = f"the photo's EXIF orientation, {image.info['orientation']}, is not applied: {TURN_THE_PHOTO}"
            else:
                way_out = "maps must have the photo's size in pixels"
            raise UserError(f"sizes (width x height) differ: {sizes}: {way_out}")
