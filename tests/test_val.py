"""val.py: pictures of a split from a checkpoint alone, their styles, and what is refused."""

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from common import GRADIENT, ROOT, ROUNDING, Call, close, python, refuses, same
from PIL import Image
from test_film import frames
from test_train import TINY, Thumbnail, write_data

import train
import val
from model.metrics.fid import FeatureExtractor
from model.options import OPT
from model.serving.export import export
from model.serving.painter import Painter
from model.serving.styles import on_arc, on_line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data and a run of one epoch, of 3 steps."""
    folder = tmp_path_factory.mktemp("trained")
    write_data(folder / "data")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        train.main([*TINY, "--max_steps", "3", "--nThreads", "0", "--display_freq", "0"])
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch, main):
    """A function that runs val.py's main in the trained folder, with results in tmp_path; returns its stdout."""
    monkeypatch.chdir(trained)
    return lambda *options: main(val, "--results_dir", tmp_path / "out", "--nThreads", 0, *options)


def pictures(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_needs_no_options(trained):
    done = python(ROOT / "val.py", cwd=trained)
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


def test_spread_takes_pictures_of_the_whole_split(run, tmp_path):
    assert "wrote 1 pictures" in run("--spread", 1, "--label_dir", "data/val_label")
    done = run("--spread", 2, "--results_dir", tmp_path / "two", "--panels")
    assert "label maps 2, val split" in done and list(pictures(tmp_path / "two/panels")) == ["val0.jpg", "val1.jpg"]


def test_a_film_shows_the_pictures_in_one_style(run, tmp_path):
    told = run("--video", tmp_path / "film.mp4", "--fps", 4, "--format", "png")
    assert f"wrote {tmp_path / 'film.mp4'}: 3 pictures, 0.8 s" in told
    shown, fps = frames(tmp_path / "film.mp4")
    painted = list(pictures(tmp_path / "out" / "pics").values())
    assert fps == 4 and len(shown) == len(painted) == 3
    for a, b in zip(shown, painted, strict=True):
        assert np.abs(a.astype(int) - b).mean() < 20  # the codec's
    run("--style_image", "data/val_img/val0.jpg", "--results_dir", tmp_path / "one", "--format", "png")
    same(painted, list(pictures(tmp_path / "one" / "pics").values()))  # the first photo's style


def test_a_film_of_the_way_between_styles(run, tmp_path):
    run("--video", tmp_path / "way.mp4", "--how_many", 1, "--style_steps", 5)
    assert list(pictures(tmp_path / "out" / "pics")) == [f"val0_style0{k}.jpg" for k in range(5)]
    assert len(frames(tmp_path / "way.mp4")[0]) == 5


def test_batch_size_changes_nothing(run, tmp_path):
    run("--style", "random", "--results_dir", tmp_path / "one")
    run("--style", "random", "--results_dir", tmp_path / "three", "--batchSize", 3)
    one, three = pictures(tmp_path / "one" / "pics"), pictures(tmp_path / "three" / "pics")
    assert all(np.abs(one[name].astype(int) - three[name]).max() <= 2 for name in one)


def test_style_image_and_interpolation(run, monkeypatch):
    seen = []
    paint = Painter.paint
    monkeypatch.setattr(Painter, "paint", lambda self, batch, z: seen.append(z) or paint(self, batch, z))
    first, second = "--style_image data/val_img/val0.jpg", "--style_image2 data/val_img/val1.jpg --style_steps 3"
    for style in ("", first, f"{first} {second}"):
        run("--how_many", 1, *style.split())
    own, given, start, middle, end = seen
    np.testing.assert_allclose(given, start)
    np.testing.assert_allclose(middle, (start + end) / 2, rtol=ROUNDING)
    assert np.abs(start - end).max() > 0 and own.shape == given.shape


def test_ways_between_styles_begin_and_end_at_them():
    ends = np.random.default_rng(0).standard_normal((2, 4, 64)).astype(np.float32)
    for between in (on_arc, on_line):
        for share in (0, 1):
            close(between(*ends, share), ends[share], ROUNDING)


def test_an_arc_between_styles_keeps_their_length():
    one, two = np.random.default_rng(0).standard_normal((2, 256)).astype(np.float32)
    middle = on_arc(one, two, 0.5)
    assert np.allclose(middle @ one / np.linalg.norm(one), middle @ two / np.linalg.norm(two), rtol=0.1)
    assert np.linalg.norm(middle) == pytest.approx(np.linalg.norm(one), rel=0.05)
    assert np.allclose(on_arc(one, one, 0.3), one) and np.allclose(on_arc(one, 0 * one, 0.25), 0.75 * one)
    middle = on_arc(one[None], one[None, ::-1], 0.5)
    assert np.linalg.norm(middle) == pytest.approx(np.linalg.norm(one), rel=GRADIENT) and middle.dtype == np.float32


def test_labels_alone(run, tmp_path, trained):
    for kind in ("label", "inst"):
        shutil.copytree(trained / "data" / f"val_{kind}", tmp_path / "alone" / f"val_{kind}")
    out = run("--dataroot", tmp_path / "alone", "--panels")
    assert "style      random" in out and "instances  from maps" in out
    with_instances = pictures(tmp_path / "out" / "pics")
    assert len(with_instances) == 3
    # In this data set the label maps are the instance maps, so that nothing changes without the latter.
    shutil.rmtree(tmp_path / "alone" / "val_inst")
    for folder in (["--dataroot", tmp_path / "alone"], ["--label_dir", tmp_path / "alone" / "val_label"]):
        out = run(*folder, "--results_dir", tmp_path / folder[0])
        assert "instances  no maps: edges run where classes meet" in out and f"split of {folder[1]}" in out
        same(pictures(tmp_path / folder[0] / "pics"), with_instances)
    refuses("label maps alone", run, "--dataroot", tmp_path / "alone", "--style", "photo")
    refuses("label maps alone", run, "--dataroot", tmp_path / "alone", "--metrics", "fid")


def test_training_split_is_read_as_for_validation(run, tmp_path, trained):
    run("--phase", "train", "--panels")
    assert list(pictures(tmp_path / "out" / "pics")) == ["train0.jpg", "train1.jpg", "train2.jpg"]
    photo = Image.open(trained / "data/train_img/train0.jpg").resize((64, 64), Image.Resampling.BICUBIC)
    panel = pictures(tmp_path / "out" / "panels")["train0.jpg"].astype(int)
    shown = panel[22 : 22 + 128 : 2, 4 + 2 * 132 : 4 + 2 * 132 + 128 : 2]
    assert np.abs(shown - np.asarray(photo)).mean() < 12  # twice through JPEG; a flip or a crop would give 70


def test_checkpoints_by_path_and_epoch(trained, monkeypatch):
    monkeypatch.chdir(trained)
    step = "output/model/step_00000003"
    for path in ("output", "output/model", "output/model/latest", step, f"{step}/n_g.pdparams"):
        painter = Painter.load(path)
        assert painter.step == 3 and painter.E is not None and not painter.G.training
    assert Painter.load("output", "1").step == 3
    refuses("no checkpoint of epoch 7: there are latest, and of epochs: 1", Painter.load, "output/model", "7")
    refuses("no checkpoint of best", Painter.load, "output/model", "best")


@pytest.mark.parametrize("runtime", ["onnx", "paddle"])
def test_exported_model(run, tmp_path, trained, runtime):
    """What tools/export.py wrote paints the same pictures as its checkpoint, each in its photo's style."""
    if runtime == "onnx":
        pytest.importorskip("onnxruntime")
    exported = tmp_path / "exported"
    export(Painter.load("output"), exported, runtimes=[runtime], forms=["pattern"])
    run("--format", "png")
    out = run("--format", "png", "--checkpoint", exported, "--results_dir", tmp_path / "other")
    assert f"generator  {exported / 'generator_pattern'}" in out and "style      photo" in out
    ours, theirs = pictures(tmp_path / "out" / "pics"), pictures(tmp_path / "other" / "pics")
    assert list(ours) == list(theirs) and len(ours) == 3
    assert all(np.abs(ours[name].astype(int) - theirs[name]).max() <= 1 for name in ours)
    refuses("holds one set of weights: leave out best", run, "--checkpoint", exported, "--which_epoch", "best")
    options = exported / "opt.yaml"
    options.write_text(options.read_text().replace("label_nc: 6", "label_nc: 5"))
    refuses("opt.yaml and model.json beside it are of different models", run, "--checkpoint", exported)


@pytest.fixture
def alone(trained, tmp_path):
    """A function that copies networks, with the options, some of them changed, into a folder of their own."""

    def copy(*nets, **changes):
        folder = tmp_path / "alone"
        folder.mkdir()
        for net in nets:
            shutil.copy(trained / "output" / "model" / f"{net}.pdparams", folder)
        dataclasses.replace(OPT.load(trained / "output" / "opt.yaml"), **changes).save(folder / "opt.yaml")
        return folder

    return copy


def test_a_strangers_file_runs_nothing(run, alone, tmp_path):
    file = alone() / "n_g.pdparams"
    file.write_bytes(pickle.dumps(Call(os.mkdir, str(tmp_path / "was_run"))))
    refuses("nothing of it was run", run, "--checkpoint", file)
    assert not (tmp_path / "was_run").exists()


def test_a_generator_needs_its_options_and_for_photos_styles_the_encoder(run, alone, trained):
    folder = alone("n_g")
    assert "style      random" in run("--checkpoint", folder / "n_g.pdparams")
    assert "style      mean" in run("--checkpoint", folder, "--style", "mean")
    given = "--checkpoint", folder, "--style_image", "data/val_img/val0.jpg"
    refuses("needs the encoder, and there is none beside", run, *given)
    shutil.copy(trained / "output/model/n_e.pdparams", folder)
    assert "style      photo" in run("--checkpoint", folder)
    (folder / "opt.yaml").unlink()
    refuses("no opt.yaml beside it", run, "--checkpoint", folder / "n_g.pdparams")


def test_what_is_missing_is_told(run, tmp_path, trained):
    refuses("train first", run, "--checkpoint", tmp_path / "nothing")
    refuses("training split instead: --phase train", run, "--dataroot", tmp_path)
    (tmp_path / "style.jpg").write_text("none")
    refuses(r"^style image .*style\.jpg: ", run, "--style_image", tmp_path / "style.jpg")


def test_folders_of_files(run, tmp_path, trained):
    folders = []
    for kind, name in (("label", "label"), ("img", "image"), ("inst", "instance")):
        shutil.copytree(trained / "data" / f"val_{kind}", tmp_path / name)
        folders += [f"--{name}_dir", tmp_path / name]
    out = run(*folders)
    assert "style      photo" in out and "instances  from maps" in out
    named = pictures(tmp_path / "out" / "pics")
    out = run()
    assert "wrote 3 pictures" in out and "earlier runs" not in out
    same(pictures(tmp_path / "out" / "pics"), named)
    os.utime(tmp_path / "out" / "pics" / "val2.jpg", (0, 0))
    assert "(beside 1 files of earlier runs)" in run("--how_many", 2)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--image_dir", "data/val_img"], "go with label_dir, which is empty"),
        (["--dataroot", "data", "--label_dir", "data/val_label"], "exclude each other"),
        (["--label_dir", "nowhere"], "nowhere is not a folder: check --label_dir"),
        (["--dataroot", "typo"], "dataroot typo is not a folder"),
        (["--style_image", "nowhere.jpg"], r"^style image nowhere\.jpg: the file is not there"),
        (["--spread", "2", "--how_many", "2"], "exclude each other: the first so many, or evenly spread ones"),
        (["--video", "film.avi"], "video 'film.avi' is no .mp4 file"),
        (["--video", "film.mp4", "--how_many", "1"], "a film of one picture"),
        (["--video", "film.mp4", "--fps", "0"], "fps 0 is out of range"),
        (["--metrics", "fid", "--style_steps", "2"], "exclude each other"),
        (["--metrics", "kid,pr"], "metric pr needs at least 4 pictures in each set, and the val split has 3"),
        (["--metrics", "kit"], "'kit' is unknown: .*did you mean kid"),
        (["--other", "pics"], "give --metrics"),
        (["--metrics", "fid", "--seg_model", "a.onnx"], "give --metrics seg"),
        (["--metrics", "fid", "--other", "pics", "--other_name", "photos"], "other than generated and photos"),
        (["--metrics", "fid", "--other", "data/train_img"], "have no picture of other of the same name"),
        (["--metrics", "fid", "--other", "nowhere"], "nowhere is not a folder"),
        (["--metrics", "seg", "--seg_model", "nowhere.onnx"], "nowhere.onnx is not a file"),
    ],
)
def test_contradictions_are_refused_before_painting(run, judges, tmp_path, options, message):
    refuses(message, run, *options)
    assert not (tmp_path / "out").exists() and not Path("film.mp4").exists()


@pytest.mark.parametrize("metric, file", [("fid", "pt_inception-2015-12-05-6726825d.pth"), ("seg", "cocostuff164k")])
def test_missing_weights_are_told_before_painting(run, tmp_path, metric, file):
    refuses(f"{file}.* from https://", run, "--metrics", metric)
    assert not (tmp_path / "out").exists()


# ---- scores ----


class SixGreys:
    """A segmentation network of six classes, which are shades of red."""

    name, weights_sha256, protocol, classes = "six greys", "6" * 64, "as it is", 6

    def __call__(self, pictures):
        return pictures[..., 0].astype(np.int64) // 43


@pytest.fixture
def judges(monkeypatch):
    monkeypatch.setattr("model.metrics.validation.load_extractor", lambda: FeatureExtractor(Thumbnail(), "0" * 64, 3))
    monkeypatch.setattr("model.metrics.validation.load_deeplab", SixGreys)


def scores(out):
    return json.loads((out / "metrics.json").read_text())


def test_metrics_of_two_checkpoints_side_by_side(run, judges, tmp_path):
    out = tmp_path / "out"
    (out / "pics").mkdir(parents=True)
    for name in ("stranger.png", "val0.jpg"):  # of an earlier run: the one is not scored, the other replaced
        Image.new("RGB", (64, 64)).save(out / "pics" / name)
    said = run("--metrics", "fid,seg", "--sheets", 2, "--other", "output/model/step_00000003", "--other_name", "again")
    result = scores(out)
    assert list(result["rows"]) == ["generated", "again", "photos"]
    assert result["rows"]["generated"] == result["rows"]["again"] and "fid" not in result["rows"]["photos"]
    assert set(result["rows"]["generated"]) == {"fid", "pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou"}
    assert result["protocol"]["generated"]["generated"]["pictures"] == 3
    assert result["protocol"]["reference"]["folder"] == "data/val_img"
    assert result["protocol"]["segmentation"]["label_maps"] == "data/val_label"
    assert {path.name for path in (out / "pics").iterdir()} == {"stranger.png", "val0.png", "val1.png", "val2.png"}
    # label map, three pictures and the legend; two rows of pictures above segmentations
    size = 4 * (192 + 4) + 170 + 8, 2 * (2 * 192 + 2 + 4) + 4 + 18
    assert Image.open(out / "sheets" / "sheet_000.png").size == size
    assert "| again | " in (out / "metrics.md").read_text() and "comparison sheets are in" in said
    assert {path.parent.name for path in (out / "log").rglob("vdlrecords*")} == {"generated", "again", "photos"}


def test_another_implementations_pictures(run, judges, tmp_path):
    run("--metrics", "fid,seg", "--other", "data/val_img", "--sheets", 0, "--how_many", 2)
    rows = scores(tmp_path / "out")["rows"]
    run("--metrics", "kid", "--other", "data/val_img", "--how_many", 2)
    assert set(scores(tmp_path / "out")["rows"]["other"]) == {"kid", "kid_std"}
    assert rows["other"]["fid"] < 1e-9 < rows["generated"]["fid"]  # the photos themselves
    assert rows["other"]["fw_iou"] == rows["photos"]["fw_iou"]
    assert not (tmp_path / "out" / "sheets").exists()


def test_scores_of_cut_pictures_use_the_same_part_of_photo_and_map(run, judges, alone, tmp_path, trained):
    out = tmp_path / "out"
    folder = alone("n_g", "n_e", preprocess_mode="crop")
    run("--checkpoint", folder, "--metrics", "seg", "--how_many", 1)
    box = (8, 4, 72, 68)  # the middle of 80x72
    want = np.asarray(Image.open(trained / "data/val_label/val0.png").crop(box))
    got = np.asarray(Image.open(out / "label/val0.png"))
    np.testing.assert_array_equal(got, np.where(want == 255, 6, want))
    photo = np.asarray(Image.open(trained / "data/val_img/val0.jpg").crop(box))
    np.testing.assert_array_equal(np.asarray(Image.open(out / "photo/val0.png")), photo)
    reds = photo[..., 0] // 43
    share = (reds == want)[want != 255].mean()
    assert scores(out)["rows"]["photos"]["pixel_accuracy"] == pytest.approx(share)


def test_scores_of_coloured_label_maps(run, judges, alone, tmp_path, trained):
    """The checkpoint's palette turns colours into ids, for the scores and their names too."""
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(trained / "data", data)
    colours = {i: (40 * i, 7, 9) for i in range(6)} | {255: (1, 2, 3)}
    (tmp_path / "palette.txt").write_text("".join(f"{i} {r} {g} {b} kind{i}\n" for i, (r, g, b) in colours.items()))
    table = np.array([colours.get(i, (0, 0, 0)) for i in range(256)], np.uint8)
    for path in (data / "val_label").iterdir():
        Image.fromarray(table[np.asarray(Image.open(path))]).save(path)
    folder = alone("n_g", palette=str(tmp_path / "palette.txt"))
    options = ["--checkpoint", folder, "--style", "mean", "--metrics", "seg"]
    run(*options, "--dataroot", data, "--other", folder)
    coloured = scores(out)
    run(*options, "--dataroot", trained / "data", "--sheets", 0)
    assert coloured["rows"]["photos"] == scores(out)["rows"]["photos"]  # grey maps hold ids all the same
    assert coloured["rows"]["other"] == coloured["rows"]["generated"] == scores(out)["rows"]["generated"]
    assert [entry["name"] for entry in coloured["classes"]] == [f"kind{i}" for i in range(6)]
    sheet = np.asarray(Image.open(out / "sheets" / "sheet_000.png"))
    assert all((sheet == colours[i]).all(-1).any() for i in range(6))


def test_the_checkpoint_s_unlabelled_ids_are_not_scored(run, judges, alone, tmp_path, trained):
    """0 is unlabelled beside 255: painted as the unknown class, dropped from all scores."""
    out = tmp_path / "out"
    style = ["--style", "mean", "--metrics", "seg", "--sheets", 1]
    run("--checkpoint", alone("n_g", unknown_ids="0,255"), *style, "--other", trained / "output", "--panels")
    first = scores(out)
    assert [bool(entry["photos"]["pixels"]) for entry in first["classes"]] == [False] + [True] * 5
    assert first["protocol"]["segmentation"]["ignored_label_ids"].startswith("0,255; ")
    # the other checkpoint is shown the same maps, read in the same way
    assert first["rows"]["other"] == first["rows"]["generated"]
    data = tmp_path / "data"
    shutil.copytree(trained / "data", data)
    for path in (data / "val_label").iterdir():
        ids = np.asarray(Image.open(path))
        Image.fromarray(np.where(ids == 0, 255, ids).astype(np.uint8)).save(path)
    run("--dataroot", data, *style)
    assert scores(out)["rows"]["generated"] == first["rows"]["generated"]


def test_scores_with_a_model_of_ones_own(run, tmp_path):
    (tmp_path / "mine.py").write_text("def build():\n    return lambda x: (x[:, 0] > 0).astype(int)\n")
    run("--metrics", "seg", "--seg_model", f"{tmp_path}/mine.py:build")
    protocol = scores(tmp_path / "out")["protocol"]["segmentation"]
    assert protocol["network"] == "mine:build" and protocol["classes"] == 6
    (tmp_path / "mine.py").write_text("def build():\n    return lambda x: x\n")
    refuses("has 3 classes.*expects 6", run, "--metrics", "seg", "--seg_model", f"{tmp_path}/mine.py:build")


def test_format(run, tmp_path):
    run("--how_many", 1, "--format", "png")
    run("--how_many", 1)
    assert [path.name for path in (tmp_path / "out/pics").iterdir()] == ["val0.jpg"]


@pytest.mark.slow
def test_scores_with_files_as_published(run, trained, tmp_path, monkeypatch):
    """Files that torch wrote under the published names, with random weights: both networks in their own places."""
    torch = pytest.importorskip("torch")
    from model.judges.deeplab import DeepLabV2
    from model.judges.inception import FIDInception
    from model.weights import export_official
    from model.weights.published import PUBLISHED

    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "data", "data")
    train.main([*TINY, "--label_nc", "182", "--max_steps", "1", "--nThreads", "0", "--display_freq", "0"])
    for kind, net in (("inception", FIDInception()), ("deeplab", DeepLabV2())):
        Path(kind).mkdir()
        state = {name: torch.from_numpy(array) for name, array in export_official(net).items()}
        torch.save(state, Path(kind, PUBLISHED[kind].name))
    assert val.main(["--metrics", "fid,seg", "--nThreads", "0"]) == 0
    result = scores(Path("output_val"))
    assert result["rows"]["generated"]["fid"] > 0 and 0 <= result["rows"]["generated"]["mean_iou"] <= 1
    for kind in ("inception", "deeplab"):
        digest = hashlib.sha256(Path(kind, PUBLISHED[kind].name).read_bytes()).hexdigest()
        assert digest in json.dumps(result["protocol"])
