"""The Frechet distance, its statistics and their cache, and the Inception."""

import hashlib
import os

import numpy as np
import paddle
import pytest
from common import DOUBLE, DOUBLE_SUMS, GRADIENT, PARITY, ROUNDING, close, refuses, rewrite_zip
from PIL import Image

from model.judges.inception import FIDInception
from model.metrics import fid as fid_module
from model.metrics.fid import (
    FeatureExtractor,
    FeatureStatistics,
    cheap_fid,
    fid,
    file_statistics,
    frechet_distance,
    image_statistics,
)
from model.metrics.images import Cache
from model.weights.made_up import made_up_weights

DATA = os.path.join(os.path.dirname(__file__), "data")


class Means(paddle.nn.Layer):
    """A quick stand-in for the Inception: three channel means and three of squares."""

    def forward(self, x):
        return paddle.concat([x.mean(axis=[2, 3]), (x * x).mean(axis=[2, 3])], axis=1)


@pytest.fixture
def extractor():
    return FeatureExtractor(Means(), "test", features=6)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(9):
        picture = rng.integers(0, 256, (10 + i % 2, 12, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.glob("*.png"))


def reference_sets():
    """The feature sets that the reference distances were computed of."""
    rng = np.random.default_rng(3)
    a = rng.standard_normal((50, 64))
    b = 1.2 * rng.standard_normal((60, 64)) + 0.5
    c, e = rng.standard_normal((10, 64)), rng.standard_normal((300, 64))
    return {"a": a, "b": b, "c": c, "e": e, "f": 0.8 * rng.standard_normal((400, 64)) - 0.3}


# ---- the distance ----


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_shifted_gaussians_are_the_closed_form_apart(shift):
    cov = np.diag([1.0, 4.0, 0.0])
    moved = frechet_distance(np.zeros(3), cov, np.full(3, shift), cov)
    assert moved == pytest.approx(3 * shift**2, abs=DOUBLE)


def test_scaled_gaussians_are_the_closed_form_apart():
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.0])
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    first, second = (rotation @ np.diag(v) @ rotation.T for v in (a, b))
    got = frechet_distance(np.zeros(3), first, np.zeros(3), second)
    assert got == pytest.approx(((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), abs=DOUBLE)


@pytest.mark.parametrize("count", [2, 10, 63, 65, 500])
def test_a_set_is_zero_from_itself_at_any_rank(count):
    features = np.random.default_rng(1).standard_normal((count, 64))
    assert fid(FeatureStatistics(features), FeatureStatistics(features)) == pytest.approx(0, abs=DOUBLE_SUMS)
    cov = np.cov(features, rowvar=False)
    assert frechet_distance(features.mean(0), cov, features.mean(0), cov) == pytest.approx(0, abs=DOUBLE_SUMS)


@pytest.mark.parametrize(
    "pair, with_root, exact, tolerance",
    [
        ("ab", 67.54566106403102, 67.54566155219949, 1e-4),
        ("cb", 128.4248072604786, 128.42480953174777, 1e-4),
        ("cc", -3.854816824855334e-06, 0.0, 1e-4),
        ("ef", 13.585814459888809, 13.585814459888837, 1e-9),
    ],
)
def test_reference_distances_hold(pair, with_root, exact, tolerance):
    sets = reference_sets()
    first, second = (sets[name] for name in pair)
    means_and_covariances = [part for s in (first, second) for part in (s.mean(0), np.cov(s, rowvar=False))]
    for got in (frechet_distance(*means_and_covariances), fid(FeatureStatistics(first), FeatureStatistics(second))):
        assert got == pytest.approx(with_root, abs=tolerance)
        assert got == pytest.approx(exact, abs=DOUBLE_SUMS)


def test_what_cannot_be_compared_is_refused():
    one = FeatureStatistics(np.ones((1, 2)))
    refuses("at least 2 pictures in each set, and one has 1", fid, one, one)
    refuses("do not belong together", frechet_distance, np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))
    refuses("not all finite", frechet_distance, np.zeros(2), np.eye(2) * np.nan, np.zeros(2), np.eye(2))
    broken = FeatureStatistics(np.array([[1.0, np.inf], [0.0, 1.0]]))
    refuses("not all finite", fid, broken, broken)


# ---- the statistics ----


@pytest.mark.parametrize("count", [2, 101])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_statistics_are_numpys(offset, count, monkeypatch):
    monkeypatch.setattr("model.metrics.fid._BLOCK", 30)
    features = np.random.default_rng(2).standard_normal((count, 5)) + offset
    statistics = FeatureStatistics(features)
    assert statistics.count == count
    np.testing.assert_allclose(statistics.mean, features.mean(0), rtol=DOUBLE)
    for covariance in (statistics.covariance, statistics.root @ statistics.root.T):
        np.testing.assert_allclose(covariance, np.cov(features, rowvar=False), rtol=0, atol=1e-8)


def test_file_statistics_do_not_depend_on_batches_and_sizes(folder, extractor):
    one = file_statistics(folder, extractor, batch_size=1, progress=False)
    many = file_statistics(folder, extractor, batch_size=4, progress=False)
    assert one.count == many.count == 9
    np.testing.assert_allclose(one.mean, many.mean, rtol=ROUNDING / 10)
    np.testing.assert_allclose(one.covariance, many.covariance, rtol=GRADIENT, atol=DOUBLE_SUMS)


def test_images_in_memory_count_as_the_files_that_they_would_become(folder, extractor):
    pictures = np.stack([np.asarray(Image.open(path)) for path in folder[::2]])
    images = pictures.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    broken = image_statistics([np.full((1, 3, 2, 2), np.nan, np.float32)], extractor)
    assert not broken.vectors.any()  # as `save_image` would write it
    reference = file_statistics(folder[::2], extractor, progress=False)
    assert cheap_fid([images[:2], images[2:]], reference, extractor) == pytest.approx(0, abs=DOUBLE_SUMS)
    assert cheap_fid([pictures], reference, extractor) == pytest.approx(0, abs=DOUBLE_SUMS)
    assert cheap_fid([0.5 * images], reference, extractor) > 1e-3


def test_cache_serves_the_same_files_only(folder, extractor, tmp_path, monkeypatch):
    cache = tmp_path / "cache"

    def statistics(paths=folder, **options):
        return file_statistics(paths, extractor, cache_dir=cache, progress=False, **options)

    first = statistics()
    calls = []
    monkeypatch.setattr(extractor, "net", lambda x: calls.append(1) or Means()(x))
    again = statistics()
    assert not calls
    np.testing.assert_array_equal(first.mean, again.mean)
    statistics(size=(8, 8))
    assert len(calls) == 1  # nine pictures in one batch
    statistics(folder[:-1])
    assert len(calls) == 3  # two sizes
    os.utime(folder[0], (1, 1))
    statistics()
    assert len(calls) == 5
    extractor.weights_sha256 = "another"
    statistics()
    assert len(calls) == 7
    assert len(list(cache.iterdir())) == 5  # and no temporary file


def test_cache_keeps_the_sets_that_were_used_last(folder, extractor, tmp_path, monkeypatch):
    monkeypatch.setattr("model.metrics.images._CACHED_SETS", 2)
    cache = tmp_path / "cache"
    for age, size in enumerate([(8, 8), (9, 9), (8, 8), (10, 10)]):
        for path in cache.glob("*"):
            os.utime(path, (path.stat().st_atime - 10, path.stat().st_mtime - 10))
        file_statistics(folder, extractor, size=size, cache_dir=cache, progress=False)
        assert len(list(cache.iterdir())) == min(age + 1, 2)
    calls = []
    monkeypatch.setattr(extractor, "net", lambda x: calls.append(1) or Means()(x))
    file_statistics(folder, extractor, size=(8, 8), cache_dir=cache, progress=False)
    assert not calls  # (9, 9) went


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no zip"),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: rewrite_zip(path, lambda content: content.replace(b"}", b"(")),  # NumPy's reader has a TokenError
        lambda path: np.savez(path, count=9, mean=np.zeros(6), scatter=np.eye(6)),  # as an earlier version wrote it
        lambda path: np.savez(path, vectors=np.zeros((9, 5), np.float32)),
    ],
)
def test_a_cache_that_is_damaged_or_of_another_kind_is_computed_again(folder, extractor, tmp_path, damage):
    cache = tmp_path / "cache"
    first = file_statistics(folder, extractor, cache_dir=cache, progress=False)
    (path,) = cache.iterdir()
    damage(path)
    again = file_statistics(folder, extractor, cache_dir=cache, progress=False)
    np.testing.assert_array_equal(first.mean, again.mean)
    assert np.load(path)["vectors"].shape == (9, 6)


def test_cache_of_large_files_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("model.metrics.images._CACHED_BYTES", 600)
    for i in range(6):
        cache = Cache(tmp_path, "fid", i)
        cache.save({"x": np.zeros(1)})
        os.utime(cache.path, (i, i))
    assert len(list(tmp_path.iterdir())) == 3


# ---- the network ----


def reference_inputs():
    rng = np.random.default_rng(2)
    blocks = np.kron(rng.random((2, 3, 8, 10)), np.ones((8, 8)))
    small = (0.7 * blocks + 0.3 * rng.random((2, 3, 64, 80))).astype(np.float32)
    rng = np.random.default_rng(20)
    blocks = np.kron(rng.random((1, 3, 5, 50)), np.ones((8, 8)))
    return small, (0.7 * blocks + 0.3 * rng.random((1, 3, 40, 400))).astype(np.float32)


@pytest.fixture(scope="module")
def inception():
    return made_up_weights(FIDInception(), gain=3.0)


def test_inception_keys_are_the_official_ones(inception):
    linear = {"fc.weight"}
    entries = [(name, list(t.shape)[:: -1 if name in linear else 1]) for name, t in inception.state_dict().items()]
    listing = "\n".join(f"{name} {shape}" for name, shape in entries)
    assert len(entries) == 566
    assert hashlib.sha256(listing.encode()).hexdigest().startswith("8ca497103391675d239b6cbe936a0809")
    assert float(inception.fc.weight.sum()) == pytest.approx(-28.45673861352298, abs=1e-2)


def test_inception_features_are_the_references(inception):
    golden = np.load(os.path.join(DATA, "eval_inception.npz"))
    small, wide = (paddle.to_tensor(x) for x in reference_inputs())
    with paddle.no_grad():
        blocks = inception.blocks(inception.prepare(small))
        for i in range(3):
            means = blocks[i].mean(axis=[2, 3]).numpy()
            close(means, golden[f"block{i}_mean"], PARITY)
        features = blocks[3].mean(axis=[2, 3]).numpy()
        close(features, golden["features"], PARITY)
        close(inception(wide).numpy(), golden["features_wide"], PARITY)


@pytest.mark.slow
def test_inference_engine_gives_the_same_features(inception):
    extractor = FeatureExtractor(inception, "made-up")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), dtype=np.uint8)
    plain = extractor(pictures)
    extractor.expect(1)
    assert "last_block" not in vars(inception)
    extractor.expect(fid_module._ENGINE_FROM)
    assert "last_block" in vars(inception)
    close(extractor(pictures), plain, PARITY)
    del inception.last_block  # other tests have the network too


def test_image_statistics_of_nothing_is_refused(extractor):
    refuses("at least 2 pictures", fid, image_statistics([], extractor), image_statistics([], extractor))
