"""What an evaluation is asked: metrics, networks, names, and the pictures to judge."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from model.configuration.texts import METRICS, parse_metrics
from model.data.label_ids import unknown_ids
from model.errors import UserError
from model.metrics.images import common_folder, list_pictures, partners

OF_FEATURES = ("fid", "kid", "pr")  # metrics that need the Inception network and no label maps

MADE_UP = "made-up"

COLUMNS = {
    "pixel_accuracy": "pixel acc.",
    "mean_accuracy": "mean acc.",
    "mean_iou": "mIoU",
    "fw_iou": "FWIoU",
    "fid": "FID",
    "kid": "KID",
    "kid_std": "KID std",
    "precision": "precision",
    "recall": "recall",
}
DIGITS = {"fid": 2, "kid": 6, "kid_std": 6}  # behind the point; 4 of all others

Pictures = str | os.PathLike | Sequence[Path]  # a folder, or the files themselves


@dataclass(frozen=True)
class Settings:
    """What `evaluate` computes, and under which protocol.

    Args:
        metrics: of "fid", "seg", "kid" and "pr" (improved precision and recall), or such words with commas between.
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
        kid_subset_size, kid_subsets, kid_seed: of KID, see `model.metrics.samples.kid`.
        pr_k: which nearest neighbour is at the radius, of precision and recall.
        sheets: comparison sheets of so many pictures, evenly spread over all, written to `output_dir`.
        output_dir: where sheets go.
        progress: whether stderr is told how far the networks are: by a bar on a terminal, by lines elsewhere.

    Raises:
        UserError: settings that contradict each other, or a name that cannot be a folder's.
    """

    metrics: str | Sequence[str] = ("fid", "seg")
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
    kid_subset_size: int = 1000
    kid_subsets: int = 100
    kid_seed: int = 0
    pr_k: int = 3
    sheets: int = 0
    output_dir: str | os.PathLike | None = None
    progress: bool = True

    contain_dontcare_label: ClassVar[bool] = True  # whether it was trained or not, what is unlabelled is not scored

    def __post_init__(self):
        unknown_ids(self)
        object.__setattr__(self, "metrics", parse_metrics(self.metrics))
        if not self.metrics:
            raise UserError(f"metrics are not named: expected {', '.join(METRICS)}, or several with commas between")
        for name, low in (("kid_subset_size", 2), ("kid_subsets", 1), ("kid_seed", 0), ("pr_k", 1)):
            if not low <= getattr(self, name) < 2**32:
                raise UserError(f"{name} {getattr(self, name)} is out of range: expected {low} to {2**32 - 1}")
        if self.sheets and (self.output_dir is None or "seg" not in self.metrics):
            raise UserError("comparison sheets show segmentations, in a folder: they need it and the metric seg")
        for called in (self.name, self.other_name):  # VisualDL records get folders of these names
            if not called.strip() or called in (".", "..") or not called.isprintable() or set(called) & set("/\\|"):
                raise UserError(f"the name {called!r} of a picture set is no plain word: leave out / \\ and |")


@dataclass(frozen=True)
class Source:
    """One set of pictures: the generated ones, another implementation's, the photos, the label maps."""

    name: str
    title: str
    pictures: list[Path]
    folder: str  # where the pictures' paths begin

    @classmethod
    def of(cls, given: "Pictures", most: int | None, name: str, listing=list_pictures) -> "Source":
        """The first pictures of a folder, or of a list of files."""
        if isinstance(given, str | os.PathLike):
            return cls(name, name, listing(given)[:most], os.fspath(given))
        return cls(name, name, list(given)[:most], common_folder(given))

    def partners(self, others: "Source", what: str) -> list[Path]:
        """Those of another set that belong to these pictures."""
        return partners(self.pictures, others.pictures, what, (self.folder, others.folder))
