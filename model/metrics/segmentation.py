"""Segmentation scores of pictures: confusion matrix, the scores from it, and whose classes are whose."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from model.data.palettes import class_names
from model.errors import UserError
from model.metrics.predictors import Predictor

# The 19 Cityscapes label ids that are evaluated, in the order of the trainIds that most networks put out.
CITYSCAPES_TRAIN = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
IGNORED = -1

# {data set: ({number of a network's classes: (label id of each, label ids that count)}, what is dropped)}
_SCHEMES = {
    "cityscapes": (
        {
            19: (CITYSCAPES_TRAIN, CITYSCAPES_TRAIN),
            34: (range(34), CITYSCAPES_TRAIN),
            35: (range(35), CITYSCAPES_TRAIN),
        },
        "all label ids but the 19 evaluated ones",
    ),
    "ade20k": ({150: (range(1, 151), range(1, 151)), 151: (range(151), range(1, 151))}, "0 (other)"),
}


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Counts [truth, prediction] of pixels whose truth is in 0..classes-1; all other pixels are dropped.

    Args:
        truth: integer, any shape.
        prediction: integer, the same shape; 0..classes-1 wherever the truth counts.
        classes: number of classes.

    Returns:
        int64 [classes, classes]; matrices of several pictures add up.

    Raises:
        UserError: the shapes differ, or a predicted id is out of range.
    """
    if truth.shape != prediction.shape:
        raise UserError(f"a label map of {truth.shape} and a prediction of {prediction.shape} cannot be compared")
    counted = (truth >= 0) & (truth < classes)
    truth, prediction = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    if prediction.size and not (0 <= prediction.min() and prediction.max() < classes):
        raise UserError(
            f"the segmentation network predicts the id {prediction.max() if prediction.max() >= classes else -1}; "
            f"expected 0..{classes - 1}"
        )
    return np.bincount(classes * truth + prediction, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True)
class Scores:
    """What papers report, as fractions of 1, and the same by class; classes without a pixel to judge are nan."""

    pixel_accuracy: float
    mean_accuracy: float
    mean_iou: float
    fw_iou: float
    class_iou: np.ndarray
    class_accuracy: np.ndarray
    class_pixels: np.ndarray


def segmentation_scores(confusion: np.ndarray) -> Scores:
    """Scores of a confusion matrix [truth, prediction].

    The means are over classes that occur in the truth; the frequency-weighted IoU weighs by the truth's frequency.

    Raises:
        UserError: no pixel was counted.
    """
    right = np.diag(confusion).astype(np.float64)
    truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    total = truth.sum()
    if not total:
        raise UserError("no pixel of the label maps has an id that counts: check dataset_mode and the label folder")
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = right / truth
        iou = right / (truth + predicted - right)
    present = truth > 0
    return Scores(
        pixel_accuracy=float(right.sum() / total),
        mean_accuracy=float(accuracy[present].mean()),
        mean_iou=float(iou[present].mean()),
        fw_iou=float((truth[present] / total * iou[present]).sum()),
        class_iou=iou,
        class_accuracy=accuracy,
        class_pixels=truth,
    )


@dataclass(frozen=True)
class Scheme:
    """How the ids of a data set's label maps and the classes of a network belong together."""

    labels: np.ndarray  # label id of each class of the network
    counted: np.ndarray  # which classes are scored, bool per class
    names: list[str] = field(repr=False)  # of the classes
    ignored: str  # which label ids are dropped, in words, for the report

    @property
    def classes(self) -> int:
        """Number of the network's classes."""
        return len(self.labels)

    def truth(self, label_map: np.ndarray) -> np.ndarray:
        """Label ids -> classes of the network, IGNORED where the pixel is dropped; int32."""
        table = np.full(max(int(self.labels.max()), int(label_map.max(initial=0))) + 1, IGNORED, np.int32)
        table[self.labels[self.counted]] = np.flatnonzero(self.counted)
        return np.where(label_map < 0, IGNORED, table[np.maximum(label_map, 0)])

    def label_ids(self, prediction: np.ndarray) -> np.ndarray:
        """Classes of the network -> label ids, for colours; other ids pass as they are beyond the palette."""
        inside = (prediction >= 0) & (prediction < self.classes)
        return np.where(inside, self.labels[np.where(inside, prediction, 0)], -1)


def scheme_of(
    predictor: Predictor, dataset_mode: str, label_nc: int, size: tuple[int, int], names: Sequence[str] = ()
) -> Scheme:
    """The scheme of a data set for a predictor, which is shown a blank picture of `size` if it does not say `classes`.

    COCO-Stuff: 182 classes, the label ids. ADE20K: 150 classes, label 1 first (151: label 0 first); label 0 is dropped.
    Cityscapes: 19 (trainIds) or 34/35 (labelIds) classes; the 19 of the benchmark count. Otherwise the classes are the
    label ids. Names of the label ids are the data set's unless `names` are given.

    Raises:
        UserError: the network has another number of classes than the data set.
    """
    classes = getattr(predictor, "classes", None)
    if classes is None:
        output = predictor(np.zeros((1, *size, 3), np.uint8))
        usual = {"ade20k": 150, "cityscapes": 19}.get(dataset_mode, label_nc)
        classes = output.shape[1] if output.ndim == 4 else usual  # ids do not tell it
    same = range(label_nc)
    known, ignored = _SCHEMES.get(dataset_mode, ({label_nc: (same, same)}, f"all from {label_nc} up (unlabelled)"))
    if classes not in known:
        *others, last = map(str, known)
        expected = f"{', '.join(others)} or {last}" if others else last
        raise UserError(
            f"the segmentation network has {classes} classes; dataset_mode {dataset_mode} expects {expected}: "
            "give a network that was trained on this data set with --seg_model"
        )
    labels, counted = map(np.asarray, known[classes])
    names = names or class_names(dataset_mode, label_nc)
    named = [names[i] if i < len(names) else f"class {i}" for i in labels]
    return Scheme(labels, np.isin(labels, counted), named, ignored)
