"""Kernel Inception distance, improved precision and recall: scores of the feature vectors themselves."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model.errors import UserError

_BLOCK = 1 << 22  # numbers of a matrix between two sets that are in memory at a time, and of vectors in float64


def _products(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Blocks of x y^T in float64, as (rows, columns, numbers); a row's blocks follow each other."""
    side = max(1, min(int(_BLOCK**0.5), _BLOCK // x.shape[1]))
    for i in range(0, len(x), side):
        rows = slice(i, min(i + side, len(x)))
        block = x[rows].astype(np.float64)
        for j in range(0, len(y), side):
            columns = slice(j, min(j + side, len(y)))
            yield rows, columns, block @ y[columns].astype(np.float64).T


def _squared_norms(x: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", x, x, dtype=np.float64)


def _squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Blocks of the matrix of squared distances, in float64; what is rounding alone is 0, as between copies."""
    x_norms, y_norms = _squared_norms(x), _squared_norms(y)
    for rows, columns, products in _products(x, y):
        norms = x_norms[rows, None] + y_norms[columns]
        distances = norms - 2 * products
        distances[distances < 1e-12 * norms] = 0
        yield rows, columns, distances


def check_finite(*arrays: np.ndarray) -> None:
    """Raise a UserError where features hold nan or infinity."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError("the features are not all finite: the pictures or the network's weights are broken")


# ---- KID ----


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    return sum(float(((block / x.shape[1] + 1) ** 3).sum()) for _, _, block in _products(x, y))


def squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / d + 1)^3.

    Binkowski et al. 2018 (arXiv 1801.01401), eq. 4 and section 3. It can be negative.

    Args:
        x, y: [m, d] and [n, d] feature vectors, m and n at least 2.
    """
    own = []
    for z in (x, y):
        diagonal = float(((_squared_norms(z) / z.shape[1] + 1) ** 3).sum())
        own.append((_kernel_sum(z, z) - diagonal) / (len(z) * (len(z) - 1)))
    return own[0] + own[1] - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def kid(
    x: np.ndarray, y: np.ndarray, subset_size: int = 1000, subsets: int = 100, seed: int = 0
) -> tuple[float, float]:
    """Kernel Inception distance of two sets: `squared_mmd` of random subsets, drawn without replacement.

    Args:
        x, y: [m, d] and [n, d] feature vectors.
        subset_size: vectors in a subset, at least 2; where a set holds fewer, all subsets have as many as that set.
        subsets: how many are drawn.
        seed: of the draw, which depends on nothing else than it and the numbers here.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        UserError: a set has fewer than 2 vectors, their lengths differ, or a number is not finite.
    """
    comparable("KID", 2, x, y)
    size = min(subset_size, len(x), len(y))
    draw = np.random.RandomState(seed)  # its numbers are the same in every version of NumPy
    values = [
        squared_mmd(*(z[np.sort(draw.choice(len(z), size, replace=False))] for z in (x, y))) for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


# ---- precision and recall ----


@dataclass(frozen=True)
class Manifold:
    """A set's vectors [n, d], each with the squared distance to its k-th nearest other one [n]."""

    vectors: np.ndarray
    squared_radii: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, k: int = 3) -> "Manifold":
        """The manifold of more than k vectors."""
        comparable(f"precision and recall with k = {k}", k + 1, vectors)
        nearest = np.full((len(vectors), k + 1), np.inf)  # the vector itself at 0 is one of them
        for rows, _, distances in _squared_distances(vectors, vectors):
            both = np.concatenate([nearest[rows], distances], axis=1)
            nearest[rows] = np.partition(both, k, axis=1)[:, : k + 1]
        return cls(vectors, nearest.max(axis=1))


def precision_recall(real: Manifold, generated: Manifold) -> tuple[float, float]:
    """Improved precision and recall of a generated set.

    Kynkaanniemi et al. 2019 (arXiv 1904.06991), eq. 1 and 2: the fraction of generated vectors that lie within the
    radius of some real one, and of real vectors within that of some generated one; what lies at the radius is within.

    Raises:
        UserError: the vectors' lengths differ.
    """
    comparable("precision and recall", 1, real.vectors, generated.vectors)
    precise = np.zeros(len(generated.vectors), bool)
    recalled = np.zeros(len(real.vectors), bool)
    for rows, columns, distances in _squared_distances(real.vectors, generated.vectors):
        precise[columns] |= (distances <= real.squared_radii[rows, None]).any(axis=0)
        recalled[rows] |= (distances <= generated.squared_radii[columns]).any(axis=1)
    return float(precise.mean()), float(recalled.mean())


def comparable(what: str, least: int, *sets: np.ndarray) -> None:
    """Refuse sets of vectors of which one is too small for what is computed, not finite, or of another length."""
    for vectors in sets:
        if len(vectors) < least:
            raise UserError(f"{what} needs at least {least} pictures in each set, and one has {len(vectors)}")
    if len({vectors.shape[1] for vectors in sets}) > 1:
        lengths = " and of ".join(str(vectors.shape[1]) for vectors in sets)
        raise UserError(f"features of {lengths} numbers cannot be compared")
    check_finite(*sets)
