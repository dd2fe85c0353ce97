"""The examination of one picture, and of a split's pictures together."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from model.data.agreement import Agreement, if_greys, turned_apart
from model.data.label_ids import expected_ids, foreign_ids, id_ranges, things, unknown_id, unknown_ids
from model.data.listing import Item, Listing, apart, list_files, not_read, paired, renamed
from model.data.palettes import Palette
from model.data.pictures import PictureError, read_photo
from model.data.preprocess import scaled_size
from model.data.reading import id_counts, read_ids
from model.errors import UserError
from model.options import OPT
from model.prepare.faults import FAULTS, MANY_IDS, MUCH_UNKNOWN, SPECKLED, SPECKLED_WITH_MANY, Finding


@dataclass
class Record:
    """What one picture's files hold; what could not be read is left out, and a fault says why."""

    item: Item
    size: tuple[int, int] | None = None  # of the label map, pixels
    pixels: dict[int, int] = field(default_factory=dict)  # {id in the label map: how many}
    faults: list[tuple[str, str, str]] = field(default_factory=list)  # code, file, detail
    digest: bytes = b""  # of the photo's pixels
    flat: bool | None = None  # the instance map has one value
    copied: bool | None = None  # the instance map equals the label map
    palette: dict = field(default_factory=dict)  # how the label map's ids were found, for `Agreement`

    def blame(self, code: str, file: str, detail: str = "") -> None:
        """Note a fault."""
        self.faults.append((code, file, detail))

    def read(self, path: str | None, read: Callable[..., Image.Image], **how) -> Image.Image | None:
        """A picture; or None, and the fault."""
        try:
            return read(path, **how) if path else None
        except PictureError as error:
            return self.blame(error.code, path, error.reason)


def examine(item: Item, opt: OPT, palette: Palette | None = None) -> Record:
    """Read a photo and its maps, as training would, and say all that is wrong with them."""
    record = Record(item)
    if label := record.read(item.label, read_ids, palette=palette):
        _look_at_label(record, label, opt)
    if photo := record.read(item.image, read_photo):
        _look_at_photo(record, photo, label)
    if instance := record.read(item.instance, read_ids, coded=True):
        _look_at_instances(record, instance, label, opt)
    return record


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _look_at_label(record: Record, label: Image.Image, opt: OPT) -> None:
    path, array = record.item.label, np.asarray(label)
    record.size, record.palette = label.size, label.info
    record.pixels = id_counts(label)
    foreign = foreign_ids(record.pixels, opt)
    if foreign == [unknown_id(opt.label_nc)] and not opt.contain_dontcare_label:
        record.blame("undeclared_unknown", path, f"{record.pixels[foreign[0]] / array.size:.0%} of the pixels")
    elif foreign:
        record.blame("foreign_ids", path, f"id {id_ranges(foreign)}{if_greys(path, label.info)}")
    if record.pixels.keys() <= set(unknown_ids(opt)):
        record.blame("all_unknown", path)
    inner = array[1:-1, 1:-1]
    if inner.size:
        lone = (inner != array[:-2, 1:-1]) & (inner != array[2:, 1:-1])
        lone &= (inner != array[1:-1, :-2]) & (inner != array[1:-1, 2:])
        if (share := lone.mean()) > (SPECKLED_WITH_MANY if len(record.pixels) > MANY_IDS else SPECKLED):
            record.blame("speckled", path, f"{share:.1%} of the pixels differ from all their neighbours")
    if "crop" in opt.preprocess_mode and min(scaled := scaled_size(label.size, opt)) < opt.crop_size:
        record.blame("too_small", path, f"{_by(scaled)} after scaling, crop_size {opt.crop_size}")


def _look_at_photo(record: Record, photo: Image.Image, label: Image.Image | None) -> None:
    path, turned = record.item.image, photo.info["orientation"]
    record.digest = hashlib.blake2b(photo.tobytes(), digest_size=12, key=repr(photo.size).encode()).digest()
    if label and photo.size != label.size:
        code = "turned_size" if turned_apart(photo, label) else "photo_size"
        hint = f", EXIF orientation {turned}" if turned > 1 else ""
        record.blame(code, path, f"photo {_by(photo.size)}, label map {_by(label.size)}{hint}")
    elif turned > 1:
        record.blame("turned", path, f"orientation {turned}")
    if photo.info["transparent"]:
        record.blame("transparent", path)


def _look_at_instances(record: Record, instance: Image.Image, label: Image.Image | None, opt: OPT) -> None:
    path, values = record.item.instance, np.asarray(instance)
    record.flat = bool((values == values.flat[0]).all())
    if label is None:
        return
    if instance.size != label.size:
        record.blame("instance_size", path, f"instance map {_by(instance.size)}, label map {_by(label.size)}")
        return
    ids = np.asarray(label)
    record.copied = bool((values == ids).all())
    if opt.dataset_mode != "cityscapes":
        return
    if values.dtype == np.uint8:
        if np.isin(ids, things("cityscapes")).any():
            record.blame("byte_instances", path, f"highest id {values.max()}, and the label map has things")
    elif (share := (np.where(values >= 1000, values // 1000, values) != ids).mean()) > 0.01:
        record.blame("alien_instances", path, f"{share:.0%} of the pixels disagree")


class Split:
    """The files of one phase and what was found in them."""

    def __init__(self, opt: OPT, phase: str):
        self.opt, self.phase = opt, phase
        self.items: list[Item] = []  # the pairs; those without a photo or instance map have None there
        self.records: list[Record] = []  # of the pictures, in order
        self.findings: list[Finding] = []  # what is wrong, the worst first
        self.pixels: Counter[int] = Counter()  # {id: how many pixels of it}
        self.pictures: Counter[int] = Counter()  # {id: how many pictures with it}
        self.release: str | None = None  # the code of the wrong release that the ids belong to
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
            self._pair(labels.files, listings)
        elif phase == "val" and not there:
            self._say("no_validation", f"{labels.folder} is not there")
        else:
            self._say("no_labels", f"{labels.folder} {'holds none' if there else 'is not there'}{_elsewhere(opt)}")

    def _say(self, code: str, note: str = "", files: Sequence[tuple[str, str]] = ()) -> None:
        self.findings.append(Finding(code, self.phase, note, files, len(self.items)))

    def _pair(self, labels: dict[str, str], listings: dict[str, Listing]) -> None:
        kinds = ["image"] if self.opt.no_instance else ["image", "instance"]
        partners = {kind: listings.get(kind, Listing("", {})) for kind in kinds}
        self.items = paired(labels, *(found.files for found in partners.values()))
        for kind, found in partners.items():
            what = "photo" if kind == "image" else kind
            lone, extra = apart(labels, found.files)
            if not found.files:
                code = f"no_{what}s" if kind == "instance" or self.phase == "train" else "maps_alone"
                self._say(code, f"{found.folder or 'no folder'} holds none")
            elif lone:
                self._say(f"label_without_{what}", renamed(lone, extra), [(labels[key], "") for key in lone])
            if extra:
                self._say(f"{what}_without_label", "", [(found.files[key], "") for key in extra])

    def judge(self) -> None:
        """Turn the pictures' records into findings, and recognise what only all of them show."""
        grouped: dict[str, list[tuple[str, str]]] = defaultdict(list)
        agreement = Agreement()
        for record in self.records:
            if found := agreement.conflict(record.item.label, record.palette):
                grouped["encodings_differ"].append((record.item.label, f"{found[0]} in {found[1]}"))
            self.pixels.update(record.pixels)
            self.pictures.update(record.pixels.keys())
            for code, file, detail in record.faults:
                grouped[code].append((file, detail))
        self.release = self._wrong_release() if self.pixels else None
        if self.release:  # explains what its single files were blamed for
            for code in ("foreign_ids", "undeclared_unknown"):
                grouped.pop(code, None)
            self._say(self.release, f"the maps hold {id_ranges(self.pixels)}")
        expected = f"expected {expected_ids(self.opt)} (label_nc {self.opt.label_nc})"
        for code in sorted(grouped, key=list(FAULTS).index):
            note = f"{expected}; all maps hold {id_ranges(self.pixels)}" if code == "foreign_ids" else ""
            self._say(code, note, grouped[code])
        if self.pixels and not self.release:
            if len(self.pixels) == 1 and len(self.records) > 1:
                self._say("one_class", f"id {next(iter(self.pixels))}")
            if self.unknown_share > MUCH_UNKNOWN:
                self._say("much_unknown", f"{self.unknown_share:.0%} of all pixels")
        self._judge_instances()
        if self.phase == "train":
            self._judge_sizes()

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

    def _judge_instances(self) -> None:
        known = [record for record in self.records if record.flat is not None]
        files = [(record.item.instance, "") for record in known]
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
                self._say("wrong_size", f"the generator makes {_by(wanted)}", other)


def _elsewhere(opt: OPT) -> str:
    """Where the wanted folders are instead, in words."""
    folders = {"ade20k": "annotations", "cityscapes": "gtFine", "camvid": "trainannot"}
    wanted = folders.get(opt.dataset_mode, "train_label")
    root = Path(opt.dataroot or ".")
    if opt.dataset_mode == "custom" or not root.is_dir():
        return ""
    inner = [path for depth in ("*", "*/*") for path in root.glob(f"{depth}/{wanted}") if path.is_dir()]
    if inner:
        return f"; it seems to be further in: give --dataroot {inner[0].parent}"
    if opt.dataset_mode == "cityscapes" and (root / "gtCoarse").is_dir():
        return "; gtCoarse is another annotation: SPADE uses gtFine_trainvaltest.zip"
    return ""
