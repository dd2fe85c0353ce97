"""Look at a whole data set before training: everything that would stop a run a day later, or spoil it, and the way out.

`examine` reads one picture with its maps, in worker processes; `Report` collects what they found and recognises what
only the whole shows: another release of the data set, ids of another kind, the same photos in both splits.
"""

import hashlib
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from model.data.dataset import Item, Listing, item_name, list_files, natural_order, not_read, renamed, scaled_size
from model.data.label_ids import (
    as_channels,
    expected_ids,
    foreign_ids,
    id_ranges,
    reading,
    second_reading,
    unknown_id,
    unknown_ids,
)
from model.data.palettes import Palette, colorize, names_and_colours, read_palette
from model.data.reading import (
    ENCODINGS_DIFFER,
    MAP_SUFFIXES,
    PHOTO_SUFFIXES,
    TURN_THE_PHOTO,
    Agreement,
    PictureError,
    if_greys,
    read_ids,
    read_photo,
    turned_apart,
)
from model.data.visual import grid, legend
from model.data.workers import begin_worker
from model.errors import UserError, listed, printable
from model.files import replacing
from model.options import OPT

# Share of pixels unlike all four neighbours, and number of ids: real COCO-Stuff maps have at most 0.3 % and 20, the
# same maps after smoothing or JPEG mostly 1 to 10 % and 100 to 250.
SPECKLED, SPECKLED_WITH_MANY, MANY_IDS = 0.02, 0.004, 48
MUCH_UNKNOWN = 0.5  # share of unlabelled pixels
THINGS = 24  # lowest Cityscapes id of the classes that have instances

# What can be wrong: code -> (whether it stops or ruins a run, what it is, why it matters and what to do).
FAULTS = {
    "layout": (True, "the folder is not what the data set's reader expects", ""),
    "not_read": (
        False,
        "files are not read, for their suffix",
        f"Photos are {', '.join(PHOTO_SUFFIXES)}, maps {', '.join(MAP_SUFFIXES)}: save as PNG what belongs to the set.",
    ),
    "no_labels": (
        True,
        "there are no label maps",
        "Name the folder with --dataroot (custom: --label_dir); tools/prepare_dataset.py makes it from the archives.",
    ),
    "no_validation": (
        False,
        "there is no validation split",
        "Training works; previews then show training maps, and val.py needs --phase train.",
    ),
    "no_photos": (True, "there are no photos", "Training learns from photos: put them where the message says."),
    "maps_alone": (
        False,
        "the validation split has label maps and no photos",
        "val.py paints the maps; scores, and styles taken from photos, need the photos where the message says.",
    ),
    "no_instances": (
        True,
        "there are no instance maps",
        "Make them (docs/data.md), or train without: --no_instance.",
    ),
    "label_without_photo": (
        True,
        "label maps have no photo of the same name",
        "Files are paired by name: add the photos; to train without these maps, put them into another folder.",
    ),
    "photo_without_label": (
        True,
        "photos have no label map of the same name",
        "Files are paired by name: add the label maps; to train without these photos, put them into another folder.",
    ),
    "label_without_instance": (
        True,
        "label maps have no instance map of the same name",
        "Every picture needs one, also those without things: make the missing ones, or train with --no_instance.",
    ),
    "instance_without_label": (
        True,
        "instance maps have no label map of the same name",
        "Add the label maps, or put the instance maps into another folder.",
    ),
    "unreadable": (
        True,
        "files cannot be read as pictures",
        "They are damaged, cut off, empty, far too large or gone: take them from the archive again.",
    ),
    "photo_depth": (
        True,
        "photos have more than 8 bits a channel, or are in CIELab",
        "Save them as RGB or grey with 8 bits a channel.",
    ),
    "transparent": (
        False,
        "photos have transparent parts, which are laid on white",
        "Training learns the white, unless that is meant: fill the parts, or put the pictures into another folder.",
    ),
    "jpeg_maps": (
        True,
        "maps are JPEG files",
        "JPEG changes values, so that ids along edges are wrong: make the maps anew, as PNG. Renaming does not help.",
    ),
    "colour_maps": (
        True,
        "label maps hold colours in place of class ids",
        "Name the palette's file with --palette, or take the data set's id maps.",
    ),
    "foreign_colours": (
        True,
        "label maps hold colours that the palette file does not have",
        "Add them to the palette; if they are mixtures along edges, the maps were scaled or saved with smoothing.",
    ),
    "map_format": (
        True,
        "maps are encoded in a way that does not tell the ids",
        "Save the ids as 8-bit or 16-bit grey PNG; docs/data.md has a table of what is read.",
    ),
    "encodings_differ": (
        True,
        "label maps are encoded in ways that contradict each other",
        "Optimisers of PNG encode each file in its own way, so that a sample means another class there: "
        f"{ENCODINGS_DIFFER}.",
    ),
    "photo_size": (
        True,
        "photos and label maps differ in size",
        "Both must have the same pixels: scale the maps to the photos' size, without smoothing (nearest neighbour).",
    ),
    "turned_size": (
        True,
        "photos lie on their side, where their label maps are drawn upright",
        f"An EXIF orientation is not applied to training photos: {TURN_THE_PHOTO}.",
    ),
    "instance_size": (
        True,
        "instance maps and label maps differ in size",
        "Both must have the same pixels: make the instance maps from these label maps.",
    ),
    "foreign_ids": (
        True,
        "label maps hold ids that are no class",
        "If they are classes of a data set of your own, set --label_nc to the highest id plus 1; if they mean "
        "unlabelled, name them with --unknown_ids; official data sets hold no others, so take their maps again.",
    ),
    "undeclared_unknown": (
        True,
        "label maps hold 255, and no unlabelled class is declared",
        "If 255 means unlabelled, train with --contain_dontcare_label true.",
    ),
    "train_ids": (
        True,
        "the label maps hold Cityscapes trainIds (0..18 and 255), where labelIds (0..33) belong",
        "Take the files *_gtFine_labelIds.png as they come in gtFine_trainvaltest.zip, not *_labelTrainIds.png.",
    ),
    "shifted_ade20k": (
        True,
        "the label maps are ADE20K's with all ids lowered by 1 (255 is unlabelled, 0 is wall)",
        "Take the maps of ADEChallengeData2016.zip as they are: 0 is 'other', 1 is wall. With shifted ids every class "
        "would get another's name.",
    ),
    "shifted_coco": (
        True,
        "the label maps seem to hold COCO-Stuff's official ids (182 is wood), not the PNG files' (ids minus 1)",
        "Take the maps of stuffthingmaps_trainval2017.zip as they are: 0 is person, 181 is wood, 255 is unlabelled. If "
        "you wrote 182 for unlabelled yourself, say so with --unknown_ids 182.",
    ),
    "pixelmaps": (
        True,
        "the label maps are COCO's stuff_*_pixelmaps, which put all things into one class (183)",
        "Take those of stuffthingmaps_trainval2017.zip.",
    ),
    "byte_instances": (
        True,
        "instance maps have 8 bits, where Cityscapes' have 16 (24001 is the second person)",
        "Ids were cut off, so that neighbours share one: take *_gtFine_instanceIds.png from gtFine_trainvaltest.zip as "
        "they are; many image programs save 16-bit files with 8 bits.",
    ),
    "alien_instances": (
        True,
        "instance maps do not belong to their label maps (Cityscapes: instance id / 1000 is the label's id)",
        "Take label and instance maps of the same picture and the same release.",
    ),
    "speckled": (
        True,
        "label maps are full of single pixels, as after JPEG or scaling with smoothing",
        "Make them anew from the originals; to scale a map, take nearest neighbour.",
    ),
    "one_class": (
        True,
        "all label maps together hold a single id",
        "The maps may be empty, or scaled to 0..1 when they were saved: save the ids as whole numbers.",
    ),
    "all_unknown": (
        False,
        "pictures are unlabelled from edge to edge",
        "They teach the network nothing about classes, unless that is meant: put them into another folder.",
    ),
    "much_unknown": (False, "most pixels are unlabelled", "See that the maps are complete, and of the right release."),
    "flat_instances": (
        False,
        "no instance map has any border",
        "They tell the network nothing, and cost a channel: make real ones, or train with --no_instance.",
    ),
    "copied_instances": (
        False,
        "instance maps are copies of the label maps, in every picture",
        "Things that touch cannot be told apart: make real ones (docs/data.md), or train with --no_instance.",
    ),
    "too_small": (
        True,
        "pictures are smaller than the crop",
        "They would be padded with black and class 0: use --preprocess_mode resize_and_crop or a smaller --crop_size.",
    ),
    "wrong_size": (
        True,
        "pictures have another size than the generator's",
        "Use a --preprocess_mode that gives one size, such as resize_and_crop or fixed, or another --crop_size.",
    ),
    "too_few": (True, "there are fewer pictures than one batch holds", "Lower --batchSize."),
    "leaked": (
        True,
        "the same photos are in train and val",
        "Validation would measure memory: let each split have pictures of its own.",
    ),
    "twins": (False, "photos come more than once", "Harmless, if they are few; they count double."),
    "one_split": (
        False,
        "train and val are the same files",
        "Validation would measure memory: put the files into subfolders train and val.",
    ),
    "turned": (
        False,
        "photos carry an EXIF orientation, which is not applied",
        f"Look at the contact sheet; where photo and map do not agree, {TURN_THE_PHOTO}.",
    ),
    "new_classes": (
        False,
        "classes occur in val and never in train",
        "Their channels stay untrained, so that these areas will look arbitrary.",
    ),
}


class Finding(NamedTuple):
    """One kind of fault in one split: the code of `FAULTS`, and the files with what is to be said of each of them."""

    code: str
    split: str
    note: str = ""
    files: Sequence[str] = ()
    details: Sequence[str] = ()  # one for each file, or none
    total: int = 0  # files looked at, of which these are some

    @property
    def stops(self) -> bool:
        """Whether it stops or ruins a run; else it is a warning."""
        return FAULTS[self.code][0]

    @property
    def text(self) -> str:
        """What it is, in one sentence."""
        what = FAULTS[self.code][1]
        if not self.files:
            return what
        of = f" of {self.total}" if self.total > len(self.files) else ""
        return f"{what} ({len(self.files)}{of} file{'s' if max(len(self.files), self.total) > 1 else ''})"

    @property
    def way_out(self) -> str:
        """Why it matters and what to do."""
        return FAULTS[self.code][2]


class Record(NamedTuple):
    """What one picture's files hold; what could not be read is None, and a fault says why."""

    item: Item
    size: tuple[int, int] | None  # of the label map, pixels
    ids: np.ndarray  # of the label map, rising
    counts: np.ndarray  # pixels of each
    faults: list[tuple[str, str, str]]  # code, file, detail
    digest: bytes  # of the photo's pixels
    flat: bool | None  # the instance map has one value
    copied: bool | None  # the instance map equals the label map
    palette: dict  # how the label map's ids were found, for `Agreement`


# ---------------------------------------------------------------------------------------------------------------------
# One picture


def examine(item: Item, opt: OPT, palette: Palette | None = None) -> Record:
    """Read a photo and its maps, as training would, and say all that is wrong with them."""
    faults: list[tuple[str, str, str]] = []
    size, ids, counts, digest, flat, copied = None, np.zeros(0, np.int64), np.zeros(0, np.int64), b"", None, None
    label = _read(item.label, faults, lambda path: read_ids(path, palette=palette))
    if label is not None:
        size, array = label.size, np.asarray(label)
        ids, counts = _histogram(array)
        _check_label(item, ids.tolist(), label, opt, faults)
    if item.image:
        photo = _read(item.image, faults, read_photo)
        if photo is not None:
            digest = hashlib.blake2b(photo.tobytes(), digest_size=12, key=repr(photo.size).encode()).digest()
            turned = photo.info["orientation"]
            if size and photo.size != size:
                code = "turned_size" if turned_apart(photo, label) else "photo_size"
                hint = f", EXIF orientation {turned}" if turned > 1 else ""
                faults.append((code, item.image, f"photo {_by(photo.size)}, label map {_by(size)}{hint}"))
            elif turned > 1:
                faults.append(("turned", item.image, f"orientation {turned}"))
            if photo.info["transparent"]:
                faults.append(("transparent", item.image, ""))
    if item.instance:
        instance = _read(item.instance, faults, lambda path: read_ids(path, coded=True))
        if instance is not None:
            values = np.asarray(instance)
            flat = bool((values == values.flat[0]).all())
            if size and instance.size != size:
                detail = f"instance map {_by(instance.size)}, label map {_by(size)}"
                faults.append(("instance_size", item.instance, detail))
            elif label is not None:
                copied = bool((values == array).all())
                if opt.dataset_mode == "cityscapes":
                    _check_cityscapes(item.instance, array, values, faults)
    if size and "crop" in opt.preprocess_mode and min(scaled_size(size, opt)) < opt.crop_size:
        scaled = _by(scaled_size(size, opt))
        faults.append(("too_small", item.label, f"{scaled} after scaling, crop_size {opt.crop_size}"))
    return Record(item, size, ids, counts, faults, digest, flat, copied, {} if label is None else label.info)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _histogram(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if array.dtype == np.uint8:
        counts = np.bincount(array.ravel(), minlength=256)
        return np.flatnonzero(counts), counts[counts > 0]
    return np.unique(array, return_counts=True)


def _read(path: str, faults: list, read: Callable[[str], Image.Image]) -> Image.Image | None:
    """A picture; or None and the fault."""
    try:
        return read(path)
    except PictureError as error:
        faults.append((error.code, path, error.reason))
        return None


def _check_label(item: Item, ids: list[int], label: Image.Image, opt: OPT, faults: list) -> None:
    array = np.asarray(label)
    foreign = foreign_ids(ids, opt)
    if foreign == [unknown_id(opt.label_nc)] and not opt.contain_dontcare_label:
        share = (array == foreign[0]).mean()
        faults.append(("undeclared_unknown", item.label, f"{share:.0%} of the pixels"))
    elif foreign:
        faults.append(("foreign_ids", item.label, f"id {id_ranges(foreign)}{if_greys(item.label, label.info)}"))
    if set(ids) <= set(unknown_ids(opt)):
        faults.append(("all_unknown", item.label, ""))
    inner = array[1:-1, 1:-1]
    if inner.size:
        lone = (inner != array[:-2, 1:-1]) & (inner != array[2:, 1:-1])
        lone &= (inner != array[1:-1, :-2]) & (inner != array[1:-1, 2:])
        share = lone.mean()
        if share > (SPECKLED_WITH_MANY if len(ids) > MANY_IDS else SPECKLED):
            faults.append(("speckled", item.label, f"{share:.1%} of the pixels differ from all their neighbours"))


def _check_cityscapes(path: str, label: np.ndarray, instance: np.ndarray, faults: list) -> None:
    if instance.dtype == np.uint8:
        if ((label >= THINGS) & (label <= 33)).any():
            faults.append(("byte_instances", path, f"highest id {instance.max()}, and the label map has things"))
        return
    kind = np.where(instance >= 1000, instance // 1000, instance)
    if (share := (kind != label).mean()) > 0.01:
        faults.append(("alien_instances", path, f"{share:.0%} of the pixels disagree"))


# ---------------------------------------------------------------------------------------------------------------------
# One split


class Split:
    """The files of one phase and what was found in them.

    Attributes:
        items: the pairs; those without a photo or instance map have None there.
        records: of the pictures, in order.
        findings: what is wrong, the worst first.
        pixels, pictures: {id: how many pixels of it, how many pictures with it}.
        release: the code of the wrong release that the ids belong to, or None.
    """

    def __init__(self, opt: OPT, phase: str):
        self.opt, self.phase = opt, phase
        self.items: list[Item] = []
        self.records: list[Record] = []
        self.findings: list[Finding] = []
        self.pixels: Counter[int] = Counter()
        self.pictures: Counter[int] = Counter()
        self.release: str | None = None
        try:
            listings = list_files(opt, phase)
        except UserError as error:
            self._say("layout", str(error))
            return
        if unread := not_read(listings):
            self._say("not_read", unread)
        labels = listings["label"]
        there = os.path.isdir(labels.folder)
        if labels.files:
            self._pair(labels, listings)
        elif phase == "val" and not there:
            self._say("no_validation", f"{labels.folder} is not there")
        else:
            self._say("no_labels", f"{labels.folder} {'holds none' if there else 'is not there'}{_elsewhere(opt)}")

    def _say(self, code: str, note: str = "", files: Iterable[str] = (), details: Iterable[str] = ()) -> None:
        self.findings.append(Finding(code, self.phase, note, tuple(files), tuple(details), len(self.items)))

    def _pair(self, labels: Listing, listings: dict[str, Listing]) -> None:
        keys = sorted(labels.files, key=natural_order)
        wanted = {"image": "photo"} if self.opt.no_instance else {"image": "photo", "instance": "instance"}
        partners = {kind: listings.get(kind, Listing("", {})) for kind in wanted}
        none: dict[str, str] = {}
        files = [labels.files, *(partners[kind].files if kind in partners else none for kind in ("image", "instance"))]
        self.items = [Item(item_name(key), *(found.get(key) for found in files)) for key in keys]
        for kind, what in wanted.items():
            found = partners[kind]
            if found.files:
                self._match(labels.files, found.files, what)
            elif kind == "instance" or self.phase == "train":
                self._say(f"no_{what}s", f"{found.folder or 'no folder'} holds none")
            else:
                self._say("maps_alone", f"{found.folder or 'no folder'} holds none")

    def _match(self, labels: dict[str, str], others: dict[str, str], what: str) -> None:
        lone, extra = (
            sorted(mine.keys() - theirs.keys(), key=natural_order)
            for mine, theirs in ((labels, others), (others, labels))
        )
        if lone:
            self._say(f"label_without_{what}", renamed(lone, extra), [labels[key] for key in lone])
        if extra:
            self._say(f"{what}_without_label", "", [others[key] for key in extra])

    def thin_out(self, count: int | None) -> None:
        """Keep `count` pictures, evenly spread; None keeps all."""
        if count and count < len(self.items):
            self.items = [self.items[i * len(self.items) // count] for i in range(count)]

    def judge(self) -> None:
        """Turn the pictures' records into findings, and recognise what only all of them show."""
        grouped: dict[str, list[tuple[str, str]]] = defaultdict(list)
        agreement = Agreement()
        for record in self.records:
            if found := agreement.conflict(record.item.label, record.palette):
                grouped["encodings_differ"].append((record.item.label, f"{found[0]} in {found[1]}"))
            self.pixels.update(dict(zip(record.ids.tolist(), record.counts.tolist(), strict=True)))
            self.pictures.update(record.ids.tolist())
            for code, file, detail in record.faults:
                grouped[code].append((file, detail))
        self.release = self._wrong_release() if self.pixels else None
        if self.release:  # explains what its single files were blamed for
            for code in ("foreign_ids", "undeclared_unknown"):
                grouped.pop(code, None)
            self._say(self.release, f"the maps hold {id_ranges(self.pixels)}")
        for code in sorted(grouped, key=list(FAULTS).index):
            files, details = zip(*grouped[code], strict=True)
            note = f"{self._range()}; all maps hold {id_ranges(self.pixels)}" if code == "foreign_ids" else ""
            self._say(code, note, files, details)
        if self.pixels and not self.release:
            self._judge_classes()
        self._judge_instances()
        if self.phase == "train":
            self._judge_sizes()

    def _range(self) -> str:
        return f"expected {expected_ids(self.opt)} (label_nc {self.opt.label_nc})"

    def _wrong_release(self) -> str | None:
        """The code of the wrong release whose ids these are."""
        ids, mode = set(self.pixels), self.opt.dataset_mode
        if mode == "cityscapes" and (255 in ids or max(ids) <= 18) and max(ids - {255}, default=0) <= 18:
            return "train_ids"
        if mode == "ade20k" and 255 in ids:
            return "shifted_ade20k"
        if mode == "coco_stuff" and 183 in ids:
            return "pixelmaps"
        if mode == "coco_stuff" and 182 in ids and 255 not in ids and not self.opt.unknown_ids:
            return "shifted_coco"
        return None

    @property
    def unknown_share(self) -> float:
        """Share of the pixels that are unlabelled."""
        total = sum(self.pixels.values())
        return sum(self.pixels[i] for i in unknown_ids(self.opt)) / total if total else 0.0

    def _judge_classes(self) -> None:
        if len(self.pixels) == 1 and len(self.records) > 1:
            self._say("one_class", f"id {next(iter(self.pixels))}")
        if self.unknown_share > MUCH_UNKNOWN:
            self._say("much_unknown", f"{self.unknown_share:.0%} of all pixels")

    def _judge_instances(self) -> None:
        known = [record for record in self.records if record.flat is not None]
        files = [record.item.instance for record in known]
        if known and all(record.flat for record in known):
            self._say("flat_instances", "", files)
        elif known and all(record.copied for record in known):
            self._say("copied_instances", "", files)

    def _judge_sizes(self) -> None:
        opt = self.opt
        if self.items and len(self.items) < opt.batchSize:
            self._say("too_few", f"{len(self.items)} pictures, batchSize {opt.batchSize}")
        if opt.loader_size is None:
            wanted = opt.generator_size[::-1]
            scaled = [(r.item.label, scaled_size(r.size, opt)) for r in self.records if r.size]
            other = [(label, f"{_by(size)} after scaling") for label, size in scaled if size != wanted]
            if other:
                files, details = zip(*other, strict=True)
                self._say("wrong_size", f"the generator makes {_by(wanted)}", files, details)


def _elsewhere(opt: OPT) -> str:
    """Where the wanted folders are instead, in words."""
    wanted = {"ade20k": "annotations", "cityscapes": "gtFine"}.get(opt.dataset_mode, "train_label")
    root = Path(opt.dataroot or ".")
    if opt.dataset_mode == "custom" or not root.is_dir():
        return ""
    inner = [path for depth in ("*", "*/*") for path in root.glob(f"{depth}/{wanted}") if path.is_dir()]
    if inner:
        return f"; it seems to be further in: give --dataroot {inner[0].parent}"
    if opt.dataset_mode == "cityscapes" and (root / "gtCoarse").is_dir():
        return "; gtCoarse is another annotation: SPADE uses gtFine_trainvaltest.zip"
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# The whole

_shared: tuple = ()


def _begin(opt: OPT, palette: Palette | None, parent: int) -> None:
    global _shared
    _shared = opt, palette
    begin_worker(parent)


def _examine_shared(item: Item) -> Record:
    return examine(item, *_shared)


def _records(items: list[Item], opt: OPT, palette: Palette | None, processes: int) -> Iterator[Record]:
    if processes < 2 or len(items) < 2:
        yield from (examine(item, opt, palette) for item in items)
        return
    with ProcessPoolExecutor(processes, initializer=_begin, initargs=(opt, palette, os.getpid())) as pool:
        try:
            yield from pool.map(_examine_shared, items, chunksize=max(1, min(16, len(items) // processes)))
        except BrokenProcessPool:
            raise UserError(
                "a process that reads pictures was ended, for want of memory perhaps: give fewer --processes"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Report:
    """A data set looked at: its splits, the findings about them, and the forms to show them in."""

    def __init__(self, opt: OPT, splits: list[Split], palette: Palette | None, seconds: float):
        self.opt, self.splits, self.palette, self.seconds = opt, splits, palette, seconds
        self.names, self.colours = names_and_colours(opt, palette)
        self.between: list[Finding] = []
        for split in splits:
            split.judge()
            self._find_twins(split)
        if len(splits) == 2:
            self._compare(*splits)

    @property
    def findings(self) -> list[Finding]:
        """All of them, what stops a run first."""
        found = [finding for split in self.splits for finding in split.findings] + self.between
        return sorted(found, key=lambda finding: not finding.stops)

    @property
    def stops(self) -> bool:
        """Whether anything stops or ruins a run."""
        return any(finding.stops for finding in self.findings)

    def _compare(self, train: Split, val: Split) -> None:
        if train.items and [item.label for item in train.items] == [item.label for item in val.items]:
            self.between.append(Finding("one_split", "both"))
            return
        owners = {record.digest: record.item.image for record in train.records if record.digest}
        same = [record for record in val.records if record.digest in owners]
        if same:
            files, details = [r.item.image for r in same], [f"is train's {owners[r.digest]}" for r in same]
            self.between.append(Finding("leaked", "both", "", files, details, len(val.records)))
        new = sorted(val.pixels.keys() - train.pixels.keys())
        if new and train.pixels and not (train.release or val.release):
            self.between.append(Finding("new_classes", "both", listed(map(self.name, new), 12)))

    def _find_twins(self, split: Split) -> None:
        first: dict[bytes, str] = {}
        twins = [r for r in split.records if r.digest and first.setdefault(r.digest, r.item.image) != r.item.image]
        if twins:
            files, details = [r.item.image for r in twins], [f"is {first[r.digest]}" for r in twins]
            self.between.append(Finding("twins", split.phase, "", files, details, len(split.records)))

    def name(self, number: int) -> str:
        """A class's name."""
        if 0 <= number < self.opt.label_nc + self.opt.contain_dontcare_label:
            return self.names[number]
        return "unlabeled" if number in unknown_ids(self.opt) else f"id {number}"

    def text(self, classes: int = 20) -> str:
        """The report for people: table of the splits, classes by share of pixels, findings with their ways out."""
        parts = [self._table(), *[self._classes(split, classes) for split in self.splits if split.pixels][:1]]
        agree = not any(finding.code == "encodings_differ" for finding in self.findings)
        if agree and self.opt.dataset_mode == "custom" and any(split.pixels for split in self.splits):
            ids = {i for split in self.splits for i in split.pixels}
            known = ids, self.palette.names if self.palette else {}, self.opt
            options, unlabelled = reading(*known)
            told = f" ({id_ranges(unlabelled)} unlabelled)" if unlabelled else ""
            parts.append(f"ids found    {id_ranges(ids)}{told}: train with {options}{second_reading(*known)}")
        parts += [_told(finding) for finding in self.findings]
        wrong = sum(finding.stops for finding in self.findings)
        warnings = len(self.findings) - wrong
        verdict = f"{_some(wrong, 'fault')} would stop or spoil a training run" if wrong else "nothing would stop a run"
        parts.append(f"{verdict}; {_some(warnings, 'warning')}" if warnings else verdict)
        return "\n\n".join(parts)

    def _table(self) -> str:
        rows = [("split", "pictures", "photos", "inst", "width", "height", "ids", "unlabelled")]
        for split in self.splits:
            sizes = np.array([record.size for record in split.records if record.size]).reshape(-1, 2)
            width, height = (f"{side.min()}..{side.max()}" if len(side) else "-" for side in sizes.T)
            ids = f"{min(split.pixels)}..{max(split.pixels)} ({len(split.pixels)})" if split.pixels else "-"
            photos = sum(item.image is not None for item in split.items)
            instances = sum(item.instance is not None for item in split.items)
            share = f"{split.unknown_share:.1%}" if split.pixels else "-"
            row = (split.phase, len(split.records), photos, instances, width, height, ids, share)
            rows.append(tuple(map(str, row)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)

    def _classes(self, split: Split, count: int) -> str:
        total, ranked = sum(split.pixels.values()), split.pixels.most_common()
        lines = [f"{'id':>6}  {'class in ' + split.phase:24}{'pixels':>8}{'pictures':>10}"]
        for number, pixels in ranked[:count]:
            share, seen = pixels / total, split.pictures[number] / len(split.records)
            bar = "#" * round(40 * share / (ranked[0][1] / total))
            lines.append(f"{number:6}  {self.name(number)[:23]:24}{share:8.1%}{seen:10.1%}  {bar}".rstrip())
        if len(ranked) > count:
            rest = sum(pixels for _, pixels in ranked[count:]) / total
            lines.append(f"{'':6}  {f'and {len(ranked) - count} more':24}{rest:8.1%}")
        ids = range(self.opt.label_nc + (self.opt.dataset_mode == "ade20k"))
        classes = [i for i in ids if i not in unknown_ids(self.opt)[1:]]
        never = [i for i in classes if i not in split.pixels]
        if never:
            lines.append(f"{'':6}  never: {len(never)} of {len(classes)} classes ({listed(map(self.name, never))})")
        return "\n".join(lines)

    def as_dict(self) -> dict:
        """The report for programs."""
        return {
            "dataset_mode": self.opt.dataset_mode,
            "dataroot": self.opt.dataroot or self.opt.label_dir,
            "stops": self.stops,
            "seconds": round(self.seconds, 1),
            "splits": {
                split.phase: {
                    "pictures": len(split.records),
                    "unlabelled": split.unknown_share,
                    "classes": {
                        str(i): {"name": self.name(i), "pixels": pixels, "pictures": split.pictures[i]}
                        for i, pixels in sorted(split.pixels.items())
                    },
                }
                for split in self.splits
            },
            "findings": [
                {"code": f.code, "stops": f.stops, "split": f.split, "what": f.text, "way_out": f.way_out,
                 "note": f.note, "files": f.files, "details": f.details}
                for f in self.findings
            ],
        }  # fmt: skip

    def save(self, path: str | os.PathLike) -> None:
        """Write `as_dict` as JSON, whole or not at all."""
        with replacing(path) as temporary:
            text = json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # JSON's own escape of a surrogate

    def sheet(self, count: int = 8, side: int = 192) -> Image.Image | None:
        """Contact sheet: photo, label map in colours, instance borders, class names; None without a readable picture.

        Args:
            count: pictures, evenly spread over the first split that has any.
            side: pixels of the longer side of each.
        """
        for split in self.splits:
            sound = [record.item for record in split.records if record.size]
            count = min(count, len(sound))
            rows = [self._row(sound[i * len(sound) // count], side) for i in range(count)]
            if rows := [row for row in rows if row]:
                titles = ["photo", "label map"] + ([] if self.opt.no_instance else ["instances"]) + ["classes"]
                return grid(rows, titles)
        return None

    def _row(self, item: Item, side: int) -> list | None:
        try:
            label = read_ids(item.label, palette=self.palette)
            size = _fitted(label.size, side)
            photo = read_photo(item.image).resize(size) if item.image else Image.new("RGB", size, (230, 230, 230))
            instance = read_ids(item.instance, coded=True) if item.instance else None
        except UserError:
            return None
        ids = as_channels(np.asarray(label.resize(size, Image.Resampling.NEAREST)), self.opt)
        row = [photo, colorize(ids, self.colours)]
        if not self.opt.no_instance:
            row.append(_borders(instance, size))
        return [*row, legend(ids, self.names, self.colours, size[1], 150)]


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _borders(instance: Image.Image | None, size: tuple[int, int]) -> np.ndarray:
    """White lines where neighbours belong to different instances."""
    lines = np.zeros((size[1], size[0]), bool)
    if instance is not None:
        values = np.asarray(instance.resize(size, Image.Resampling.NEAREST))
        lines[1:] |= values[1:] != values[:-1]
        lines[:, 1:] |= values[:, 1:] != values[:, :-1]
    return np.repeat(lines[..., None] * np.uint8(255), 3, axis=2)


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _told(finding: Finding, shown: int = 3) -> str:
    lines = [f"{'FAULT' if finding.stops else 'warning'} {finding.code} ({finding.split}): {finding.text}"]
    if finding.note:
        lines.append(f"  {finding.note}")
    for file, detail in list(zip_longest(finding.files, finding.details))[:shown]:
        lines.append(printable(f"  {file}: {detail}" if detail else f"  {file}"))
    if len(finding.files) > shown:
        lines.append(f"  and {len(finding.files) - shown} more")
    if finding.way_out:
        lines.append(f"  -> {finding.way_out}")
    return "\n".join(lines)


def check_dataset(
    opt: OPT,
    phases: tuple[str, ...] = ("train", "val"),
    *,
    processes: int = 1,
    max_pictures: int | None = None,
    progress: Callable[[Iterator[Record], int, str], Iterable[Record]] = lambda records, total, name: records,
) -> Report:
    """Examine every picture of a data set.

    Args:
        opt: what training would be given; the options of the data are read.
        phases: of train, val.
        processes: that read pictures.
        max_pictures: of each split, evenly spread; None for all.
        progress: wraps the records of a split as they come; gets their number and the split's name.

    Raises:
        UserError: the palette file cannot be used.
    """
    begun = time.perf_counter()
    palette = read_palette(opt.palette) if opt.palette else None
    splits = []
    for phase in phases:
        split = Split(opt, phase)
        split.thin_out(max_pictures)
        split.records = list(progress(_records(split.items, opt, palette, processes), len(split.items), phase))
        splits.append(split)
    return Report(opt, splits, palette, time.perf_counter() - begun)
