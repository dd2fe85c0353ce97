"""The scores at the end of a validation run: what they need is found before hours are spent on pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.data.dataset import PhotoMaps
from model.data.visual import save_image, tensor_to_image
from model.errors import UserError, printable
from model.metrics.evaluation import check_counts, evaluate, load_deeplab, load_extractor
from model.metrics.images import list_pictures, partners
from model.metrics.predictors import load_predictor
from model.metrics.report import text, write_results
from model.metrics.segmentation import scheme_of
from model.metrics.settings import OF_FEATURES, Settings
from model.options import OPT
from model.serving.synthesizer import Synthesizer, is_model
from model.serving.val_options import ValOPT


class Scoring:
    """Networks and files for the scores that `val.metrics` asks for.

    Attributes:
        synthesizer: The generator to compare with; None without one, or when `val.other` is a folder of pictures.

    Raises:
        UserError: Weights, photos, the other's pictures or checkpoint are missing, or a network is of another data set.
    """

    def __init__(self, val: ValOPT, opt: OPT, dataset: PhotoMaps):
        self.val, self.opt, self.dataset = val, opt, dataset
        self.results = Path(val.results_dir)
        if dataset.items[0].image is None:
            raise UserError(f"metrics {val.metrics} need the photos, and this split has label maps alone")
        check_counts(val.metric_names, {f"the {val.phase} split": len(dataset.items)})
        self.generated = [self.results / "pics" / f"{item.name}.{val.suffix}" for item in dataset.items]
        self.synthesizer, self.other = self._find_other()
        self.extractor = load_extractor() if set(OF_FEATURES) & set(val.metric_names) else None
        self.predictor = None
        if "seg" in val.metric_names:
            self.predictor = load_predictor(val.seg_model) if val.seg_model else load_deeplab()
            scheme_of(self.predictor, opt.dataset_mode, opt.label_nc, opt.generator_size)

    def _find_other(self) -> tuple[Synthesizer | None, list[Path] | None]:
        path = self.val.other
        if not path:
            return None, None
        if is_model(path):
            folder = self.results / "other"
            files = [folder / file.relative_to(self.results / "pics") for file in self.generated]
            return Synthesizer.load(path, use_ema=self.val.use_ema, device=self.val.device), files
        folders = str(self.results / "pics"), path
        return None, partners(self.generated, list_pictures(path), f"picture of {self.val.other_name}", folders)

    def write(self, step: int) -> str:
        """Score the pictures that were painted, write metrics.json, metrics.md, sheets and VisualDL records.

        Returns:
            What to print.
        """
        photos, maps = self._references()
        of_data = {name: getattr(self.opt, name) for name in ("dataset_mode", "label_nc", "unknown_ids", "palette")}
        settings = Settings(
            **of_data,
            metrics=self.val.metric_names,
            other_name=self.val.other_name,
            cache_dir=self.results / "metrics_cache",
            sheets=self.val.sheets if self.predictor else 0,
            output_dir=self.results / "sheets",
        )
        networks = {"extractor": self.extractor, "predictor": self.predictor}
        result = evaluate(self.generated, photos, maps, settings, other_dir=self.other, **networks)
        write_results(result, self.results, self.results / "log", step)
        sheets = f"; comparison sheets are in {printable(self.results / 'sheets')}" if result["sheets"] else ""
        return (
            f"{text(result)}\nscores are in {printable(self.results / 'metrics.md')} and metrics.json{sheets}; "
            f"visualdl --logdir {printable(self.results / 'log')}"
        )

    def _references(self) -> tuple[list[Path], list[Path]]:
        """Photos and label maps: the data set's files, or what was cut out of them where the networks saw a part."""
        items, mode = self.dataset.items, self.opt.preprocess_mode
        if "crop" not in mode or mode == "resize_and_crop":  # which for validation is the whole picture
            return [Path(item.image) for item in items], [Path(item.label) for item in items]
        photos, maps = ([self.results / kind / f"{item.name}.png" for item in items] for kind in ("photo", "label"))
        kind = np.uint8 if self.opt.label_nc <= 255 else np.uint16
        for i in range(len(items)):
            example: dict[str, Any] = self.dataset[i]
            save_image(tensor_to_image(example["image"]), photos[i])
            save_image(Image.fromarray(example["label"].astype(kind)), maps[i])
        return photos, maps
