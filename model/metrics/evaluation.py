"""Scores of picture folders: what is computed, under which protocol."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import PIL

from model.data.dataset import PhotoMaps
from model.data.loader import make_loader
from model.errors import UserError
from model.files import file_digest
from model.judges.deeplab import DeepLabV2
from model.judges.inception import FEATURES, FIDInception
from model.metrics.fid import FeatureExtractor, FeatureStatistics, cheap_fid, fid, file_statistics, image_statistics
from model.metrics.images import common_folder, list_maps, read_rgb
from model.metrics.judge import Judge, class_rows
from model.metrics.predictors import DeepLabPredictor, Predictor
from model.metrics.samples import Manifold, kid, precision_recall
from model.metrics.segmentation import segmentation_scores
from model.metrics.settings import COLUMNS, MADE_UP, OF_FEATURES, Pictures, Settings, Source
from model.options import OPT
from model.weights.made_up import made_up_weights
from model.weights.published import PUBLISHED, find_network, find_weights

QUICK_PICTURES = 1000  # of the validation split, the first
WARNING = "MADE-UP NETWORK WEIGHTS: these numbers mean nothing, they only show that the evaluation runs"


def load_extractor(path: str | os.PathLike | None = None, made_up: bool = False) -> FeatureExtractor:
    """The FID network with the weights that `model.weights.published.find_weights` finds, or with made-up ones.

    Raises:
        UserError: no weights there; says where they are published.
    """
    if made_up:
        return FeatureExtractor(made_up_weights(FIDInception(), gain=3.0), MADE_UP)
    return FeatureExtractor(find_network("inception", path), file_digest(find_weights("inception", path)))


def load_deeplab(path: str | os.PathLike | None = None, made_up: bool = False, legacy: bool = False) -> Predictor:
    """DeepLabV2 with the weights that `model.weights.published.find_weights` finds, or with made-up ones.

    Raises:
        UserError: no weights there; says where they are published.
    """
    if made_up:
        net, digest = made_up_weights(DeepLabV2(), gain=1.0), MADE_UP
    else:
        net, digest = find_network("deeplab", path), file_digest(find_weights("deeplab", path))
    net.legacy = legacy
    return DeepLabPredictor(net, digest)


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
    """Scores of a folder of generated pictures, of another one beside it, and of the photos.

    Args:
        generated_dir: the pictures to judge: their folder, or the files themselves, as for the other three.
        real_dir: the reference photos; "seg" takes those of the generated names, the other metrics all of them.
        labels_dir: label maps; "seg" needs them. Files are paired by name.
        settings: what is computed and how; None takes the defaults.
        other_dir: another checkpoint's or implementation's pictures.
        extractor, predictor: networks that are already there; else they are loaded.

    Returns:
        {"rows": {name: {"fid": ..., "pixel_accuracy": ..., ...}}, "classes": [...], "protocol": {...}, "sheets": [...],
        "warning": only with made-up weights}. Fractions of 1; FID and KID as they are.

    Raises:
        UserError: folders, files or weights that are missing or do not fit.
    """
    settings = settings or Settings()
    with_seg, of_features = ("seg" in settings.metrics), [name for name in OF_FEATURES if name in settings.metrics]
    if with_seg and labels_dir is None:
        raise UserError("segmentation scores need the label maps: give their folder, or --metrics fid")
    sources = _sources(settings, generated_dir, other_dir)
    real = Source.of(real_dir, None, "photos")
    reference = dataclasses.replace(real, pictures=real.pictures[: settings.max_pictures])
    size = settings.size or read_rgb(sources[0].pictures[0]).shape[:2]
    rows: dict[str, dict[str, float]] = {source.name: {} for source in sources}
    protocol = {
        "image_size": f"{size[1]}x{size[0]}",
        "resampling": "Pillow bicubic where a picture has another size; label maps nearest",
        "generated": {source.name: _counted(source.pictures) for source in sources},
        "reference": {**_counted(reference.pictures), "folder": common_folder(reference.pictures)},
    }
    result: dict[str, Any] = {"rows": rows, "classes": [], "protocol": protocol, "sheets": []}

    # All that can be missing is looked for before hours are spent with the first network.
    networks: list[FeatureExtractor | Predictor] = []
    if of_features:
        check_counts(of_features, {s.folder: len(s.pictures) for s in (*sources, reference)}, settings.pr_k)
        networks.append(extractor or load_extractor(settings.inception_weights, settings.made_up))
    if with_seg:
        networks.append(predictor or load_deeplab(settings.deeplab_weights, settings.made_up, settings.legacy_scales))
        maps = Source.of(labels_dir, None, "label maps", list_maps)
        judge = Judge(networks[-1], settings, size)
        photos = [Source("photos", sources[0].partners(real, "photo"), real.folder)] if settings.photos else []
        judged = [(source, source.partners(maps, "label map")) for source in (*sources, *photos)]
    if any(network.weights_sha256 == MADE_UP for network in networks):
        result["warning"] = WARNING

    if of_features:
        protocol.update(_of_features(rows, of_features, sources, reference, networks[0], size, settings))
    if with_seg:
        scores = {source.name: segmentation_scores(judge.confusion(source, truth)) for source, truth in judged}
        for name, found in scores.items():
            rows.setdefault(name, {}).update({k: getattr(found, k) for k in COLUMNS if hasattr(found, k)})
        result["classes"] = class_rows(scores, judge.scheme)
        protocol["segmentation"] = judge.protocol(common_folder(maps.pictures))
    if settings.sheets:
        result["sheets"] = [str(path) for path in judge.sheets(sources, real, maps)]
    protocol["versions"] = {"paddle": paddle.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
    return result


def _sources(settings: Settings, generated_dir: Pictures, other_dir: Pictures | None) -> list[Source]:
    given = [(settings.name, generated_dir)] + ([] if other_dir is None else [(settings.other_name, other_dir)])
    if len({"photos", *(name for name, _ in given)}) <= len(given):
        raise UserError(
            f"{settings.name} and {settings.other_name} must be two different names, and neither may be 'photos'"
        )
    return [Source.of(pictures, settings.max_pictures, name) for name, pictures in given]


def check_counts(metrics: Iterable[str], counts: Mapping[str, int], pr_k: int = Settings.pr_k) -> None:
    """Refuse sets of pictures, {folder: how many}, that are too small for a metric.

    Raises:
        UserError: names the first such set.
    """
    least = {"fid": 2, "kid": 2, "pr": pr_k + 1, "seg": 1}
    for metric in metrics:
        for folder, count in counts.items():
            if count < least[metric]:
                raise UserError(
                    f"metric {metric} needs at least {least[metric]} pictures in each set, and {folder} has {count}"
                )


def _of_features(
    rows: Mapping[str, dict[str, float]],
    metrics: Sequence[str],
    sources: Sequence[Source],
    photos: Source,
    extractor: FeatureExtractor,
    size: tuple[int, int],
    settings: Settings,
) -> dict[str, dict[str, Any]]:
    """Put each picture set's scores against the photos by their features in its row; returns the protocol's parts."""

    def statistics(source: Source, size: tuple[int, int] | None) -> FeatureStatistics:
        return file_statistics(
            source.pictures, extractor, size=size, title=source.name, batch_size=settings.batch_size,
            cache_dir=settings.cache_dir, progress=settings.progress,
        )  # fmt: skip

    fewest = min(len(source.pictures) for source in (photos, *sources))
    draw = min(settings.kid_subset_size, fewest), settings.kid_subsets, settings.kid_seed
    reference = statistics(photos, size if settings.resize_photos else None)
    real = Manifold.of(reference.vectors, settings.pr_k) if "pr" in metrics else None
    for source in sources:
        these, row = statistics(source, size), rows[source.name]
        if "fid" in metrics:
            row["fid"] = fid(these, reference)
        if "kid" in metrics:
            row["kid"], row["kid_std"] = kid(these.vectors, reference.vectors, *draw)
        if real is not None:
            row["precision"], row["recall"] = precision_recall(real, Manifold.of(these.vectors, settings.pr_k))
    return _feature_protocol(metrics, extractor, settings, fewest)


def _feature_protocol(
    metrics: Sequence[str], extractor: FeatureExtractor, settings: Settings, fewest: int
) -> dict[str, dict[str, Any]]:
    """What the scores of each metric depend on; `fewest` pictures are in the smallest set."""
    published, subset_size = PUBLISHED["inception"], settings.kid_subset_size
    known = extractor.weights_sha256 == published.sha256
    other = f"another file than the published {published.name}; compare only with scores of this one"
    network = {
        "network": f"Inception v3 of pytorch-fid (2015-12-05), {FEATURES} pooled features",
        "network_input": "RGB in [0, 1], bilinear to 299x299 without antialias",
        "photos_resized": settings.resize_photos,
        "weights": f"{published.name}, as published" if known else other,
        "weights_sha256": extractor.weights_sha256,
    }
    specific: dict[str, dict[str, Any]] = {
        "fid": {"covariance": "unbiased, float64"},
        "kid": {
            "kernel": "polynomial, degree 3, gamma 1/features, coef0 1; unbiased squared MMD, float64",
            "subset_size": min(subset_size, fewest),
            "subsets": settings.kid_subsets,
            "seed": settings.kid_seed,
            "values": "mean and standard deviation over the subsets",
        },
        "pr": {
            "kind": "improved precision and recall: manifolds of k-th nearest neighbours, euclidean, float64",
            "k": settings.pr_k,
            "note": "both values depend on the counts of pictures: compare only values of the same counts",
        },
    }
    if fewest < extractor.features:
        specific["fid"]["note"] = (
            f"fewer pictures ({fewest}) than features ({extractor.features}): the value is biased upwards, compare it "
            "only with values of the same counts"
        )
    if fewest < subset_size:
        specific["kid"]["note"] = (
            f"fewer pictures ({fewest}) than a subset of {subset_size}: a subset holds no more than the smallest set, "
            "so the standard deviation is too small or 0; the mean has no bias"
        )
    return {metric: network | specific[metric] for metric in metrics}


def _counted(pictures: Sequence[Path]) -> dict[str, Any]:
    kinds = sorted({path.suffix.lower() for path in pictures})
    return {
        "pictures": len(pictures), "first": pictures[0].name, "last": pictures[-1].name, "files": " ".join(kinds),
    }  # fmt: skip


class QuickFID:
    """FID over the validation split, measured every few epochs of a run; comparable within it only.

    Args:
        opt: the run's options.

    Raises:
        UserError: fewer than two photos in the split, or no weights of the network that judges.
    """

    def __init__(self, opt: OPT):
        data = PhotoMaps(opt, "val")
        if len(data) < 2 or data.items[0].image is None:
            raise UserError("the validation split has fewer than two photos")
        self.extractor, self.reference = load_extractor(), None
        size = min(QUICK_PICTURES, opt.max_dataset_size or QUICK_PICTURES)
        batch = opt.batchSize if opt.loader_size else 1  # one where pictures' sizes differ
        self.opt = dataclasses.replace(opt, max_dataset_size=size, batchSize=batch)

    def measure(self, paint: Callable[[dict], paddle.Tensor]) -> float:
        """The FID of pictures.

        Args:
            paint: gives the pictures [N,3,H,W] in [-1,1] of a batch.
        """
        with make_loader(self.opt, "val") as loader:
            if self.reference is None:
                self.reference = image_statistics((batch["image"].numpy() for batch in loader), self.extractor)
            return cheap_fid((paint(batch).numpy() for batch in loader), self.reference, self.extractor)
