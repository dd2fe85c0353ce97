"""Packed models: small files that paint nearly the same pictures."""

import numpy as np
from common import refuses
from PIL import Image
from reference_cases import write_model

import app
from model.data.palettes import class_names
from model.data.sample import make_scene
from model.options import OPT
from model.serving.painter import Painter
from model.serving.painting import SCENES
from model.serving.synthesizer import Synthesizer
from model.weights.files import read_packed, write_packed
from tools import pack_model


def test_round_trip_in_half_precision(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.standard_normal((5, 4, 3, 3)).astype(np.float32) * np.logspace(-3, 3, 5)[:, None, None, None],
        "b": np.zeros((3, 7), np.float32), "n": np.arange(3),
    }  # fmt: skip
    size = write_packed(tmp_path / "model.npz", {"n_g": arrays})
    assert size == (tmp_path / "model.npz").stat().st_size and list(tmp_path.iterdir()) == [tmp_path / "model.npz"]
    back = read_packed(tmp_path / "model.npz")["n_g"]
    assert list(back) == list(arrays) and (back["b"] == 0).all() and (back["n"] == arrays["n"]).all()
    assert np.allclose(back["a"], arrays["a"], rtol=2**-11, atol=2**-25) and back["a"].dtype == np.float32


def test_what_cannot_be_packed_or_is_not_packed(tmp_path):
    for bad in (np.array([1, np.nan], np.float32), np.full((2, 2), 1e8, np.float32), np.full(2, 1e5, np.float32)):
        refuses("n_g/w holds numbers that are not finite", write_packed, tmp_path / "model.npz", {"n_g": {"w": bad}})
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / "other.npz", w=np.zeros(3))
    refuses("not of a packed model", read_packed, tmp_path / "other.npz")
    write_packed(tmp_path / "half.npz", {"n_e": {"w": np.zeros(3, np.float32)}})
    refuses("no generator", read_packed, tmp_path / "half.npz")


def test_packed_sample_model_paints_the_same(tmp_path, capsys):
    opt = OPT.from_preset("sample", ngf=4, crop_size=64, load_size=64)
    model = write_model(tmp_path / "model", opt)
    assert pack_model.main([str(model), str(tmp_path / "packed")]) == 0
    assert "no number moved by more than" in capsys.readouterr().out
    assert "python train.py --preset sample --seed 0 --ngf 4\n" in (tmp_path / "packed" / "README.md").read_text()
    whole = sum(path.stat().st_size for path in model.iterdir())
    assert (tmp_path / "packed" / "model.npz").stat().st_size < whole / 4

    before, after = (Synthesizer.load(tmp_path / folder, device="cpu") for folder in ("model", "packed"))
    names = class_names("sample", 182)
    classes = [[names.index(name) for name in row] for row in (("sky-other", "tree"), ("grass", "sea"))]
    ids = np.kron(classes, np.ones((32, 32), int))
    pictures = [np.asarray(synthesizer(ids, seed=1), int) for synthesizer in (before, after)]
    difference = np.abs(pictures[0] - pictures[1])
    assert np.median(difference) <= 1 < pictures[0].std()
    weights = Painter.load(tmp_path / "packed").G.state_dict()["head_0.norm_0.mlp_shared.0.weight"]
    assert not weights.numpy()[:, names.index("giraffe")].any()  # a class that the sample has not
    refuses("exists: move it away", pack_model.main, [str(tmp_path / "model"), str(tmp_path / "packed")])


def test_shipped_model_is_small_and_paints_scenes():
    assert sum(path.stat().st_size for path in app.SAMPLE.iterdir()) <= 5e6
    synthesizer = Synthesizer.load(app.SAMPLE, device="cpu")
    photo, label, instance = make_scene(np.random.default_rng(SCENES[0]), synthesizer.size)
    picture = np.asarray(synthesizer(label, instance, style=Image.fromarray(photo)), float)
    assert ((picture - photo) ** 2).mean() < 0.5 * photo.var()  # much nearer than any picture of one colour
