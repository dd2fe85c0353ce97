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

    Raises:
        UserError: settings that contradict each other, or a name that cannot be a folder's.
    """

    metrics: str | Sequence[str] = ("fid", "seg")  # also "kid", "pr" (improved precision and recall); a text has commas
    dataset_mode: str = "coco_stuff"  # whose ids the label maps hold
    label_nc: int = 182
    unknown_ids: str = ""  # which ids mean unlabelled, as the option of training; their pixels are not scored
    palette: str = ""  # file of colours and ids, see `read_palette`, for label maps that hold colours
    name: str = "generated"  # what the report calls the pictures
    other_name: str = "other"  # and those beside them
    photos: bool = True  # the photos' own segmentation scores, the ceiling, are computed too
    size: tuple[int, int] | None = None  # (height, width) of all pictures; None is that of the first generated one
    resize_photos: bool = True  # False leaves photos at their own size for FID
    at_label_size: bool = False  # score segmentations at the label maps' own size, not at the pictures'
    batch_size: int = 8  # pictures per pass
    max_pictures: int | None = None  # judge only the first so many of each folder
    inception_weights: str | os.PathLike | None = None  # file or folder; None looks in inception/
    deeplab_weights: str | os.PathLike | None = None  # None looks in deeplab/
    made_up: bool = False  # made-up weights where a network has to be loaded: the numbers then mean nothing
    legacy_scales: bool = False  # DeepLab's scale sampling of the PyTorch that the released weights were made with
    # Where statistics and confusion matrices of picture sets are kept, also those of an interrupted evaluation, which
    # goes on from there; None keeps none.
    cache_dir: str | os.PathLike | None = None
    kid_subset_size: int = 1000  # of KID, see `model.metrics.samples.kid`
    kid_subsets: int = 100
    kid_seed: int = 0
    pr_k: int = 3  # which nearest neighbour is at the radius, of precision and recall
    sheets: int = 0  # comparison sheets of so many pictures, evenly spread over all
    output_dir: str | os.PathLike | None = None  # where sheets go
    progress: bool = True  # stderr is told how far the networks are, see `progress_bar`

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
    pictures: list[Path]
    folder: str  # where the pictures' paths begin

    @classmethod
    def of(cls, given: "Pictures", most: int | None, name: str, listing=list_pictures) -> "Source":
        """The first pictures of a folder, or of a list of files."""
        if isinstance(given, str | os.PathLike):
            return cls(name, listing(given)[:most], os.fspath(given))
        return cls(name, list(given)[:most], common_folder(given))

    def partners(self, others: "Source", what: str) -> list[Path]:
        """Those of another set that belong to these pictures."""
        return partners(self.pictures, others.pictures, what, (self.folder, others.folder))
