"""Frechet Inception distance: features of picture sets, their statistics, the distance between two."""

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from model.data.visual import tensor_to_image
from model.errors import UserError
from model.judges.inception import FEATURES, INPUT_SIZE, FIDInception
from model.metrics.images import Cache, files_digest
from model.metrics.samples import check_finite, comparable
from model.serving.runtime import accelerate

# Another arithmetic of the features gets another number, so that no cache of the older one is taken for it.
FEATURES_VERSION = 1
# Building the engine takes as long as some 40 pictures without it.
_ENGINE_FROM = 64
_BLOCK = 4096  # vectors that are in memory in float64 at a time


@dataclass(frozen=True)
class FeatureStatistics:
    """Feature vectors of a picture set [count, features], of any floating type, and their statistics in float64.

    All vectors are kept, 8 kB a picture with the Inception's: KID, precision and recall need them, and a covariance of
    few pictures has low rank, so that its root follows from them without decomposing a large matrix.
    """

    vectors: np.ndarray

    @property
    def count(self) -> int:
        """How many vectors there are."""
        return len(self.vectors)

    @property
    def mean(self) -> np.ndarray:
        """Mean vector, [features]."""
        return self.vectors.mean(axis=0, dtype=np.float64)

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased (n - 1) covariance, [features, features], of at least 2 vectors."""
        mean, parts = self.mean, np.array_split(self.vectors, -(-self.count // _BLOCK))
        return sum(centred.T @ centred for centred in (part - mean for part in parts)) / (self.count - 1)

    @functools.cached_property
    def root(self) -> np.ndarray:
        """R [features, m] with R R^T = covariance."""
        if self.count > self.vectors.shape[1]:
            return _root(self.covariance)
        return (self.vectors - self.mean).T / np.sqrt(self.count - 1)


def _root(covariance: np.ndarray) -> np.ndarray:
    """R [features, rank] with R R^T = covariance: its Cholesky factor, or by eigenvalues where it is singular."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        kept = values > max(values.max(), 0.0) * len(values) * np.finfo(np.float64).eps  # the rest is rounding
        return vectors[:, kept] * np.sqrt(values[kept])


def _distance(mean_1, root_1, mean_2, root_2) -> float:
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
    check_finite(mean_1, mean_2, cov_1, cov_2)
    return _distance(mean_1, _root(cov_1), mean_2, _root(cov_2))


def fid(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Frechet distance of two picture sets.

    Raises:
        UserError: a set has fewer than 2 pictures, the sets' features differ in length or are not finite.
    """
    comparable("FID", 2, first.vectors, second.vectors)
    return _distance(first.mean, first.root, second.mean, second.root)


@dataclass
class FeatureExtractor:
    """Pictures -> pooled Inception features.

    Args:
        net: `FIDInception` with weights, or any layer from [N, 3, H, W] in [0, 1] to [N, features].
        weights_sha256: tells caches and reports which weights these are.
        features: length of a feature vector.
    """

    net: Callable[[paddle.Tensor], paddle.Tensor]
    weights_sha256: str
    features: int = FEATURES

    def expect(self, pictures: int) -> None:
        """Say how many pictures come: for many it pays to build Paddle's inference engine, on a CPU."""
        if pictures >= _ENGINE_FROM and isinstance(self.net, FIDInception):
            accelerate(self.net, "last_block", (1, 3, INPUT_SIZE, INPUT_SIZE))

    @paddle.no_grad()
    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 RGB [n, H, W, 3] -> float32 [n, features]."""
        pictures = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
        return self.net(paddle.to_tensor(pictures)).numpy()


def image_statistics(batches: Iterable[np.ndarray], extractor: FeatureExtractor) -> FeatureStatistics:
    """Statistics of images in memory: batches of float [N, 3, H, W] in [-1, 1], taken as the uint8 that would be saved,
    or of uint8 [N, H, W, 3].
    """
    vectors = [np.zeros((0, extractor.features), np.float32)]
    for images in batches:
        saved = images if images.dtype == np.uint8 else np.stack([tensor_to_image(image) for image in images])
        vectors.append(extractor(saved))
    return FeatureStatistics(np.concatenate(vectors))


def file_statistics(
    paths: Sequence[Path],
    extractor: FeatureExtractor,
    *,
    size: tuple[int, int] | None = None,
    batch_size: int = 16,
    cache_dir: str | os.PathLike | None = None,
    title: str = "FID",
    progress: bool = True,
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
    """
    files = {"files": files_digest(paths), "count": len(paths), "size": size}
    cache = Cache(cache_dir, "fid", {**files, "weights": extractor.weights_sha256, "version": FEATURES_VERSION})
    known = cache.load().get("vectors", np.zeros(0))
    fits = known.dtype.kind == "f" and known.shape[1:] == (extractor.features,)
    vectors = [known if fits else np.zeros((0, extractor.features), np.float32)]
    done = len(vectors[0])
    extractor.expect(len(paths) - done)
    how = batch_size, size, f"{title}: Inception features", progress
    for _, pictures in cache.batches(lambda: {"vectors": np.concatenate(vectors)}, paths, done, *how):
        vectors.append(extractor(pictures))
    return FeatureStatistics(np.concatenate(vectors))


def cheap_fid(images: Iterable[np.ndarray], reference: FeatureStatistics, extractor: FeatureExtractor) -> float:
    """FID of images in memory against a fixed reference, for validation during training.

    With few pictures the value is biased upwards, so compare it only with values of the same pictures and reference.

    Args:
        images: batches of float [N, 3, H, W] in [-1, 1] or uint8 [N, H, W, 3], at least 2 images in all.
        reference: `file_statistics` or `image_statistics` of the photos, at the images' size.
        extractor: the network.
    """
    return fid(image_statistics(images, extractor), reference)
