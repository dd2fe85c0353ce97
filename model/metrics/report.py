"""The evaluation of picture folders: what is computed, under which protocol, and how it is written down."""

import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import paddle
from PIL import Image, ImageDraw, ImageFont

from model.data.label_ids import as_channels, unknown_class, unknown_ids
from model.data.palettes import colorize, names_and_colours, read_palette
from model.data.reading import IDS, Agreement
from model.data.visual import enlarged, grid, legend, save_image
from model.errors import UserError, printable, tell, utf8
from model.metrics.deeplab import MADE_UP_GAIN as DEEPLAB_GAIN
from model.metrics.deeplab import DeepLabV2
from model.metrics.fid import FeatureExtractor, FeatureStatistics, fid, file_statistics
from model.metrics.images import (
    Cache,
    common_folder,
    file_digest,
    files_digest,
    list_maps,
    list_pictures,
    listed,
    partners,
    picture_size,
    progress_bar,
    read_batches,
    read_labels,
    read_rgb,
    write_atomically,
)
from model.metrics.inception import FEATURES, FIDInception
from model.metrics.inception import MADE_UP_GAIN as INCEPTION_GAIN
from model.metrics.layers import made_up_weights
from model.metrics.segmentation import (
    DeepLabPredictor,
    Predictor,
    Scheme,
    Scores,
    class_maps,
    confusion_matrix,
    scheme_of,
    segmentation_scores,
)
from model.weights.files import PUBLISHED, find_deeplab, find_inception, find_weights

METRICS = ("fid", "seg")
MADE_UP = "made-up"
WARNING = "MADE-UP NETWORK WEIGHTS: these numbers mean nothing, they only show that the evaluation runs"
COLUMNS = {
    "pixel_accuracy": "pixel acc.",
    "mean_accuracy": "mean acc.",
    "mean_iou": "mIoU",
    "fw_iou": "FWIoU",
    "fid": "FID",
}
_LEGEND_WIDTH = 170
_LEAST_SIDE = 192  # of a picture in a sheet, pixels
_ROWS_PER_SHEET = 4


def load_extractor(path: str | os.PathLike | None = None, made_up: bool = False) -> FeatureExtractor:
    """The FID network with the weights that `model.weights.files.find_inception` finds, or with made-up ones.

    Raises:
        UserError: no weights there; says where they are published.
    """
    if made_up:
        net = FIDInception()
        made_up_weights(net, INCEPTION_GAIN)
        return FeatureExtractor(net, MADE_UP)
    return FeatureExtractor(find_inception(path), file_digest(find_weights("inception", path)))


def load_deeplab(path: str | os.PathLike | None = None, made_up: bool = False, legacy: bool = False) -> Predictor:
    """DeepLabV2 with the weights that `model.weights.files.find_deeplab` finds, or with made-up ones.

    Raises:
        UserError: no weights there; says where they are published.
    """
    if made_up:
        net, digest = DeepLabV2(), MADE_UP
        made_up_weights(net, DEEPLAB_GAIN)
    else:
        net, digest = find_deeplab(path), file_digest(find_weights("deeplab", path))
    net.legacy = legacy
    return DeepLabPredictor(net, digest)


Pictures = str | os.PathLike | Sequence[Path]  # a folder, or the files themselves


@dataclass(frozen=True)
class Settings:
    """What `evaluate` computes, and under which protocol.

    Args:
        metrics: of "fid" and "seg".
        dataset_mode, label_nc: the data set whose ids the label maps hold.
        unknown_ids: which ids mean unlabelled, as the option of training; their pixels are not scored.
        palette: file of colours and ids, for label maps that hold colours; see `model.data.palettes.read_palette`.
        name, other_name: what the report calls the generated pictures and those beside them.
        photos: whether the photos' own segmentation scores, the ceiling, are computed too.
        size: (height, width) all pictures are brought to; None is the size of the first generated picture.
        resize_photos: False leaves photos at their own size for FID.
        at_label_size: score segmentations at the label maps' own size, not at the pictures'.
        batch_size: pictures per pass.
        max_pictures: judge only the first so many pictures of each folder.
        inception_weights, deeplab_weights: file or folder of the weights; None looks in `inception/` and `deeplab/`.
        made_up: use made-up weights where a network has to be loaded. The numbers then mean nothing.
        legacy_scales: DeepLab's scale sampling of the PyTorch that the released weights were made with.
        cache_dir: where statistics and confusion matrices of picture sets are kept, also those of an interrupted
            evaluation, which goes on from there; None keeps none.
        sheets: comparison sheets of the first so many pictures, written to `output_dir`.
        output_dir: where sheets go.
        progress: whether stderr is told how far the networks are: by a bar on a terminal, by lines elsewhere.

    Raises:
        UserError: settings that contradict each other, or a name that cannot be a folder's.
    """

    metrics: Sequence[str] = METRICS
    dataset_mode: str = "coco_stuff"
    label_nc: int = 182
    unknown_ids: str = ""
    palette: str = ""
    name: str = "generated"
    other_name: str = "other"
    photos: bool = True
    size: tuple[int, int] | None = None
    resize_photos: bool = True
    at_label_size: bool = False
    batch_size: int = 8
    max_pictures: int | None = None
    inception_weights: str | os.PathLike | None = None
    deeplab_weights: str | os.PathLike | None = None
    made_up: bool = False
    legacy_scales: bool = False
    cache_dir: str | os.PathLike | None = None
    sheets: int = 0
    output_dir: str | os.PathLike | None = None
    progress: bool = True

    contain_dontcare_label: ClassVar[bool] = True  # whether it was trained or not, what is unlabelled is not scored

    def __post_init__(self):
        unknown_ids(self)
        if not self.metrics or any(metric not in METRICS for metric in self.metrics):
            raise UserError(f"metrics {','.join(self.metrics)!r}: expected fid, seg or fid,seg")
        if self.sheets and (self.output_dir is None or "seg" not in self.metrics):
            raise UserError("comparison sheets show segmentations, in a folder: they need it and the metric seg")
        for called in (self.name, self.other_name):  # VisualDL records get folders of these names
            if not called.strip() or called in (".", "..") or not called.isprintable() or set(called) & set("/\\|"):
                raise UserError(f"the name {called!r} of a picture set is no plain word: leave out / \\ and |")


@dataclass(frozen=True)
class _Source:
    """One set of pictures: the generated ones, another implementation's, the photos, the label maps."""

    name: str
    title: str
    pictures: list[Path]
    folder: str  # where the pictures' paths begin

    @classmethod
    def of(cls, given: "Pictures", most: int | None, name: str, listing=list_pictures) -> "_Source":
        """The first pictures of a folder, or of a list of files."""
        files = listed(given, listing)
        folder = os.fspath(given) if isinstance(given, str | os.PathLike) else common_folder(files)
        return cls(name, name, files[:most], folder)

    def partners(self, others: "_Source", what: str, most: int | None = None) -> list[Path]:
        """Those of another set that belong to the first of these pictures."""
        return partners(self.pictures[:most], others.pictures, what, (self.folder, others.folder))


def evaluate(
    generated_dir: Pictures,
    real_dir: Pictures,
    labels_dir: Pictures | None = None,
    settings: Settings | None = None,
    *,
    other_dir: Pictures | None = None,
    extractor: FeatureExtractor | None = None,
    predictor: Predictor | None = None,
) -> dict[str, Any]:
    """FID and segmentation scores of a folder of generated pictures, of another one beside it, and of the photos.

    Args:
        generated_dir: the pictures to judge: their folder, or the files themselves, as for the other three.
        real_dir: the reference photos; FID takes all of them, the segmentation scores those of the generated names.
        labels_dir: label maps; "seg" needs them. Files are paired by name.
        settings: what is computed and how; None takes the defaults.
        other_dir: another checkpoint's or implementation's pictures.
        extractor, predictor: networks that are already there; else they are loaded.

    Returns:
        {"rows": {name: {"fid": ..., "pixel_accuracy": ..., ...}}, "classes": [...], "protocol": {...}, "sheets": [...],
        "warning": only with made-up weights}. Fractions of 1; FID as it is.

    Raises:
        UserError: folders, files or weights that are missing or do not fit.
    """
    settings = settings or Settings()
    with_fid, with_seg = ("fid" in settings.metrics), ("seg" in settings.metrics)
    if with_seg and labels_dir is None:
        raise UserError("segmentation scores need the label maps: give their folder, or --metrics fid")
    names = [settings.name, "photos"] + ([settings.other_name] if other_dir is not None else [])
    if len(set(names)) < len(names):
        raise UserError(
            f"{settings.name} and {settings.other_name} must be two different names, and neither may be 'photos'"
        )

    most = settings.max_pictures
    real = _Source.of(real_dir, None, "photos")
    photos = real.pictures
    sources = [_Source.of(generated_dir, most, settings.name)]
    if other_dir is not None:
        sources.append(_Source.of(other_dir, most, settings.other_name))
    size = settings.size or picture_size(sources[0].pictures[0])
    protocol: dict[str, Any] = {
        "image_size": f"{size[1]}x{size[0]}",
        "resampling": "Pillow bicubic where a picture has another size; label maps nearest",
        "generated": {source.name: _counted(source.pictures) for source in sources},
        "reference": {**_counted(photos[:most]), "folder": common_folder(photos[:most])},
    }
    rows: dict[str, dict[str, float]] = {source.name: {} for source in sources}
    result: dict[str, Any] = {"rows": rows, "classes": [], "protocol": protocol, "sheets": []}

    # All that can be missing is looked for before hours are spent with the first network.
    if with_fid:
        extractor = extractor or load_extractor(settings.inception_weights, settings.made_up)
    if with_seg:
        predictor = predictor or load_deeplab(settings.deeplab_weights, settings.made_up, settings.legacy_scales)
        maps = _Source.of(labels_dir, None, "label maps", list_maps)
        judge = _Judge(predictor, settings, size)
        judged = list(sources)
        if settings.photos:
            judged.append(_Source("photos", "photo", sources[0].partners(real, "photo"), real.folder))
        truths = {source.name: source.partners(maps, "label map") for source in judged}
    used = [network for network, wanted in ((extractor, with_fid), (predictor, with_seg)) if wanted]
    if any(network.weights_sha256 == MADE_UP for network in used):
        result["warning"] = WARNING

    if with_fid:
        scores, protocol["fid"] = _fid(sources, photos[:most], extractor, size, settings)
        for name, value in scores.items():
            rows[name]["fid"] = value
    if with_seg:
        by_source = {
            source.name: segmentation_scores(judge.confusion(source, truths[source.name])) for source in judged
        }
        for name, scores in by_source.items():
            rows.setdefault(name, {}).update({key: getattr(scores, key) for key in COLUMNS if key != "fid"})
        result["classes"] = _class_table(by_source, judge.scheme)
        protocol["segmentation"] = judge.protocol(common_folder(maps.pictures))
    if settings.sheets:
        result["sheets"] = [str(path) for path in judge.sheets(sources, real, maps)]
    protocol["versions"] = _versions()
    return result


def _fid(
    sources: Sequence[_Source],
    photos: Sequence[Path],
    extractor: FeatureExtractor,
    size: tuple[int, int],
    settings: Settings,
) -> tuple[dict[str, float], dict[str, Any]]:
    """FID of each picture set against the photos, and the protocol's part about it."""

    def statistics(title: str, pictures: Sequence[Path], size: tuple[int, int] | None) -> FeatureStatistics:
        return file_statistics(
            pictures, extractor, size=size, title=title,
            batch_size=settings.batch_size, cache_dir=settings.cache_dir, progress=settings.progress,
        )  # fmt: skip

    reference = statistics("photos", photos, size if settings.resize_photos else None)
    values = {source.name: fid(statistics(source.title, source.pictures, size), reference) for source in sources}
    protocol: dict[str, Any] = {
        "network": f"Inception v3 of pytorch-fid (2015-12-05), {FEATURES} pooled features",
        "network_input": "RGB in [0, 1], bilinear to 299x299 without antialias",
        "photos_resized": settings.resize_photos,
        "covariance": "unbiased, float64",
        "weights": _origin(extractor),
        "weights_sha256": extractor.weights_sha256,
    }
    fewest = min(len(photos), *(len(source.pictures) for source in sources))
    if fewest < extractor.features:
        protocol["note"] = (
            f"fewer pictures ({fewest}) than features ({extractor.features}): the value is biased upwards, compare it "
            "only with values of the same counts"
        )
    return values, protocol


def _counted(pictures: Sequence[Path]) -> dict[str, Any]:
    kinds = sorted({path.suffix.lower() for path in pictures})
    return {
        "pictures": len(pictures), "first": pictures[0].name, "last": pictures[-1].name, "files": " ".join(kinds),
    }  # fmt: skip


def _origin(extractor: FeatureExtractor) -> str:
    published = PUBLISHED["inception"]
    if extractor.weights_sha256 == published.sha256:
        return f"{published.name}, as published"
    return f"another file than the published {published.name}; compare only with scores of this one"


def _versions() -> dict[str, str]:
    import PIL

    return {"paddle": paddle.__version__, "numpy": np.__version__, "pillow": PIL.__version__}


# segmentation and sheets


class _Judge:
    """Runs one predictor over picture sets."""

    def __init__(self, predictor: Predictor, settings: Settings, size: tuple[int, int]):
        self.predictor, self.settings, self.size = predictor, settings, size
        self.palette = read_palette(settings.palette) if settings.palette else None
        self.palette_digest = file_digest(settings.palette) if settings.palette else ""
        self.names, self.colours = names_and_colours(settings, self.palette)
        self._maps: dict[tuple[Path, tuple[int, int]], np.ndarray] = {}
        self._agreement = Agreement()
        self.scheme = scheme_of(predictor, settings.dataset_mode, settings.label_nc, size, self.names)

    def protocol(self, maps: str) -> dict[str, Any]:
        """What the scores depend on; `maps` is the label maps' folder."""
        return {
            "network": self.predictor.name,
            "network_input": self.predictor.protocol,
            "scored_at": "the label maps' own size" if self.settings.at_label_size else "the pictures' size",
            "classes": int(self.scheme.counted.sum()),
            "ignored_label_ids": f"{self.settings.unknown_ids}; {self.scheme.ignored}".removeprefix("; "),
            "means": "over the classes that occur in the label maps; one confusion matrix over all pictures",
            "label_maps": maps,
            "weights_sha256": self.predictor.weights_sha256,
        }

    def confusion(self, source: _Source, truth: Sequence[Path]) -> np.ndarray:
        """Confusion matrix of a picture set against its label maps, as far as the cache does not know it."""
        cache, count, batch_size = self._cache(source, truth), len(source.pictures), self.settings.batch_size
        total, begun = _load_matrix(cache.path, self.scheme.classes)
        if begun >= count:
            cache.used()
            return total
        self._expect(count - begun)
        done = begun

        def write(path: Path) -> None:
            write_atomically(path, lambda file: np.savez(file, matrix=total, done=done))

        with progress_bar(count, f"{source.title}: segmentation", self.settings.progress, begun) as told:
            for positions, pictures in read_batches(source.pictures[begun:], batch_size, self.size):
                output = self.predictor(pictures)
                for i, position in enumerate(positions):
                    position += begun
                    labels = self._labels(truth[position], None if self.settings.at_label_size else self.size)
                    prediction = class_maps(output[i : i + 1], labels.shape)[0]
                    if position < self.settings.sheets:
                        self._maps[source.pictures[position], labels.shape] = prediction
                    total += confusion_matrix(self.scheme.truth(labels), prediction, self.scheme.classes)
                done += len(positions)
                told(len(positions))
                if (done - begun) % batch_size == 0:  # a batch of several sizes comes in parts
                    cache.save(write)
        cache.save(write, last=True)
        return total

    def _labels(self, path: Path, size: tuple[int, int] | None) -> np.ndarray:
        return as_channels(read_labels(path, size, self.palette, self._agreement), self.settings)

    def _expect(self, pictures: int) -> None:
        if hasattr(self.predictor, "expect"):
            self.predictor.expect(pictures)

    def _map(self, path: Path, image: np.ndarray) -> np.ndarray:
        """Classes of one picture, from the first pass when it kept them."""
        known = self._maps.get((path, self.size))
        return class_maps(self.predictor(image[None]), self.size)[0] if known is None else known

    def _cache(self, source: _Source, truth: Sequence[Path]) -> Cache:
        # Code behind FILE.py:NAME can change without a trace, so nothing is kept of it.
        folder = None if self.predictor.weights_sha256 == "unknown" else self.settings.cache_dir
        key = [files_digest(source.pictures), files_digest(truth), self.predictor.name, self.predictor.weights_sha256]
        key += [self.predictor.protocol, self.settings.dataset_mode, self.settings.label_nc, self.size]
        key += [self.settings.at_label_size, self.palette_digest, IDS]
        key += [self.settings.unknown_ids] if self.settings.unknown_ids else []
        return Cache(folder, "seg", key)

    def sheets(self, sources: Sequence[_Source], photos: _Source, maps: _Source) -> list[Path]:
        """Sheets of the first pictures: label map | each source | photo, and below each its segmentation."""
        folder, most = Path(self.settings.output_dir), self.settings.sheets
        pictures = sources[0].pictures[:most]
        columns = [pictures, *(sources[0].partners(s, f"picture of {s.name}", most) for s in sources[1:])]
        columns.append(sources[0].partners(photos, "photo", most))
        titles = [*(source.title for source in sources), "photo"]
        truths = sources[0].partners(maps, "label map", most)
        names, colours, unknown = self.names, self.colours.copy(), unknown_class(self.settings)
        colours[unknown] = 0
        written, rows = [], []
        for i, picture in enumerate(pictures):
            images = [read_rgb(column[i], self.size) for column in columns]
            labels = self._labels(truths[i], self.size)
            predicted = [self._map(column[i], image) for column, image in zip(columns, images, strict=True)]
            right = [_agreement(self.scheme.truth(labels), p) for p in predicted]
            ids = [labels, *(self.scheme.label_ids(p) for p in predicted)]
            ids = [np.where((m >= 0) & (m < len(names)), m, unknown) for m in ids]
            text = ["MADE-UP WEIGHTS", ""] if self.predictor.weights_sha256 == MADE_UP else []
            text += [printable(picture.stem), "", "pixels right:"]
            text += [f"{title}: {share:.1%}" for title, share in zip(titles, right, strict=True)]
            upper = [colorize(ids[0], colours), *images]
            lower = [_caption(text, self.size), *(colorize(m, colours) for m in ids[1:])]
            stacks = [
                _stack(*(enlarged(image, _LEAST_SIDE) for image in pair)) for pair in zip(upper, lower, strict=True)
            ]
            rows.append([*stacks, legend(np.concatenate(ids), names, colours, stacks[0].height, _LEGEND_WIDTH)])
            if len(rows) == _ROWS_PER_SHEET or i == len(pictures) - 1:
                path = folder / f"sheet_{len(written):03d}.png"
                heads = ["label map", *(f"{title}, segmented below" for title in titles), "classes, share of all maps"]
                save_image(grid(rows, heads), path)
                written.append(path)
                rows = []
        for path in set(folder.glob("sheet_???.png")) - set(written):  # of an earlier run that showed more
            path.unlink()
        return written


def _agreement(truth: np.ndarray, prediction: np.ndarray) -> float:
    counted = truth >= 0
    return float((truth == prediction)[counted].mean()) if counted.any() else math.nan


def _stack(upper: Image.Image, lower: Image.Image, gap: int = 2) -> Image.Image:
    both = Image.new("RGB", (upper.width, upper.height + gap + lower.height), "white")
    both.paste(upper, (0, 0))
    both.paste(lower, (0, upper.height + gap))
    return both


def _caption(lines: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    factor = math.ceil(_LEAST_SIDE / min(size))
    panel = Image.new("RGB", (size[1] * factor, size[0] * factor), "white")
    ImageDraw.Draw(panel).multiline_text((6, 6), "\n".join(lines), "black", ImageFont.load_default(size=13), spacing=4)
    return np.asarray(panel)


def _class_table(by_source: Mapping[str, Scores], scheme: Scheme) -> list[dict[str, Any]]:
    """One entry a class that is scored: id, name, and for each picture set IoU, accuracy and pixels of truth."""
    table = []
    for index in np.flatnonzero(scheme.counted):
        entry: dict[str, Any] = {"label_id": int(scheme.labels[index]), "name": scheme.names[index]}
        for source, scores in by_source.items():
            entry[source] = {
                "iou": _number(scores.class_iou[index]),
                "accuracy": _number(scores.class_accuracy[index]),
                "pixels": int(scores.class_pixels[index]),
            }
        table.append(entry)
    return table


def _number(value: float) -> float | None:
    """JSON knows no nan."""
    return None if math.isnan(value) else float(value)


# writing it down


def _load_matrix(path: Path | None, classes: int) -> tuple[np.ndarray, int]:
    """The matrix in a cache file and how many pictures it counts; an empty one when there is none that fits."""
    empty = np.zeros((classes, classes), np.int64)
    if path is None:
        return empty, 0
    try:
        with np.load(path, allow_pickle=False) as file:
            matrix, done = file["matrix"], int(file["done"])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error):
        return empty, 0
    return (matrix, done) if matrix.shape == empty.shape and matrix.dtype == np.int64 else (empty, 0)


def write_json(result: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write a result of `evaluate`, whole or not at all."""
    text = json.dumps(result, indent=1, allow_nan=False)
    write_atomically(Path(path), lambda file: file.write((text + "\n").encode()))


def markdown(result: Mapping[str, Any], header: bool = True) -> str:
    """The rows of a table, one a picture set, as papers have them; the protocol is in the last columns."""
    keys = [key for key in COLUMNS if any(key in row for row in result["rows"].values())]
    protocol = result["protocol"]
    titles = ["pictures of", *(COLUMNS[key] for key in keys), "count", "size", "reference"]
    lines = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)] if header else []
    for name, row in result["rows"].items():
        counts = protocol["generated"].get(name)
        cells = [name + (" (MADE-UP WEIGHTS)" if "warning" in result else "")]
        cells += ["" if key not in row else f"{row[key]:.{2 if key == 'fid' else 4}f}" for key in keys]
        cells += [str(counts["pictures"]) if counts else "", protocol["image_size"]]
        cells += [f"{protocol['reference']['pictures']} of {protocol['reference']['folder']}"]
        lines.append(f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def class_table(result: Mapping[str, Any], classes: int | None = None) -> str:
    """The per-class IoU as text, the most frequent classes first, those without a pixel of truth left out."""
    sources = [name for name in result["rows"] if result["classes"] and name in result["classes"][0]]
    entries = [e for e in result["classes"] if any(e[name]["pixels"] for name in sources)]
    entries.sort(key=lambda e: -max(e[name]["pixels"] for name in sources))
    total = sum(max(e[name]["pixels"] for name in sources) for e in entries)
    width = max((len(e["name"]) for e in entries), default=5)
    lines = [f"{'class':<{width}}  share  " + "  ".join(f"IoU {name}" for name in sources)]
    for e in entries[:classes]:
        share = max(e[name]["pixels"] for name in sources) / total
        ious = ("-" if e[name]["iou"] is None else f"{e[name]['iou']:.4f}" for name in sources)
        cells = (f"{iou:>{len(name) + 4}}" for iou, name in zip(ious, sources, strict=True))
        lines.append(f"{e['name']:<{width}}  {share:5.1%}  " + "  ".join(cells))
    if classes is not None and len(entries) > classes:
        lines.append(f"and {len(entries) - classes} more in metrics.json")
    return "\n".join(lines)


def protocol_text(result: Mapping[str, Any]) -> str:
    """The protocol as indented lines."""

    def told(entry: Mapping[str, Any], indent: str) -> list[str]:
        lines = []
        for key, value in entry.items():
            if isinstance(value, Mapping):
                lines += [f"{indent}{key}:", *told(value, indent + "  ")]
            else:
                lines.append(f"{indent}{key}: {printable(value)}")
        return lines

    return "\n".join(told(result["protocol"], "  "))


def text(result: Mapping[str, Any]) -> str:
    """All of a result for a terminal: the warning if there is one, the table, the classes, the protocol."""
    parts = [result["warning"]] if "warning" in result else []
    parts.append(markdown(result))
    if result["classes"]:
        parts.append(class_table(result, classes=15))
    parts.append("protocol:\n" + protocol_text(result))
    if "warning" in result:
        parts.append(result["warning"])
    return "\n\n".join(parts)


def log_visualdl(result: Mapping[str, Any], folder: str | os.PathLike, step: int = 0) -> None:
    """Scores as VisualDL scalars, and with the protocol as one line of its hyper-parameter page.

    Nothing of made-up weights is logged: a curve carries no warning.
    """
    if "warning" in result:
        return
    try:
        from visualdl import LogWriter
    except ImportError as error:
        raise UserError(f"VisualDL does not work here ({error}): pip install visualdl") from None
    try:
        utf8(Path(folder).absolute(), "VisualDL")
    except UserError as error:
        tell(f"no VisualDL records are written: {error}")
        return
    protocol = result["protocol"]
    for name, row in result["rows"].items():
        parameters = {
            "pictures": name,
            "image_size": protocol["image_size"],
            "reference": printable(f"{protocol['reference']['pictures']} of {protocol['reference']['folder']}"),
        }
        for metric in ("fid", "segmentation"):
            if metric in protocol:
                parameters[f"{metric}_weights"] = protocol[metric]["weights_sha256"][:16]
        with LogWriter(logdir=str(Path(folder, name))) as writer:
            tags = {f"metrics/{key}": value for key, value in row.items()}
            writer.add_hparams(hparams_dict=parameters, metrics_list=list(tags))
            for tag, value in tags.items():
                writer.add_scalar(tag=tag, value=value, step=step)


def write_results(
    result: Mapping[str, Any], output_dir: str | os.PathLike, log_dir: str | os.PathLike | None = None, step: int = 0
) -> None:
    """Write `metrics.json` and `metrics.md` to a folder, and VisualDL records to another if it is given."""
    write_json(result, Path(output_dir, "metrics.json"))
    notes = [result["warning"], ""] if "warning" in result else []
    lines = [*notes, markdown(result), "", "Protocol:", "", "```", protocol_text(result), "```", ""]
    write_atomically(Path(output_dir, "metrics.md"), lambda file: file.write("\n".join(lines).encode()))
    if log_dir is not None:
        log_visualdl(result, log_dir, step)
