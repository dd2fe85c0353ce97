"""The examination of one picture, and of a split's pictures together."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from model.data.agreement import Agreement, if_greys, turned_apart
from model.data.label_ids import expected_ids, foreign_ids, id_ranges, things, unknown_id, unknown_ids
from model.data.listing import Item, Listing, item_name, list_files, natural_order, not_read, renamed
from model.data.palettes import Palette
from model.data.pictures import PictureError, read_photo
from model.data.preprocess import scaled_size
from model.data.reading import read_ids
from model.errors import UserError
from model.options import OPT
from model.prepare.faults import FAULTS, MANY_IDS, MUCH_UNKNOWN, SPECKLED, SPECKLED_WITH_MANY, Finding


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
        if np.isin(label, things("cityscapes")).any():
            faults.append(("byte_instances", path, f"highest id {instance.max()}, and the label map has things"))
        return
    kind = np.where(instance >= 1000, instance // 1000, instance)
    if (share := (kind != label).mean()) > 0.01:
        faults.append(("alien_instances", path, f"{share:.0%} of the pixels disagree"))


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
    wanted = {"ade20k": "annotations", "cityscapes": "gtFine", "camvid": "trainannot"}.get(
        opt.dataset_mode, "train_label"
    )
    root = Path(opt.dataroot or ".")
    if opt.dataset_mode == "custom" or not root.is_dir():
        return ""
    inner = [path for depth in ("*", "*/*") for path in root.glob(f"{depth}/{wanted}") if path.is_dir()]
    if inner:
        return f"; it seems to be further in: give --dataroot {inner[0].parent}"
    if opt.dataset_mode == "cityscapes" and (root / "gtCoarse").is_dir():
        return "; gtCoarse is another annotation: SPADE uses gtFine_trainvaltest.zip"
    return ""
