"""Files to batches: listing and pairing, reading, the released code's preprocessing, sampling, the DataLoader.

Random choices (order, crop, flip) are functions of (seed, epoch, index) alone, so that neither the number of workers
nor the number of processes changes what the network sees.
"""

import dataclasses
import functools
import multiprocessing.util
import os
import re
import shutil
import signal
import traceback
import unicodedata
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from model.data.label_ids import (
    as_channels,
    check_ids,
    foreign_ids,
    id_ranges,
    is_class,
    second_reading,
    suggested_options,
)
from model.data.palettes import read_palette
from model.data.reading import (
    MAP_SUFFIXES,
    PHOTO_SUFFIXES,
    TURN_THE_PHOTO,
    Agreement,
    id_map,
    ids_in,
    if_greys,
    passed_over,
    read_ids,
    read_photo,
    turned_apart,
)
from model.data.workers import begin_worker
from model.errors import UserError, listed
from model.files import walk
from model.options import PREPROCESS_MODES

if TYPE_CHECKING:
    import paddle  # imported by Loader only, so that tools that list and read files start fast

# ---------------------------------------------------------------------------------------------------------------------
# Preprocessing


def scaled_size(size: tuple[int, int], opt) -> tuple[int, int]:
    """(width, height) that a picture of `size` has after the scaling of `opt.preprocess_mode`, before its crop."""
    w, h = size
    mode = opt.preprocess_mode
    if mode == "resize_and_crop":
        return opt.load_size, opt.load_size
    if mode in ("scale_width", "scale_width_and_crop"):
        return (w, h) if w == opt.load_size else (opt.load_size, int(opt.load_size * h / w))
    if mode in ("scale_shortside", "scale_shortside_and_crop"):
        # The released code sets the long side to what fits a short side of load_size and leaves the short side as it
        # was. Its reference numbers show it, so it is kept (test_shortside_keeps_the_released_quirk).
        short, long = min(w, h), max(w, h)
        if short == opt.load_size:
            return w, h
        long = int(opt.load_size * long / short)
        return (short, long) if w == short else (long, short)
    if mode == "fixed":
        return opt.crop_size, round(opt.crop_size / opt.aspect_ratio)
    if mode == "none":
        return int(round(w / 32) * 32), int(round(h / 32) * 32)
    if mode == "crop":
        return w, h
    raise UserError(f"preprocess_mode {mode!r} is not one of {', '.join(PREPROCESS_MODES)}")


def _geometry(picture: Image.Image, opt, crop_pos: tuple[int, int], flip: bool, resample) -> Image.Image:
    size = scaled_size(picture.size, opt)
    if min(size) < 1:
        raise UserError(
            f"a picture of {picture.width}x{picture.height} becomes {size[0]}x{size[1]} with "
            f"preprocess_mode {opt.preprocess_mode}: use larger pictures or preprocess_mode fixed"
        )
    if size != picture.size:
        picture = picture.resize(size, resample)
    if "crop" in opt.preprocess_mode:
        x, y = crop_pos
        picture = picture.crop((x, y, x + opt.crop_size, y + opt.crop_size))  # zeros where it leaves the picture
    if flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture


def transform(image, label, instance, opt, crop_pos: tuple[int, int] = (0, 0), flip: bool = False):
    """Scale, crop, flip and normalise one photo and its maps exactly as the released code does.

    Source: the released code's preprocessing; bicubic for photos, nearest neighbour for maps, both Pillow's.

    Args:
        image: RGB photo (PIL), or None.
        label: label map (PIL), as `reading.id_map` takes it.
        instance: instance map (PIL, also RGB-coded ids), or None.
        opt: `preprocess_mode`, `load_size`, `crop_size`, `aspect_ratio` and what `unknown_ids` reads are read.
        crop_pos: (x, y) in pixels of the crop's top left corner in the scaled picture; used by the modes with crop.
            What lies outside the picture is 0, as in the released code.
        flip: mirror left and right.

    Returns:
        (image float32 [3, H, W] in [-1, 1] or None, label int64 [H, W] in which unlabelled is the unknown class,
        instance int32 [H, W] or None).

    Raises:
        UserError: an unknown mode, a label map in colours, or a picture that would vanish.
    """
    if image is not None:
        photo = _geometry(image.convert(opt.photo_mode), opt, crop_pos, flip, Image.Resampling.BICUBIC)
        pixels = np.atleast_3d(photo)
        image = np.ascontiguousarray(_PIXEL_VALUES[pixels.transpose(2, 0, 1)])
    label = as_channels(np.asarray(_geometry(id_map(label), opt, crop_pos, flip, Image.Resampling.NEAREST)), opt)
    if instance is not None:
        instance = _geometry(id_map(instance, coded=True), opt, crop_pos, flip, Image.Resampling.NEAREST)
        instance = np.asarray(instance).astype(np.int32)
    return image, label, instance


# (x / 255 - 0.5) / 0.5 in float32 arithmetic, of which there are only 256 values
_PIXEL_VALUES = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


def crop_and_flip(opt, size: tuple[int, int], epoch: int, index: int) -> tuple[tuple[int, int], bool]:
    """Crop position (x, y) and flip of picture `index` in `epoch`: a function of (opt.seed, epoch, index) alone.

    The released code draws the offsets of scale_shortside_and_crop from another size than the one it crops, so that
    crops can leave the picture; here they come from the scaled size (test_random_crops_stay_inside).
    """
    w, h = scaled_size(size, opt)
    raw = np.random.Philox(np.random.SeedSequence([opt.seed, epoch, index])).random_raw(3)
    x, y = (int(r) % (max(0, side - opt.crop_size) + 1) for r, side in zip(raw, (w, h), strict=False))
    return (x, y), bool(raw[2] >> np.uint64(63)) and not opt.no_flip


# ---------------------------------------------------------------------------------------------------------------------
# Listing and pairing


class Item(NamedTuple):
    """Files that belong together; `image` is None where only label maps are given, `instance` where none are used.

    `name` is the path in the folder of label maps without suffix, "street/12", and names what is made of them.
    """

    name: str
    label: str
    image: str | None
    instance: str | None


class Listing(NamedTuple):
    """Where files were looked for, and what was found: {pairing key: path}; of `others`, the number by suffix."""

    folder: str
    files: dict[str, str]
    others: Mapping[str, int] = {}


# what files of each kind there are, and the suffixes that are read
KINDS = {"label": MAP_SUFFIXES, "image": PHOTO_SUFFIXES, "instance": MAP_SUFFIXES}


def item_name(key: str) -> str:
    """The name that an item of this pairing key has: all of it but the mark of COCO's portraits, "portrait//"."""
    return key.rpartition("//")[2]


def natural_order(key: str) -> list:
    """A sort key for names in which numbers count as numbers: p2 before p10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", key) if part]


def _list(
    folder,
    suffixes,
    key: Callable[[str], str | None] = lambda path: os.path.splitext(path)[0],
    recursive: bool = False,
    without: Iterable[str] = (),
    prefix: str = "",
) -> Listing:
    """Picture files of one folder by pairing key in Unicode's form NFC; nothing hidden.

    Args:
        folder: where; need not be there.
        suffixes: of the files that are read.
        key: the pairing key of a file's path in `folder` (default: the path without suffix); None for other files.
        recursive: read the folders in it too.
        without: folders in it, by their whole real paths, that are not read.
        prefix: begins all keys.
    """
    found: dict[str, str] = {}
    others: Counter[str] = Counter()
    for inside, folders, names in walk(folder):
        places = {name: os.path.join(folder, inside, name) for name in folders if recursive}
        folders[:] = [name for name, place in places.items() if os.path.realpath(place) not in without]
        for name in names:
            k, suffix = key(os.path.join(inside, name)), os.path.splitext(name)[1].lower()
            if k is None:
                continue
            if suffix not in suffixes:
                others[suffix] += 1
                continue
            path = os.path.join(folder, inside, name)
            k = unicodedata.normalize("NFC", prefix + k)  # archives made on macOS hold names in the form NFD
            if k in found:
                raise UserError(
                    f"{path} and {found[k]} have the same name but for suffix, folder or Unicode form, and files are "
                    "paired by name: move one of them elsewhere; photos and maps belong in folders of their own"
                )
            found[k] = path
    return Listing(str(folder), found, others)


def _joined(first: Listing, *others: Listing) -> Listing:
    files, unread = dict(first.files), Counter(first.others)
    for other in others:
        files.update(other.files)
        unread.update(other.others)
    return Listing(first.folder, files, unread)


def not_read(listings: dict[str, Listing]) -> str:
    """Which files of the listed folders are not read for their suffix, in words; nothing where all are."""
    told = []
    for kind, listing in listings.items():
        place = os.path.realpath(listing.folder)
        shared = [o for o in listings.values() if o is not listing and os.path.realpath(o.folder) == place]
        beside = {os.path.splitext(path)[1].lower() for other in shared for path in other.files.values()}
        others = {suffix: count for suffix, count in listing.others.items() if suffix not in beside}
        if others:
            told.append(f"{passed_over(others)} in {listing.folder} ({kind})")
    return "; ".join(told)


def _flat(opt, phase: str, portraits: bool = False) -> dict[str, Listing]:
    """{train,val}_{label,img,inst} folders; for COCO the `_portrait` folders beside them too, for training."""
    listings = {}
    for kind, folder, suffixes in (
        ("label", "label", MAP_SUFFIXES),
        ("image", "img", PHOTO_SUFFIXES),
        ("instance", "inst", MAP_SUFFIXES),
    ):
        path = Path(opt.dataroot, f"{phase}_{folder}")
        listings[kind] = _list(path, suffixes)
        if portraits and phase == "train":
            listings[kind] = _joined(listings[kind], _list(f"{path}_portrait", suffixes, prefix="portrait//"))
    return listings


def _coco_stuff(opt, phase: str) -> dict[str, Listing]:
    return _flat(opt, phase, portraits=True)


def _sample(opt, phase: str) -> dict[str, Listing]:
    from model.data.sample import ensure_sample

    ensure_sample(opt.dataroot)
    return _flat(opt, phase)


def _ade20k(opt, phase: str) -> dict[str, Listing]:
    root = Path(opt.dataroot)
    if (root / "ADEChallengeData2016").is_dir():
        root = root / "ADEChallengeData2016"
    split = {"train": "training", "val": "validation"}[phase]
    if not (root / "annotations").is_dir() and (any(root.glob("index_ade20k*")) or any(root.glob("images/ADE"))):
        raise UserError(
            f"{root}: this is the full ADE20K release; SPADE uses the scene parsing benchmark, "
            "ADEChallengeData2016.zip, with its folders images and annotations"
        )
    return {
        "label": _list(root / "annotations" / split, MAP_SUFFIXES),
        "image": _list(root / "images" / split, PHOTO_SUFFIXES),
    }


def _cityscapes(opt, phase: str) -> dict[str, Listing]:
    def ending(tail):
        return lambda path: os.path.basename(path)[: -len(tail)] if path.endswith(tail) else None

    root = Path(opt.dataroot)
    maps, photos = root / "gtFine" / phase, root / "leftImg8bit" / phase
    return {
        "label": _list(maps, MAP_SUFFIXES, ending("_gtFine_labelIds.png"), recursive=True),
        "image": _list(photos, PHOTO_SUFFIXES, ending("_leftImg8bit.png"), recursive=True),
        "instance": _list(maps, MAP_SUFFIXES, ending("_gtFine_instanceIds.png"), recursive=True),
    }


# what the subfolders of label_dir, image_dir and instance_dir may be called, in any case and with a year behind
SPLITS = {"train": ("train", "training"), "val": ("val", "validation", "valid")}


def _split(folder: str) -> str:
    """The phase that a subfolder of this name holds the files of; nothing for other names."""
    name = folder.lower().rstrip("0123456789")
    return next((phase for phase, names in SPLITS.items() if name in names), "")


def _chosen(opt, phase: str) -> dict[str, Listing]:
    """label_dir, image_dir, instance_dir; where such a folder has a subfolder of the phase (`SPLITS`), that.

    Files may lie in folders of their own, alike for maps and photos. In a folder that is given for both, photos are the
    files whose suffix no map may have.

    Raises:
        UserError: it has several such, or none and others, where label_dir has one; or photos cannot be told from maps.
    """
    listings, divided, known = {}, False, set()
    names = SPLITS[phase]
    real = {kind: os.path.realpath(getattr(opt, f"{kind}_dir")) for kind in KINDS if getattr(opt, f"{kind}_dir")}
    for kind in real:
        folder, suffixes = getattr(opt, f"{kind}_dir"), KINDS[kind]
        shared = kind == "image" and real[kind] in (real["label"], real.get("instance"))
        if shared:
            suffixes = [suffix for suffix in suffixes if suffix not in MAP_SUFFIXES]
        folders = next(walk(folder), ("", [], []))[1]
        inner = [name for name in folders if _split(name) == phase]
        splits = [name for name in folders if _split(name)]
        others = [name for name in folders if name not in splits and name not in known]
        if len(inner) > 1:
            raise UserError(f"{folder} has {' and '.join(sorted(inner))}, which both mean {phase}: leave one there")
        if divided and not inner and others:
            raise UserError(
                f"{folder} has no subfolder {' or '.join(names)}, as {opt.label_dir} has, but {listed(others)}: "
                "call the subfolders of both alike"
            )
        if kind == "label":
            divided, known = bool(inner), set(folders)
        apart = set(real.values())
        listings[kind] = _list(Path(folder, *inner), suffixes, recursive=bool(inner) or not splits, without=apart)
        if splits and not inner and not listings[kind].files:
            listings[kind] = Listing(str(Path(folder, names[0])), {})  # which is missing, and told
        if shared and phase == "train" and not listings[kind].files:
            raise UserError(
                f"{listings[kind].folder} is given for photos and for maps, and has no photos that their suffix "
                f"({', '.join(suffixes)}) tells from maps: give photos and maps in folders of their own"
            )
    return listings


LAYOUTS: dict[str, Callable] = {
    "coco_stuff": _coco_stuff,
    "sample": _sample,
    "ade20k": _ade20k,
    "cityscapes": _cityscapes,
    "facades": _flat,
    "custom": _chosen,
}


def list_files(opt, phase: str) -> dict[str, Listing]:
    """The files of one phase by kind (label, image, instance): those of label_dir, else of dataset_mode's layout."""
    return (_chosen if opt.label_dir else LAYOUTS[opt.dataset_mode])(opt, phase)


def list_items(opt, phase: str, listings: dict[str, Listing] | None = None) -> list[Item]:
    """Pair the files of `opt.dataset_mode` for one phase ("train" or "val"), sorted by name with numbers as numbers.

    Photos are required for training, and instance maps unless `opt.no_instance`; for "val" either folder may be missing
    or empty.

    Args:
        listings: what `list_files` gives, if it is known already.

    Raises:
        UserError: an empty or missing folder, or files without partner, with the first names and the counts.
    """
    if phase not in ("train", "val"):
        raise UserError(f"phase {phase!r} is neither 'train' nor 'val'")
    listings = listings or list_files(opt, phase)
    labels = listings["label"]
    if not labels.files:
        there = os.path.isdir(labels.folder)
        state = f"holds no label maps ({', '.join(MAP_SUFFIXES)})" if there else "is not a folder"
        if labels.others:
            state += f" but {passed_over(labels.others)}"
        out = "--label_dir" if opt.label_dir else f"--dataroot and --dataset_mode ({opt.dataset_mode})"
        raise UserError(
            f"{labels.folder} {state}: check {out}; docs/data.md tells how to get the data, --preset sample needs none"
        )
    partners: dict[str, dict[str, str]] = {}
    problems = []
    for kind, what in (("image", "photo"), ("instance", "instance map")):
        found = listings.get(kind)
        if (phase == "val" and not (found and found.files)) or (kind == "instance" and opt.no_instance):
            continue
        if found is None:
            option = "--image_dir FOLDER" if kind == "image" else "--instance_dir FOLDER or --no_instance True"
            raise UserError(f"dataset_mode {opt.dataset_mode} has no {what}s here: pass {option}")
        problems += _unpaired(labels, found, what)
        partners[kind] = found.files
    if problems:
        raise UserError(
            f"{'; '.join(problems)}: files are paired by name (tools/check_dataset.py writes the whole list)"
        )
    items = [
        Item(
            item_name(key),
            labels.files[key],
            partners.get("image", {}).get(key),
            partners.get("instance", {}).get(key),
        )
        for key in sorted(labels.files, key=natural_order)
    ]
    return items[: opt.max_dataset_size]


def _unpaired(labels: Listing, others: Listing, what: str) -> list[str]:
    """What lacks its partner in two folders, in words; nothing if all are paired."""

    def told(missing, of, partner, folder):
        jpegs = partner != "photo" and not missing.isdisjoint(_list(folder, (".jpg", ".jpeg"), recursive=True).files)
        note = f"; {folder} holds it as JPEG, which cannot hold ids: save maps as PNG" if jpegs else ""
        return f"{len(missing)} {of} without {partner} ({listed(sorted(missing, key=natural_order))}{note})"

    problems = []
    lone, extra = labels.files.keys() - others.files.keys(), others.files.keys() - labels.files.keys()
    if lone:
        problems.append(told(lone, f"of {len(labels.files)} label maps", what, others.folder))
    if extra:
        problems.append(told(extra, f"of {len(others.files)} {what}s", "label map", labels.folder))
    if problems:
        hint = ", --no_instance does without" if what == "instance map" and not others.files else ""
        unread = not_read({"label": labels, what: others})
        hint += f"; not read for their suffix: {unread}" if unread else ""
        if alike := renamed(sorted(lone, key=natural_order), sorted(extra, key=natural_order)):
            hint += f"; {alike}"
        return [f"{labels.folder} and {others.folder}: {' and '.join(problems)}{hint}"]
    return []


def renamed(lone: list[str], extra: list[str]) -> str:
    """A word on names that differ by the same beginning or ending in all files, else nothing."""
    if not lone or len(lone) != len(extra):
        return ""
    for short, long in ((lone, extra), (extra, lone)):
        rests = {b.replace(a, "*", 1) for a, b in zip(short, long, strict=True)}
        if len(rests) == 1 and "*" in rests.pop():
            return f"all names differ alike, as {lone[0]} and {extra[0]} do: rename one kind"
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# Data sets


def _some_ids(files: list[str], read: Callable[[str], Image.Image], count: int = 32) -> tuple[set[int], int]:
    """The ids that some label maps hold, evenly spread over all, and how many maps these are."""
    chosen = files[:: -(-len(files) // count)]
    return {i for file in chosen for i in ids_in(read(file))}, len(chosen)


def with_unknown_class(opt):
    """The options with an unknown class if label maps hold the ids that it would have, and no others that do not fit.

    For data sets of one's own, of which nobody said whether they have it. What a palette file names is a class, and of
    two such ids one may be a class that label_nc does not count.
    """
    changed = dataclasses.replace(opt, contain_dontcare_label=True)
    try:
        palette = read_palette(opt.palette) if opt.palette else None
        files = list_files(opt, "train")["label"].files
        read = functools.partial(read_ids, palette=palette)
        ids = _some_ids([files[key] for key in sorted(files, key=natural_order)], read)[0] if files else set()
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
        split: "train" or "val", whose files are read.
        phase: how, by default as the split's name says. In phase "train" crop and flip are drawn from (opt.seed, epoch,
            index). In phase "val" nothing is flipped, crops are central, and the modes that scale and crop scale to
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
        if phase == "val" and opt.preprocess_mode.endswith("_and_crop"):
            opt = dataclasses.replace(opt, load_size=opt.crop_size)
        self.opt = opt

    def _scan_ids(self, opt) -> None:
        """Look at some label maps before anything is built: at palettes, and at ids, unknown of a custom data set."""
        files = [item.label for item in self.items]
        ids, seen = _some_ids(files, self._read_label)
        if opt.dataset_mode == "custom" and foreign_ids(ids, opt):
            known = ids, self.palette.names if self.palette else {}, opt
            raise UserError(
                f"{os.path.commonpath([os.path.dirname(file) for file in files])}: {seen} of {len(files)} label maps "
                f"looked at hold the ids {id_ranges(ids)}, and label_nc {opt.label_nc} does not fit them: give "
                f"{suggested_options(*known)}{second_reading(*known)} (tools/check_dataset.py custom looks at all)"
                f"{self._agreement.if_greys()}"
            )

    def _read_label(self, path: str) -> Image.Image:
        label = read_ids(path, palette=self.palette)
        self._agreement.check(path, label.info)
        return label

    def __len__(self) -> int:
        return len(self.items)

    def names(self, indices) -> list[str]:
        """Names, as items have them, of the given indices, for messages and output files."""
        return [self.items[int(i)].name for i in indices]

    def __getitem__(self, key) -> dict:
        epoch, index = key if isinstance(key, tuple) else (1, key)
        item, opt = self.items[index], self.opt
        label = self._read_label(item.label)
        try:
            check_ids(ids_in(label), opt, item.label)
        except UserError as error:
            raise UserError(f"{error}{if_greys(item.label, label.info)}") from None
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
            sizes = ", ".join(
                f"{what} {path} {p.width}x{p.height}"
                for what, path, p in (
                    ("photo", item.image, image),
                    ("label", item.label, label),
                    ("instance", item.instance, instance),
                )
                if p is not None
            )
            if image is not None and turned_apart(image, label):
                way_out = f"the photo's EXIF orientation, {image.info['orientation']}, is not applied: {TURN_THE_PHOTO}"
            else:
                way_out = "maps must have the photo's size in pixels"
            raise UserError(f"sizes (width x height) differ: {sizes}: {way_out}")


class CocoStuff(PhotoMaps):
    """COCO-Stuff in `dataroot`/{train,val}_{img,label,inst} and, for training, the `_portrait` folders beside them."""

    def __init__(self, opt, split: str = "train", phase: str | None = None):
        super().__init__(dataclasses.replace(opt, dataset_mode="coco_stuff"), split, phase)


# ---------------------------------------------------------------------------------------------------------------------
# Sampling and batches


class BatchSampler:
    """Index batches of one process, as a function of (seed, epoch), whatever the number of processes.

    Global batch k of an epoch is permutation[k P B : (k + 1) P B] for P processes with batch size B; the process of
    rank r takes its r-th slice of B. So P processes with batch B see together what one process with batch P B sees.
    For training the incomplete last global batch is left out, and iteration goes on with the next epoch without end,
    so that workers are kept and prefetch across epochs. For validation it is one pass in order in which every index
    comes exactly once over all ranks; the last batches may be smaller, and ranks may have different numbers of them.

    Args:
        size: number of examples.
        opt: `batchSize`, `seed`, `serial_batches` are read.
        train: training or validation order.
        epoch, start: where to begin: `start` batches into `epoch` (counted from 1).
        rank, world: this process and the number of processes.
    """

    def __init__(self, size: int, opt, train: bool, epoch: int = 1, start: int = 0, rank: int = 0, world: int = 1):
        self.size, self.train, self.epoch, self.start = size, train, epoch, start
        self.batch, self.rank, self.world = opt.batchSize, rank, world
        self.seed, self.shuffle = opt.seed, train and not opt.serial_batches
        if train and size < self.batch * world:
            raise UserError(
                f"{size} training examples are fewer than one batch of {self.batch * world} "
                f"(batchSize {self.batch}, processes {world}): lower --batchSize"
            )
        if not 0 <= start <= len(self):
            raise UserError(
                f"start {start} is outside 0..{len(self)}, the batches of an epoch: "
                "the data set or the batch size has changed; begin the next epoch instead"
            )

    def __len__(self) -> int:
        """Batches of a whole epoch for this process."""
        whole = self.size // (self.batch * self.world)
        tail = self.size - whole * self.batch * self.world
        return whole + int(not self.train and tail > self.rank * self.batch)

    def order(self, epoch: int) -> np.ndarray:
        """The epoch's order of all indices: int64 [size]."""
        if not self.shuffle:
            return np.arange(self.size)
        raw = np.random.Philox(np.random.SeedSequence([self.seed, epoch])).random_raw(self.size)
        return np.argsort(raw, kind="stable")

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, start = self.epoch, self.start
        while True:
            order = self.order(epoch)
            for k in range(start, len(self)):
                first = (k * self.world + self.rank) * self.batch
                yield [(epoch, int(i)) for i in order[first : first + self.batch]]
            if not self.train:
                return
            epoch, start = epoch + 1, 0


def collate(examples: list[dict], opt) -> dict[str, np.ndarray]:
    """Stack examples into a batch and add the pattern tables of the modulation.

    Returns:
        image float32 [N, 3, H, W] and instance int32 [N, H, W] where the examples have them, label [N, H, W] as uint8
        if the ids fit, else int32, index int64 [N], and `semantics.pattern_arrays` unless `opt.modulation` is "dense".

    Raises:
        UserError: the examples' sizes differ.
    """
    sizes = Counter(e["label"].shape for e in examples)
    if len(sizes) > 1:
        shown = ", ".join(f"{e['name']} {e['label'].shape[1]}x{e['label'].shape[0]}" for e in examples[:4])
        raise UserError(
            f"pictures of one batch have different sizes with preprocess_mode {opt.preprocess_mode} "
            f"({shown}): use batchSize 1 or a mode that gives one size, such as resize_and_crop or fixed"
        )
    label = np.stack([e["label"] for e in examples]).astype(np.uint8 if opt.label_nc <= 255 else np.int32)
    batch = {"label": label, "index": np.array([e["index"] for e in examples], np.int64)}
    for key in ("image", "instance"):
        if key in examples[0]:
            batch[key] = np.stack([e[key] for e in examples])
    if opt.modulation != "dense":
        from model.semantics import pattern_arrays

        batch.update(pattern_arrays(label, batch.get("instance"), opt))
    return batch


class _BatchReader:
    """What runs in a DataLoader worker: as a data set it hands keys through, as a collate function it reads the batch.

    An exception must not leave a worker: Paddle raises it in a background thread and the main thread sees only a closed
    queue. So it travels as bytes in the place of the batch, and `Loader` raises it.
    """

    def __init__(self, dataset: PhotoMaps):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        return key

    def __call__(self, keys) -> dict[str, np.ndarray]:
        try:
            return collate([self.dataset[key] for key in keys], self.dataset.opt)
        except UserError as error:
            return {"user_error": np.frombuffer(str(error).encode(), np.uint8)}
        except Exception:
            return {"defect": np.frombuffer(traceback.format_exc().encode(errors="backslashreplace"), np.uint8)}


def _begin_worker(parent: int, worker_id: int) -> None:
    """Set up a worker of the DataLoader."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # goes to the process group: the main process ends the run
    # -10: after the queue has written its last batch, which multiprocessing does at -5
    multiprocessing.util.Finalize(None, _drop_orphans, args=(parent,), exitpriority=-10)
    begin_worker(parent, functools.partial(_drop_orphans, parent))


def _drop_orphans(parent: int) -> None:
    """Remove this worker's batches from shared memory if nobody is left to take them: they would fill it for good."""
    if os.getppid() != parent:
        for batch in Path("/dev/shm").glob(f"paddle_{os.getpid()}_*"):
            batch.unlink(missing_ok=True)


def _stop(stream) -> None:
    stream._try_shutdown_all()


class Loader:
    """Batches of one phase, read by worker processes; each `for` loop is one epoch.

    For training the first loop goes from (`epoch`, `start`) to the end of that epoch, and each further loop is the
    next epoch; a loop left early is taken up where it was left. For validation each loop is one whole pass.
    `len(loader)` is the number of batches of a whole epoch; `loader.epoch` and `loader.position` say which batch comes
    next and are what a checkpoint needs. `close()` (or `with`) stops the workers; so does the loader's collection.
    """

    def __init__(self, dataset: PhotoMaps, opt, epoch: int = 1, start: int = 0, rank: int = 0, world: int = 1):
        self.dataset = dataset
        self.train = dataset.phase == "train"
        self.epoch, self.position = epoch, start
        self.workers = opt.nThreads
        self._opt, self._rank, self._world = opt, rank, world
        self._length = len(self._sampler())
        self._stream = None
        self._finalizer = None

    def __len__(self) -> int:
        return self._length

    def _sampler(self) -> BatchSampler:
        return BatchSampler(
            len(self.dataset), self._opt, self.train, self.epoch, self.position, self._rank, self._world
        )

    def names(self, batch) -> list[str]:
        """Names, as items have them, of a batch."""
        return self.dataset.names(np.asarray(batch["index"]))

    def __iter__(self) -> Iterator[dict[str, "paddle.Tensor"]]:
        if not self.train:
            self.close()
            self.position = 0
        if self.position >= self._length:
            self.epoch, self.position = self.epoch + 1, 0
        try:
            while self.position < self._length:
                batch = self._next()
                self.position += 1
                yield batch
            if self.train:
                self.epoch, self.position = self.epoch + 1, 0
        finally:
            if not self.train:
                self.close()

    def _next(self) -> dict[str, "paddle.Tensor"]:
        if self._stream is None:
            self._start()
        try:
            batch = next(self._stream)
        except BaseException:
            self.close()
            raise
        for kind, error in (("user_error", UserError), ("defect", RuntimeError)):
            if kind in batch:
                self.close()
                raise error(batch[kind].numpy().tobytes().decode())
        return batch

    def _start(self) -> None:
        import paddle

        reader = _BatchReader(self.dataset)
        loader = paddle.io.DataLoader(
            reader,
            batch_sampler=self._sampler(),
            collate_fn=reader,
            num_workers=self.workers,
            return_list=True,
            use_shared_memory=self.workers > 0 and _shared_memory_suffices(),
            worker_init_fn=functools.partial(_begin_worker, os.getpid()),
            use_buffer_reader=not paddle.device.get_device().startswith("cpu"),
        )
        state = np.random.get_state()  # the DataLoader draws from it, and a resumed run would draw at another time
        self._stream = iter(loader)
        np.random.set_state(state)
        self._finalizer = weakref.finalize(self, _stop, self._stream)

    def close(self) -> None:
        """Stop the workers and drop what they prefetched."""
        if self._finalizer is not None:
            self._finalizer()
        self._stream = self._finalizer = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _shared_memory_suffices(needed: int = 512 * 2**20) -> bool:
    """Whether /dev/shm has room for the batches under way: containers often give it 64 MB, and a full one kills."""
    return os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free >= needed


def make_loader(opt, phase: str, *, epoch: int = 1, start: int = 0, rank: int = 0, world: int = 1) -> Loader:
    """The batches of `phase` ("train" or "val"), from `start` batches into `epoch`, for process `rank` of `world`.

    Batches are dicts of Paddle tensors on the current device, as `collate` describes them.

    Raises:
        UserError: files are missing or unpaired; while iterating, a file that cannot be used, by name.
    """
    return Loader(PhotoMaps(opt, phase), opt, epoch, start, rank, world)
