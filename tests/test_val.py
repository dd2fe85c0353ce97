"""val.py: pictures of a split from a checkpoint alone, their styles, and what is refused."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_train import TINY, write_data

import train
import val
from model.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data and a run of one epoch, of 3 steps."""
    folder = tmp_path_factory.mktemp("trained")
    write_data(folder / "data")
    before = os.getcwd()
    os.chdir(folder)
    try:
        train.main([*TINY, "--max_steps", "3", "--nThreads", "0", "--display_freq", "0"])
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch, capsys):
    """A function that runs val.py's main in the trained folder, with results in tmp_path; returns its stdout."""
    monkeypatch.chdir(trained)

    def call(*options):
        capsys.readouterr()
        assert val.main(["--results_dir", str(tmp_path / "out"), "--nThreads", "0", *map(str, options)]) == 0
        return capsys.readouterr().out

    return call


def pictures(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_needs_no_options(trained):
    done = subprocess.run([sys.executable, ROOT / "val.py"], cwd=trained, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = pictures(trained / "output_val" / "pics")
    assert list(found) == ["val0.jpg", "val1.jpg", "val2.jpg"]
    assert all(picture.shape == (64, 64, 3) for picture in found.values())
    assert "wrote 3 pictures to output_val/pics" in done.stdout
    assert "with output/model/step_00000003/n_g.pdparams (step 3)" in done.stdout and "style      photo" in done.stdout


def test_panels_and_how_many(run, tmp_path):
    run("--panels", "--how_many", 2, "--batchSize", 2)
    assert list(pictures(tmp_path / "out" / "panels")) == ["val0.jpg", "val1.jpg"]
    # label map, picture and photo, each enlarged to 128, the legend of 130, and gaps
    assert pictures(tmp_path / "out" / "panels")["val0.jpg"].shape == (128 + 8 + 18, 3 * 132 + 130 + 8, 3)


def test_batch_size_changes_nothing(run, tmp_path):
    run("--style", "random", "--results_dir", tmp_path / "one")
    run("--style", "random", "--results_dir", tmp_path / "three", "--batchSize", 3)
    one, three = pictures(tmp_path / "one" / "pics"), pictures(tmp_path / "three" / "pics")
    assert all(np.abs(one[name].astype(int) - three[name]).max() <= 2 for name in one)


def test_seeds_and_steps(run, tmp_path, trained):
    from model.inference import Painter

    painter = Painter.load(trained / "output")
    first, again, other = painter.noise(1, [0, 1]), painter.noise(1, [1]), painter.noise(2, [0])
    assert (first[1] == again[0]).all() and (first[0] != other[0]).all()
    run("--style_steps", 3, "--how_many", 1)
    assert list(pictures(tmp_path / "out" / "pics")) == [f"val0_style0{k}.jpg" for k in range(3)]


def test_style_image_and_interpolation(run, tmp_path, monkeypatch):
    from model import inference

    seen = []
    paint = inference.Painter.paint
    monkeypatch.setattr(inference.Painter, "paint", lambda self, batch, z: seen.append(z) or paint(self, batch, z))
    run("--how_many", 1)
    run("--how_many", 1, "--style_image", "data/val_img/val0.jpg")
    run(
        "--how_many",
        1,
        "--style_image",
        "data/val_img/val0.jpg",
        "--style_image2",
        "data/val_img/val1.jpg",
        "--style_steps",
        3,
    )
    own, given, start, middle, end = seen
    np.testing.assert_allclose(given, start)
    np.testing.assert_allclose(middle, (start + end) / 2, rtol=1e-5)
    assert np.abs(start - end).max() > 0 and own.shape == given.shape


def test_style_ends():
    from model.inference import arc, line

    rng = np.random.default_rng(0)
    start, end = rng.standard_normal((2, 4, 64)).astype(np.float32)
    for way in (arc, line):
        z = way(start, end, 5)
        assert len(z) == 5 and z[0].dtype == np.float32
        np.testing.assert_allclose(z[0], start, atol=1e-5)
        np.testing.assert_allclose(z[-1], end, atol=1e-5)
    lengths = [np.linalg.norm(z, axis=1) for z in arc(start, start[:, ::-1], 3)]
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-4)  # as long in the middle as at both ends
    np.testing.assert_allclose(arc(start, start, 3)[1], start)


def test_labels_alone(run, tmp_path, trained):
    for kind in ("label", "inst"):
        shutil.copytree(trained / "data" / f"val_{kind}", tmp_path / "alone" / f"val_{kind}")
    out = run("--dataroot", tmp_path / "alone", "--panels")
    assert "style      random" in out and len(pictures(tmp_path / "out" / "pics")) == 3
    with pytest.raises(UserError, match="label maps alone"):
        run("--dataroot", tmp_path / "alone", "--style", "photo")
    with pytest.raises(UserError, match="label maps alone"):
        run("--dataroot", tmp_path / "alone", "--metrics", "fid")


def test_training_split_is_read_as_for_validation(run, tmp_path, trained):
    run("--phase", "train", "--panels")
    assert list(pictures(tmp_path / "out" / "pics")) == ["train0.jpg", "train1.jpg", "train2.jpg"]
    photo = Image.open(trained / "data/train_img/train0.jpg").resize((64, 64), Image.Resampling.BICUBIC)
    panel = pictures(tmp_path / "out" / "panels")["train0.jpg"].astype(int)
    shown = panel[22 : 22 + 128 : 2, 4 + 2 * 132 : 4 + 2 * 132 + 128 : 2]
    assert np.abs(shown - np.asarray(photo)).mean() < 12  # twice through JPEG; a flip or a crop would give 70


@pytest.mark.parametrize(
    "path",
    [
        "output",
        "output/model",
        "output/model/latest",
        "output/model/step_00000003",
        "output/model/n_g.pdparams",
        "output/model/step_00000003/n_g.pdparams",
    ],
)
def test_checkpoint_paths(trained, monkeypatch, path):
    from model.inference import Painter

    monkeypatch.chdir(trained)
    painter = Painter.load(path)
    assert painter.step == 3 and painter.E is not None and not painter.G.training


def test_epochs_and_best(trained, monkeypatch):
    from model.inference import Painter

    monkeypatch.chdir(trained)
    assert Painter.load("output", "1").step == 3
    with pytest.raises(UserError, match="no checkpoint of epoch 7: there are latest, and of epochs: 1"):
        Painter.load("output/model", "7")
    with pytest.raises(UserError, match="no checkpoint of best"):
        Painter.load("output/model", "best")


def test_weights_alone(run, tmp_path, trained):
    """n_g.pdparams with its opt.yaml, and nothing else: pictures, but no photo's style."""
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(trained / "output/model/n_g.pdparams", alone)
    with pytest.raises(UserError, match="no opt.yaml beside it"):
        run("--checkpoint", alone / "n_g.pdparams")
    shutil.copy(trained / "output/opt.yaml", alone)
    assert "style      random" in run("--checkpoint", alone / "n_g.pdparams")
    assert "style      mean" in run("--checkpoint", alone, "--style", "mean")
    with pytest.raises(UserError, match="no n_e.pdparams beside"):
        run("--checkpoint", alone, "--style_image", "data/val_img/val0.jpg")
    shutil.copy(trained / "output/model/n_e.pdparams", alone)
    assert "style      photo" in run("--checkpoint", alone)


def test_a_strangers_file_runs_nothing(run, tmp_path, trained):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was_run"),)

    (tmp_path / "n_g.pdparams").write_bytes(pickle.dumps(Payload()))
    shutil.copy(trained / "output/opt.yaml", tmp_path)
    with pytest.raises(UserError, match="nothing of it was run"):
        run("--checkpoint", tmp_path / "n_g.pdparams")
    assert not (tmp_path / "was_run").exists()


def test_what_is_missing_is_told(run, tmp_path, trained):
    with pytest.raises(UserError, match="train first"):
        run("--checkpoint", tmp_path / "nothing")
    with pytest.raises(UserError, match="training split instead: --phase train"):
        run("--dataroot", tmp_path)
    (tmp_path / "out" / "pics").mkdir(parents=True)
    (tmp_path / "out" / "pics" / "other.jpg").touch()
    with pytest.raises(UserError, match="pictures of other runs"):
        run("--metrics", "fid")
    with pytest.raises(UserError, match="exclude each other"):
        run("--metrics", "fid", "--style_steps", 2)


def test_metrics(run, tmp_path, monkeypatch):
    from model.metrics.fid import FeatureExtractor

    class Thumbnail:
        def __call__(self, x):
            return x.mean([2, 3])

    monkeypatch.setattr("model.metrics.report.load_extractor", lambda: FeatureExtractor(Thumbnail(), "0" * 64, 3))
    out = run("--metrics", "fid")
    assert "metrics.md" in out and (tmp_path / "out" / "metrics.json").exists()
