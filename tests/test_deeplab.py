import hashlib
import os

import numpy as np
import paddle
import pytest
from common import PARITY, ROUNDING

from model.judges.deeplab import DeepLabV2, _shrink, network_input
from model.metrics import predictors
from model.metrics.predictors import DeepLabPredictor, class_maps
from model.weights.made_up import made_up_weights

DATA = os.path.join(os.path.dirname(__file__), "data")


@pytest.fixture(scope="module")
def net():
    return made_up_weights(DeepLabV2(), gain=1.0)


def small_input():
    """RGB uint8 [1, 65, 81, 3]; the reference draws BGR."""
    return np.random.default_rng(0).integers(0, 256, (65, 81, 3), dtype=np.uint8)[None, ..., ::-1]


def large_input():
    """RGB uint8 [1, 209, 217, 3] of blocks and noise: large enough for the ASPP's rates and the fusion of scales."""
    rng = np.random.default_rng(10)
    blocks = np.kron(rng.integers(0, 256, (30, 31, 3)), np.ones((7, 7, 1), int))[:209]
    return ((3 * blocks + rng.integers(0, 256, blocks.shape)) // 4).astype(np.uint8)[None, ..., ::-1]


def test_keys_are_the_official_ones(net):
    entries = net.state_dict()
    listing = "\n".join(f"{name} {list(entry.shape)}" for name, entry in entries.items())
    assert len(entries) == 632
    assert hashlib.sha256(listing.encode()).hexdigest().startswith("4703a5884fae2830c43cf819ce960e35")
    assert float(entries["base.layer1.conv1.conv.weight"].sum()) == pytest.approx(4.194595629878677, abs=PARITY)


@pytest.mark.parametrize("legacy", [False, True], ids=["by_scale", "by_size"])
@pytest.mark.parametrize(
    "picture, golden, tolerance",
    [
        (small_input, "eval_deeplab.npz", 5e-3),
        (large_input, "eval_deeplab_large.npz", 1e-2),
    ],
    ids=["small", "large"],
)
def test_logits_and_classes_are_the_references(net, monkeypatch, picture, golden, tolerance, legacy):
    golden = np.load(os.path.join(DATA, golden))
    suffix = "_legacy" if legacy else ""
    monkeypatch.setattr(net, "legacy", legacy)
    pictures = picture()
    logits = DeepLabPredictor(net, "made-up")(pictures)
    np.testing.assert_allclose(logits[:, ::8], golden["logits" + suffix], rtol=0, atol=tolerance)
    classes = class_maps(logits, pictures.shape[1:3])[0]
    sure = ~golden["close" + suffix]
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(classes[sure], golden["argmax" + suffix][sure])


def test_input_is_bgr_minus_the_mean():
    x = network_input(np.array([[[[10, 20, 30]]]], np.uint8))
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[0, :, 0, 0], [30 - 104.008, 20 - 116.669, 10 - 122.675], atol=ROUNDING)


def test_the_two_samplings_agree_where_sizes_are_whole():
    x = paddle.to_tensor(np.random.default_rng(0).random((1, 2, 16, 24), np.float32))
    for scale in (0.5, 0.75):
        by_scale, by_size = _shrink(x, scale, legacy=False).numpy(), _shrink(x, scale, legacy=True).numpy()
        np.testing.assert_allclose(by_scale, by_size, atol=ROUNDING / 10)
    odd = x[:, :, :15, :23]
    assert np.abs(_shrink(odd, 0.75, False).numpy() - _shrink(odd, 0.75, True).numpy()).max() > 1e-2
    assert _shrink(odd, 0.75, False).shape == [1, 2, 11, 17]


def test_sampling_by_scale_is_paddles_bilinear():
    x = paddle.to_tensor(np.random.default_rng(0).random((1, 2, 15, 23), np.float32))
    for scale in (0.5, 0.75):
        want = paddle.nn.functional.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False).numpy()
        np.testing.assert_allclose(_shrink(x, scale, legacy=False).numpy(), want, atol=ROUNDING)


@pytest.mark.slow
def test_inference_engine_gives_the_same_logits(net):
    predictor = DeepLabPredictor(net, "made-up")
    plain = predictor(small_input())
    predictor.expect(predictors._ENGINE_FROM)
    assert "forward" in vars(net.base)
    np.testing.assert_allclose(predictor(small_input()), plain, rtol=0, atol=5e-3)
    del net.base.forward  # other tests have the network too
