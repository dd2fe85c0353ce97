"""KID, improved precision and recall: closed forms and scikit-learn's numbers."""

import numpy as np
import pytest
from common import DOUBLE, DOUBLE_SUMS, GRADIENT, refuses
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from model.metrics import samples
from model.metrics.samples import Manifold, kid, precision_recall, squared_mmd


@pytest.fixture(params=[None, 40], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """The matrices between sets whole, and in pieces of at most so many numbers."""
    if request.param:
        monkeypatch.setattr(samples, "_BLOCK", request.param)


def sets(m=23, n=31, d=6, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, d)).astype(dtype), (0.8 * rng.standard_normal((n, d)) + 0.3).astype(dtype)


def pr(real, generated, k=3):
    return precision_recall(*(Manifold.of(np.asarray(points, np.float64), k) for points in (real, generated)))


# ---- KID ----


def test_mmd_of_two_points_each_is_the_closed_form():
    """d = 1: k(a, b) = (ab + 1)^3; of {0, 1} and {0, 2}: k(0, 1) + k(0, 2) - (1 + 1 + 1 + 27) / 2."""
    x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0]])
    assert squared_mmd(x, y) == pytest.approx(1 + 1 - 2 * (1 + 1 + 1 + 27) / 4, abs=DOUBLE)


def test_mmd_of_equal_distributions_has_mean_zero():
    """It has no bias: the mean of many small sets' values is 0 within its error, though each set's own is not."""
    values = []
    rng = np.random.default_rng(0)
    for _ in range(2000):
        values.append(squared_mmd(rng.standard_normal((5, 4)), rng.standard_normal((7, 4))))
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0 < max(values)


def test_kid_is_scikit_learns(blocks):
    x, y = sets(60, 50, 16)
    draw, values = np.random.RandomState(5), []
    for _ in range(7):
        a, b = (z[draw.choice(len(z), 20, replace=False)].astype(np.float64) for z in (x, y))
        own = [polynomial_kernel(z, degree=3, gamma=1 / 16, coef0=1) for z in (a, b)]
        own = [(k.sum() - np.trace(k)) / (20 * 19) for k in own]
        values.append(sum(own) - 2 * polynomial_kernel(a, b, degree=3, gamma=1 / 16, coef0=1).mean())
    np.testing.assert_allclose(kid(x, y, 20, 7, seed=5), (np.mean(values), np.std(values)), rtol=DOUBLE_SUMS)


def test_kid_depends_on_the_seed_alone(monkeypatch):
    x, y = sets(60, 50)
    first = kid(x, y, 20, 5, seed=1)
    np.random.seed(3)
    assert kid(x, y, 20, 5, seed=1) == first != kid(x, y, 20, 5, seed=2)
    monkeypatch.setattr(samples, "_BLOCK", 40)
    assert kid(x, y, 20, 5, seed=1) == pytest.approx(first, rel=DOUBLE_SUMS)


def test_subsets_hold_no_more_than_the_smaller_set():
    x, y = sets(20, 20)
    mean, std = kid(x, y, subset_size=1000, subsets=3)
    assert (mean, std) == (pytest.approx(squared_mmd(x, y), rel=DOUBLE), pytest.approx(0, abs=DOUBLE))
    assert kid(x, y[:9], subset_size=1000, subsets=3) == kid(x, y[:9], subset_size=9, subsets=3)


# ---- precision and recall ----


def test_precision_and_recall_on_a_line():
    """With k = 1 the real points 0, 1, 5, 7 reach 1, 1, 2, 2 far; the generated 1.5, 2.5, 20, 21 reach 1 far."""
    assert pr([[0], [1], [5], [7]], [[1.5], [2.5], [20], [21]], k=1) == (1 / 4, 1 / 4)  # 1.5 near 1; 1 near 1.5
    assert pr([[0], [1], [5], [7]], [[2], [3], [9], [9.5]], k=1) == (3 / 4, 1 / 4)  # the radius itself is within
    # With k = 3 their radii are 7, 6, 5, 7, and 18.5, 17.5, 19.5 and 19.5 of the first generated ones.
    assert pr([[0], [1], [5], [7]], [[1.5], [2.5], [14], [14.5]], k=3) == (3 / 4, 1)


def test_precision_and_recall_in_the_plane(blocks):
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert pr(square, square + 100) == (0, 0)
    assert pr(square, square, k=1) == (1, 1)
    # One mode of two: all that is generated is real, half of what is real is generated.
    assert pr(np.concatenate([square, square + 100]), np.concatenate([square, square + 0.1]), k=3) == (1, 0.5)
    assert pr(np.concatenate([square, square + 0.1]), np.concatenate([square, square + 100]), k=3) == (0.5, 1)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_copies_are_at_distance_zero(scale, blocks):
    """Radii of copies are 0: rounding may not make a copy lie outside, nor another point inside."""
    points = scale * np.random.default_rng(0).random((6, 33)).astype(np.float32)
    real = np.repeat(points, 4, axis=0)
    assert pr(real, real[::-1]) == (1, 1)
    assert pr(real, np.repeat(points[:3], 4, axis=0)) == (1, 0.5)
    assert not Manifold.of(real).squared_radii.any()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_are_scikit_learns(k, blocks):
    x, y = sets(60, 50, 16)
    radii = [NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(z).kneighbors(z)[0][:, -1] for z in (x, y)]
    distances = NearestNeighbors(n_neighbors=len(x), algorithm="brute").fit(x).kneighbors_graph(y, mode="distance")
    distances = distances.toarray()  # [generated, real]
    want = (distances <= radii[0]).any(axis=1).mean(), (distances <= radii[1][:, None]).any(axis=0).mean()
    np.testing.assert_allclose(Manifold.of(x, k).squared_radii, radii[0] ** 2, rtol=GRADIENT)
    assert pr(x, y, k) == want
    assert 0 < want[0] < 1 or 0 < want[1] < 1


# ---- both ----


@pytest.mark.parametrize("rows", [1, 7])
def test_no_more_than_a_block_is_in_memory(rows, monkeypatch):
    monkeypatch.setattr(samples, "_BLOCK", 6 * rows)
    x, y = sets()
    seen = np.zeros((len(x), len(y)), int)
    for i, j, block in samples._products(x, y):
        assert block.size <= 6 * rows and block.dtype == np.float64
        np.testing.assert_allclose(block, x[i].astype(float) @ y[j].T.astype(float), rtol=DOUBLE)
        seen[i, j] += 1
    assert (seen == 1).all()


def test_what_cannot_be_scored_is_told():
    x, y = sets()
    refuses("KID needs at least 2 pictures in each set, and one has 1", kid, x, y[:1])
    refuses("with k = 3 needs at least 4 pictures in each set, and one has 3", Manifold.of, x[:3])
    refuses("of 6 and of 5 numbers", kid, x, y[:, :5])
    refuses("of 6 and of 5 numbers", precision_recall, Manifold.of(x), Manifold.of(y[:, :5]))
    y[3, 2] = np.inf
    for score in (lambda: kid(x, y), lambda: Manifold.of(y)):
        refuses("not all finite", score)
