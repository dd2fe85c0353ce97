"""Frechet Inception distance: features of picture sets, their statistics, the distance between two."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import paddle

from model.data.visual import tensor_to_image
from model.errors import UserError
from model.files import read_npz
from model.judges.inception import FEATURES, INPUT_SIZE, FIDInception
from model.metrics.engine import compiled
from model.metrics.images import Cache, files_digest, write_npz
from model.metrics.samples import check_finite

# Another arithmetic of the features gets another number, so that no cache of the older one is taken for it.
FEATURES_VERSION = 1
# Building the engine takes as long as some 40 pictures without it.
_ENGINE_FROM = 64


class FeatureStatistics:
    """Mean and covariance of feature vectors, in float64, from any number of batches in any order.

    Batches are joined by the pairwise update of Chan, Golub and LeVeque (1979), which does not lose digits as the
    difference of two large sums does. As long as there are no more vectors than features, they are kept as well: a
    covariance of few pictures has low rank, and its root follows from them without decomposing a large matrix.

    Args:
        features: length of a vector.
        keep: keep all vectors, as KID, precision and recall need them; 8 kB a picture with the Inception's.
    """

    def __init__(self, features: int, keep: bool = False):
        self.keep = keep
        self.count = 0
        self.mean = np.zeros(features)
        self.scatter = np.zeros((features, features))  # sum of (x - mean)(x - mean)^T
        self._vectors: list[np.ndarray] | None = []  # None when there are too many

    @property
    def vectors(self) -> np.ndarray | None:
        """The vectors [count, features] in their order, of the type they came in; None when they were not kept."""
        if self._vectors is not None and len(self._vectors) != 1:
            self._vectors = [np.concatenate(self._vectors) if self._vectors else np.zeros((0, len(self.mean)))]
        return self._vectors and self._vectors[0]

    def add(self, features: np.ndarray) -> None:
        """Take in feature vectors, [n, features] of any floating type."""
        features = np.asarray(features)
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"features of shape {features.shape}, expected [n, {len(self.mean)}]")
        if not len(features):
            return
        mean = features.mean(axis=0, dtype=np.float64)
        centred = features - mean
        self._join(len(features), mean, centred.T @ centred, features)

    def _join(self, count: int, mean: np.ndarray, scatter: np.ndarray, vectors: np.ndarray | None) -> None:
        total = self.count + count
        step = mean - self.mean
        self.scatter += scatter + np.outer(step, step) * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total
        if vectors is None or self._vectors is None or not (self.keep or total <= len(self.mean)):
            self._vectors = None
        else:
            self._vectors.append(vectors)

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased (n - 1) covariance, [features, features], of at least 2 vectors."""
        return self.scatter / (self.count - 1)

    @property
    def root(self) -> np.ndarray:
        """R [features, m] with R R^T = covariance."""
        if self._vectors is None or not 2 <= self.count <= len(self.mean):
            return _root(self.covariance)
        return (self.vectors - self.mean).T / np.sqrt(self.count - 1)

    def save(self, path: str | os.PathLike) -> None:
        """Write an .npz, whole or not at all."""
        moments = {"mean": self.mean, "scatter": self.scatter}
        write_npz(path, count=self.count, **(moments if self.vectors is None else {"vectors": self.vectors}))

    @classmethod
    def load(cls, path: str | os.PathLike, features: int, keep: bool = False) -> "FeatureStatistics | None":
        """Read what `save` wrote; None when the file is missing, damaged, of another kind or lacks vectors to keep."""
        statistics = cls(features, keep)
        try:
            file = read_npz(path)
            count = int(file["count"])
            if "vectors" in file:
                statistics.add(file["vectors"])
            else:
                statistics._join(count, file["mean"], file["scatter"], None)
            finite = np.isfinite(statistics.mean).all() and np.isfinite(statistics.scatter).all()
        except (ValueError, KeyError, TypeError):  # UserError is a ValueError
            return None
        missing = keep and statistics.vectors is None
        return None if missing or not finite or statistics.count != count else statistics


def _root(covariance: np.ndarray) -> np.ndarray:
    """R [features, rank] with R R^T = covariance: its Cholesky factor, or by eigenvalues where it is singular."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        kept = values > max(values.max(), 0.0) * len(values) * np.finfo(np.float64).eps  # the rest is rounding
        return vectors[:, kept] * np.sqrt(values[kept])


def _distance(mean_1, root_1, mean_2, root_2) -> float:
    check_finite(mean_1, root_1, mean_2, root_2)
    cross = np.linalg.svd(root_1.T @ root_2, compute_uv=False).sum()
    step = mean_1 - mean_2
    return max(float(step @ step + np.square(root_1).sum() + np.square(root_2).sum() - 2 * cross), 0.0)


def frechet_distance(mean_1: np.ndarray, cov_1: np.ndarray, mean_2: np.ndarray, cov_2: np.ndarray) -> float:
    """Squared Frechet distance of two Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    Heusel et al. 2017 (arXiv 1706.08500), eq. 6. With C1 = R1 R1^T and C2 = R2 R2^T the last trace is the sum of the
    singular values of R1^T R2. That holds for singular covariances too, which fewer pictures than features always give,
    and where a general matrix square root is inexact or complex.

    Args:
        mean_1, mean_2: [features].
        cov_1, cov_2: [features, features], symmetric positive semi-definite of any rank.

    Raises:
        UserError: the shapes differ, or a number is not finite.
    """
    mean_1, mean_2, cov_1, cov_2 = (np.asarray(a, np.float64) for a in (mean_1, mean_2, cov_1, cov_2))
    if mean_1.shape != mean_2.shape or cov_1.shape != cov_2.shape or cov_1.shape != mean_1.shape * 2:
        raise UserError(
            f"the statistics do not belong together: means {mean_1.shape} and {mean_2.shape}, "
            f"covariances {cov_1.shape} and {cov_2.shape}"
        )
    if not (np.isfinite(cov_1).all() and np.isfinite(cov_2).all()):
        raise UserError("a covariance holds values that are not finite: the pictures or the weights are broken")
    return _distance(mean_1, _root(cov_1), mean_2, _root(cov_2))


def fid(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Frechet distance of two picture sets.

    Raises:
        UserError: a set has fewer than 2 pictures, the sets' features differ in length or are not finite.
    """
    for statistics in (first, second):
        if statistics.count < 2:
            raise UserError(f"FID needs at least 2 pictures in each set, and one has {statistics.count}")
    if len(first.mean) != len(second.mean):
        raise UserError(f"features of {len(first.mean)} and of {len(second.mean)} numbers cannot be compared")
    return _distance(first.mean, first.root, second.mean, second.root)


class FeatureExtractor:
    """Pictures -> pooled Inception features.

    Args:
        net: `FIDInception` with weights, or any layer from [N, 3, H, W] in [0, 1] to [N, features].
        weights_sha256: tells caches and reports which weights these are.
        features: length of a feature vector.
    """

    def __init__(self, net: Callable[[paddle.Tensor], paddle.Tensor], weights_sha256: str, features: int = FEATURES):
        self.net = net
        self.weights_sha256 = weights_sha256
        self.features = features
        self._trunk: Callable[[np.ndarray], np.ndarray] | None = None

    def expect(self, pictures: int) -> None:
        """Say how many pictures come: for many it pays to build Paddle's inference engine, on a CPU."""
        if self._trunk is None and pictures >= _ENGINE_FROM and isinstance(self.net, FIDInception):
            self._trunk = compiled(self.net, "last_block", np.zeros((1, 3, INPUT_SIZE, INPUT_SIZE), np.float32))

    @paddle.no_grad()
    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 RGB [n, H, W, 3] -> float32 [n, features]."""
        pictures = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
        tensor = paddle.to_tensor(pictures)
        if self._trunk is None:
            return self.net(tensor).numpy()
        return self._trunk(self.net.prepare(tensor).numpy()).mean(axis=(2, 3))


def as_pictures(images: np.ndarray) -> np.ndarray:
    """A generator's float [N, 3, H, W] in [-1, 1] as the uint8 [N, H, W, 3] that would be saved; uint8 passes."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.stack([tensor_to_image(image) for image in images])


def image_statistics(batches: Iterable[np.ndarray], extractor: FeatureExtractor) -> FeatureStatistics:
    """Statistics of images in memory: batches of float [N, 3, H, W] in [-1, 1] or uint8 [N, H, W, 3]."""
    statistics = FeatureStatistics(extractor.features)
    for images in batches:
        statistics.add(extractor(as_pictures(images)))
    return statistics


def file_statistics(
    paths: Sequence[Path],
    extractor: FeatureExtractor,
    *,
    size: tuple[int, int] | None = None,
    batch_size: int = 16,
    cache_dir: str | os.PathLike | None = None,
    title: str = "FID",
    progress: bool = True,
    keep: bool = False,
) -> FeatureStatistics:
    """Statistics of picture files, from the cache when these very files were seen before.

    Args:
        paths: picture files, any number.
        size: (height, width) to resize to first (bicubic); None takes each picture as it is.
        batch_size: pictures per pass of the network.
        cache_dir: folder of the cache; None computes anew. The key is made of the files' names, sizes and modification
            times, the weights' sha256 and `size`; a damaged file is computed again and replaced. It is also written
            once a minute, so that an interrupted evaluation goes on from there.
        title: what the progress calls the set, which is told if `progress`, see `progress_bar`.
        keep: keep the vectors themselves, as KID, precision and recall need them. A cache file of larger sets whose
            mean and covariance alone were asked for lacks them, and is computed again.
    """
    files = {"files": files_digest(paths), "count": len(paths), "size": size}
    cache = Cache(cache_dir, "fid", {**files, "weights": extractor.weights_sha256, "version": FEATURES_VERSION})
    statistics = cache.path and FeatureStatistics.load(cache.path, extractor.features, keep)
    if statistics is None or statistics.count > len(paths):
        statistics = FeatureStatistics(extractor.features, keep)
    if statistics.count == len(paths):
        cache.used()
        return statistics
    done = statistics.count  # pictures of an interrupted evaluation
    extractor.expect(len(paths) - done)
    how = batch_size, size, f"{title}: Inception features", progress
    for _, pictures in cache.batches(statistics.save, paths, done, *how):
        statistics.add(extractor(pictures))
    return statistics


def cheap_fid(images: Iterable[np.ndarray], reference: FeatureStatistics, extractor: FeatureExtractor) -> float:
    """FID of images in memory against a fixed reference, for validation during training.

    With few pictures the value is biased upwards, so compare it only with values of the same pictures and reference.

    Args:
        images: batches of float [N, 3, H, W] in [-1, 1] or uint8 [N, H, W, 3], at least 2 images in all.
        reference: `file_statistics` or `image_statistics` of the photos, at the images' size.
        extractor: the network.
    """
    return fid(image_statistics(images, extractor), reference)
