"""Segmentation scores of picture folders, and sheets that show them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.data.agreement import Agreement
from model.data.dataset import evenly
from model.data.label_ids import as_channels, unknown_class
from model.data.palettes import colorize, names_and_colours, read_palette
from model.data.reading import IDS
from model.data.visual import enlarged, grid, legend, save_image
from model.errors import printable
from model.files import file_digest
from model.metrics.images import Cache, files_digest, read_labels, read_rgb
from model.metrics.predictors import Predictor, class_maps
from model.metrics.segmentation import Scheme, Scores, confusion_matrix, scheme_of
from model.metrics.settings import MADE_UP, Settings, Source

_LEGEND_WIDTH = 170
_LEAST_SIDE = 192  # of a picture in a sheet, pixels
_ROWS_PER_SHEET = 4


class Judge:
    """Runs one predictor over picture sets."""

    def __init__(self, predictor: Predictor, settings: Settings, size: tuple[int, int]):
        self.predictor, self.settings, self.size = predictor, settings, size
        self.palette = read_palette(settings.palette) if settings.palette else None
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

    def confusion(self, source: Source, truth: Sequence[Path]) -> np.ndarray:
        """Confusion matrix of a picture set against its label maps, as far as the cache does not know it."""
        cache, count = self._cache(source, truth), len(source.pictures)
        file = cache.load()
        done, total = int(file.get("done", 0)), np.zeros((self.scheme.classes,) * 2, np.int64)
        if done:
            total += file["matrix"]
        if hasattr(self.predictor, "expect"):
            self.predictor.expect(count - done)
        shown = evenly(range(count), self.settings.sheets)
        how = self.settings.batch_size, self.size, f"{source.name}: segmentation", self.settings.progress
        batches = cache.batches(lambda: {"matrix": total, "done": done}, source.pictures, done, *how)
        for positions, pictures in batches:
            for output, position in zip(self.predictor(pictures), positions, strict=True):
                labels = self._labels(truth[position], None if self.settings.at_label_size else self.size)
                prediction = class_maps(output[None], labels.shape)[0]
                if position in shown:
                    self._maps[source.pictures[position], labels.shape] = prediction
                total += confusion_matrix(self.scheme.truth(labels), prediction, self.scheme.classes)
            done += len(positions)
        return total

    def _labels(self, path: Path, size: tuple[int, int] | None) -> np.ndarray:
        return as_channels(read_labels(path, size, self.palette, self._agreement), self.settings)

    def _map(self, path: Path, image: np.ndarray) -> np.ndarray:
        """Classes of one picture, from the first pass when it kept them."""
        known = self._maps.get((path, self.size))
        return class_maps(self.predictor(image[None]), self.size)[0] if known is None else known

    def _cache(self, source: Source, truth: Sequence[Path]) -> Cache:
        # Code behind FILE.py:NAME can change without a trace, so nothing is kept of it.
        folder = None if self.predictor.weights_sha256 == "unknown" else self.settings.cache_dir
        key = [files_digest(source.pictures), files_digest(truth), self.predictor.name, self.predictor.weights_sha256]
        key += [self.predictor.protocol, self.settings.dataset_mode, self.settings.label_nc, self.size]
        key += [self.settings.at_label_size, file_digest(self.settings.palette) if self.palette else "", IDS]
        key += [self.settings.unknown_ids] if self.settings.unknown_ids else []
        return Cache(folder, "seg", key)

    def sheets(self, sources: Sequence[Source], photos: Source, maps: Source) -> list[Path]:
        """Sheets of pictures spread over all: label map | each source | photo, and below each its segmentation."""
        folder = Path(self.settings.output_dir)
        shown = dataclasses.replace(sources[0], pictures=evenly(sources[0].pictures, self.settings.sheets))
        columns = [shown.pictures, *(shown.partners(source, f"picture of {source.name}") for source in sources[1:])]
        columns.append(shown.partners(photos, "photo"))
        titles = [*(source.name for source in sources), "photo"]
        heads = ["label map", *(f"{title}, segmented below" for title in titles), "classes, share of all maps"]
        rows = list(zip(shown.partners(maps, "label map"), *columns, strict=True))
        written = []
        for start in range(0, len(rows), _ROWS_PER_SHEET):
            written.append(folder / f"sheet_{len(written):03d}.png")
            cells = [self._row(titles, truth, paths) for truth, *paths in rows[start : start + _ROWS_PER_SHEET]]
            save_image(grid(cells, heads), written[-1])
        for path in set(folder.glob("sheet_???.png")) - set(written):  # of an earlier run that showed more
            path.unlink()
        return written

    def _row(self, titles: Sequence[str], truth: Path, pictures: Sequence[Path]) -> list[np.ndarray | Image.Image]:
        """The cells of a sheet's row: the label map's, those of the pictures, which have titles, and the legend."""
        names, colours, unknown = self.names, self.colours.copy(), unknown_class(self.settings)
        colours[unknown] = 0
        images = [read_rgb(path, self.size) for path in pictures]
        labels = self._labels(truth, self.size)
        predicted = [self._map(path, image) for path, image in zip(pictures, images, strict=True)]
        ids = [labels, *(self.scheme.label_ids(p) for p in predicted)]
        ids = [np.where((m >= 0) & (m < len(names)), m, unknown) for m in ids]
        text = ["MADE-UP WEIGHTS", ""] if self.predictor.weights_sha256 == MADE_UP else []
        text += [printable(pictures[0].stem), "", "pixels right:"]
        right = (_agreement(self.scheme.truth(labels), classes) for classes in predicted)
        text += [f"{title}: {share:.1%}" for title, share in zip(titles, right, strict=True)]
        upper = [colorize(ids[0], colours), *images]
        lower = [_caption(text, self.size), *(colorize(m, colours) for m in ids[1:])]
        stacks = []
        for pair in zip(upper, lower, strict=True):
            above, below = (np.asarray(enlarged(half, _LEAST_SIDE)) for half in pair)
            stacks.append(np.concatenate([above, np.full((2, *above.shape[1:]), 255, np.uint8), below]))
        return [*stacks, legend(np.concatenate(ids), names, colours, len(stacks[0]), _LEGEND_WIDTH)]


def _agreement(truth: np.ndarray, prediction: np.ndarray) -> float:
    counted = truth >= 0
    return float((truth == prediction)[counted].mean()) if counted.any() else math.nan


def _caption(lines: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    factor = math.ceil(_LEAST_SIDE / min(size))
    panel = Image.new("RGB", (size[1] * factor, size[0] * factor), "white")
    ImageDraw.Draw(panel).multiline_text((6, 6), "\n".join(lines), "black", ImageFont.load_default(size=13), spacing=4)
    return np.asarray(panel)


def class_rows(by_source: Mapping[str, Scores], scheme: Scheme) -> list[dict[str, Any]]:
    """One entry a class that is scored: id, name, and for each picture set IoU, accuracy and pixels of truth."""

    def told(scores: Scores, i: int) -> dict[str, Any]:
        rates = {"iou": scores.class_iou[i], "accuracy": scores.class_accuracy[i]}
        rates = {name: None if math.isnan(rate) else float(rate) for name, rate in rates.items()}  # JSON knows no nan
        return {**rates, "pixels": int(scores.class_pixels[i])}

    return [
        {"label_id": int(scheme.labels[i]), "name": scheme.names[i]} | {k: told(s, i) for k, s in by_source.items()}
        for i in np.flatnonzero(scheme.counted)
    ]
