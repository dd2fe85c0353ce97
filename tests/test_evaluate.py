"""Scores of folders of pictures: what is compared with what, cached, told and refused."""

import json
import os
from pathlib import Path

import numpy as np
import paddle
import pytest
from common import DOUBLE_SUMS, GRADIENT, PARITY, refuses, save
from PIL import Image
from test_fid import Means

from model.errors import printable
from model.metrics.evaluation import evaluate
from model.metrics.fid import FeatureExtractor
from model.metrics.images import list_maps, list_pictures, pairing_key, partners, read_batches
from model.metrics.judge import Judge
from model.metrics.report import class_table, log_visualdl, markdown, text, write_results
from model.metrics.settings import MADE_UP, Settings
from model.progress import progress_bar
from tools import evaluate as tool

# Classes of the little pictures below, and the grey in which each is painted.
PERSON, CAR, SKY = 0, 2, 156
GREYS = {PERSON: 40, CAR: 120, SKY: 220}


class GreyReader:
    """A segmentation network that knows the greys; counts the pictures it is given."""

    name, weights_sha256, protocol, classes = "grey reader", "grey", "as it is", 182

    def __init__(self):
        self.seen = 0

    def __call__(self, pictures):
        return self.read(pictures)

    def read(self, pictures):
        self.seen += len(pictures)
        distance = np.full((len(pictures), 182, *pictures.shape[1:3]), 1e6, np.float32)
        for label, grey in GREYS.items():
            distance[:, label] = np.abs(pictures[..., 0].astype(np.float32) - grey)
        return -distance


@pytest.fixture
def folders(tmp_path):
    """Photos painted by their label maps, `good` pictures equal to them, `bad` ones with a third painted over."""
    rng = np.random.default_rng(0)
    for i in range(5):
        labels = np.kron(rng.choice(list(GREYS), (4, 6)), np.ones((8, 8), int)).astype(np.uint8)
        painted = np.vectorize(GREYS.get)(labels).astype(np.uint8)
        photo = np.stack([painted] * 3, axis=-1)
        bad = photo.copy()
        bad[:, :16] = GREYS[CAR]
        labels[0] = 255
        for folder, array in (("label", labels), ("photo", photo), ("good", photo), ("bad", bad)):
            save(tmp_path / folder / f"p{i}.png", array)
    return tmp_path


@pytest.fixture
def networks():
    return {"extractor": FeatureExtractor(Means(), "means", features=6), "predictor": GreyReader()}


def run(folders, networks, first="good", other_dir=None, **options):
    settings = Settings(**{"progress": False, "batch_size": 2, **options})
    return evaluate(folders / first, folders / "photo", folders / "label", settings, other_dir=other_dir, **networks)


def relabel(folders, change, folder="label"):
    """Write each label map, or each picture of another folder, as `change` gives it of its array."""
    for path in (folders / folder).iterdir():
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)


def test_worse_pictures_score_worse_beside_the_better(folders, networks):
    result = run(folders, networks, first="bad", other_dir=folders / "good", other_name="torch", name="ours")
    ours, torch = result["rows"]["ours"], result["rows"]["torch"]
    assert ours["fid"] > torch["fid"] == pytest.approx(0, abs=DOUBLE_SUMS)
    assert "fid" not in result["rows"]["photos"] and result["rows"]["photos"]["mean_iou"] == 1
    assert "warning" not in result
    for key in ("pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou"):
        assert ours[key] < torch[key] == pytest.approx(1)
    labels = np.stack([np.asarray(Image.open(path)) for path in sorted((folders / "label").iterdir())])
    wrong = ((labels != CAR) & (labels != 255))[:, :, :16].sum()
    assert ours["pixel_accuracy"] == pytest.approx(1 - wrong / (labels != 255).sum())
    sky = result["classes"][SKY]
    assert sky["name"] == "sky-other" and sky["label_id"] == SKY and sky["ours"]["iou"] < sky["torch"]["iou"] == 1
    assert sky["ours"]["pixels"] == (labels == SKY).sum()


def test_protocol_says_what_was_compared(folders, networks):
    protocol = run(folders, networks, max_pictures=4)["protocol"]
    assert protocol["image_size"] == "48x32"
    assert protocol["reference"] == {
        "pictures": 4, "first": "p0.png", "last": "p3.png", "files": ".png", "folder": str(folders / "photo"),
    }  # fmt: skip
    assert protocol["fid"]["weights_sha256"] == "means"
    assert "biased" in protocol["fid"]["note"]
    assert protocol["segmentation"]["weights_sha256"] == "grey"
    assert "182" in protocol["segmentation"]["ignored_label_ids"]
    assert protocol["versions"]["paddle"] == paddle.__version__


def test_photos_and_labels_of_another_size_are_brought_to_the_pictures(folders, networks):
    for folder in ("photo", "label"):
        relabel(folders, lambda array: array.repeat(2, 0).repeat(2, 1), folder)
    result = run(folders, networks)
    assert result["rows"]["generated"]["pixel_accuracy"] == 1
    assert result["rows"]["generated"]["fid"] < 1e-3
    larger = run(folders, networks, at_label_size=True)
    assert 0.9 < larger["rows"]["generated"]["pixel_accuracy"] <= 1
    pixels, fewer = (scores["classes"][SKY]["generated"]["pixels"] for scores in (larger, result))
    assert pixels == 4 * fewer


def test_cache_spares_the_networks(folders, networks, tmp_path):
    cache = tmp_path / "cache"
    first = run(folders, networks, cache_dir=cache)
    seen = networks["predictor"].seen
    again = run(folders, networks, cache_dir=cache)
    assert first == again
    assert networks["predictor"].seen == seen
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:50])
    assert run(folders, networks, cache_dir=cache) == first


class Interrupted(Exception):
    """As Ctrl-C would be."""


def test_an_interrupted_evaluation_goes_on(folders, networks, tmp_path, monkeypatch):
    def after(calls, call):
        def counted(*arguments):
            nonlocal calls
            calls -= 1
            if calls < 0:
                raise Interrupted
            return call(*arguments)

        return counted

    monkeypatch.setattr("model.metrics.images._SAVE_EVERY", 0)
    cache, judges = tmp_path / "cache", dict(networks)
    net, reader = networks["extractor"].net, networks["predictor"]
    monkeypatch.setattr(networks["extractor"], "net", after(4, net))  # 3 batches of photos, 1 of the pictures
    with pytest.raises(Interrupted):
        run(folders, judges, first="bad", cache_dir=cache)
    monkeypatch.setattr(networks["extractor"], "net", after(2, net))  # 2 and 1 pictures are left
    monkeypatch.setattr(GreyReader, "__call__", after(1, GreyReader.read))
    with pytest.raises(Interrupted):
        run(folders, judges, first="bad", cache_dir=cache)
    assert reader.seen == 2
    monkeypatch.undo()
    result = run(folders, judges, first="bad", cache_dir=cache)
    assert reader.seen == 5 + 5  # none a second time
    for name, row in run(folders, judges, first="bad")["rows"].items():
        assert result["rows"][name] == pytest.approx(row, rel=DOUBLE_SUMS)


def test_ids_that_mean_unlabelled_are_not_scored(folders, networks, tmp_path):
    """Person (0) and 255 unlabelled: the scores of maps that hold 255 for both, and not those that the cache has."""
    cache = dict(metrics=("seg",), cache_dir=tmp_path / "cache")
    scored = run(folders, networks, first="bad", **cache)
    declared = run(folders, networks, first="bad", unknown_ids="0,255", **cache)
    assert scored["protocol"]["segmentation"]["ignored_label_ids"] == "all from 182 up (unlabelled)"
    assert declared["protocol"]["segmentation"]["ignored_label_ids"] == "0,255; all from 182 up (unlabelled)"
    assert declared["classes"][PERSON]["generated"]["pixels"] == 0 < scored["classes"][PERSON]["generated"]["pixels"]
    relabel(folders, lambda ids: np.where(ids == PERSON, 255, ids).astype(np.uint8))
    assert run(folders, networks, first="bad", metrics=("seg",))["rows"] == declared["rows"] != scored["rows"]
    refuses("unknown_ids 'person'", run, folders, networks, unknown_ids="person")


class Sees(GreyReader):
    """Sees one class everywhere."""

    def __init__(self, number, classes):
        self.number, self.classes = number, classes

    def __call__(self, pictures):
        return np.full(pictures.shape[:3], self.number)


@pytest.mark.parametrize(("options", "behind"), [({}, 11), ({"unknown_ids": "200"}, 200)])
def test_unlabelled_behind_the_classes_is_not_scored(folders, options, behind):
    ids = np.full((32, 48), 5, np.uint8)
    ids[:8], ids[8:12] = behind, 4
    relabel(folders, lambda _: ids)
    options = dict(metrics=("seg",), dataset_mode="custom", label_nc=11) | options
    result = run(folders, {"predictor": Sees(5, classes=11)}, **options)
    assert result["rows"]["generated"]["pixel_accuracy"] == pytest.approx(20 / 24)
    assert len(result["classes"]) == 11 and {4, 5} == {i for i in range(11) if result["classes"][i]["photos"]["pixels"]}


def test_sheets_of_cityscapes_show_its_colours(folders, tmp_path):
    """Whose names begin with 'unlabeled'."""
    road = np.full((32, 48), 7, np.uint8)
    road[:9] = 255
    relabel(folders, lambda _: road)
    options = dict(metrics=("seg",), dataset_mode="cityscapes", label_nc=35, sheets=1, output_dir=tmp_path / "sheets")
    result = run(folders, {"predictor": Sees(0, classes=19)}, **options)
    assert result["rows"]["generated"]["pixel_accuracy"] == 1
    sheet = np.asarray(Image.open(result["sheets"][0]))
    assert (sheet == (128, 64, 128)).all(-1).sum() > 2.7 * 192 * 288  # most of the map, and two segmentations
    assert (sheet == 0).all(-1)[18:80, :288].sum() > 9 * 6 * 270  # the map's unlabelled rows


def test_sheets_show_pictures_and_their_segmentations(folders, networks, tmp_path):
    result = run(folders, networks, first="bad", other_dir=folders / "good", sheets=5, output_dir=tmp_path / "sheets")
    assert [Path(path).name for path in result["sheets"]] == ["sheet_000.png", "sheet_001.png"]
    assert networks["predictor"].seen == 15  # none a second time for the sheets
    sheet = np.asarray(Image.open(result["sheets"][0]))
    assert sheet.shape[0] > 4 * 2 * 192 and sheet.shape[1] > 4 * 288
    for grey in GREYS.values():  # pictures
        assert (sheet == grey).all(-1).any()
    assert (sheet == (95, 219, 255)).all(-1).any()  # sky-other, segmented


def test_sheets_show_pictures_evenly_spread_over_all(folders, networks, tmp_path, monkeypatch):
    """Of five those that training's previews would show of a split, p0 and p2; each is segmented once."""
    shown, row = [], Judge._row
    monkeypatch.setattr(
        Judge, "_row", lambda judge, *of: shown.append([path.name for path in of[2]]) or row(judge, *of)
    )
    run(folders, networks, first="bad", other_dir=folders / "good", sheets=2, output_dir=tmp_path / "sheets")
    assert shown == [["p0.png"] * 3, ["p2.png"] * 3]
    assert networks["predictor"].seen == 15


def test_results_are_written(folders, networks, tmp_path):
    result = run(folders, networks)
    write_results(result, tmp_path / "out", tmp_path / "log", step=3)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == result
    table = (tmp_path / "out" / "metrics.md").read_text()
    assert "| generated | 1.0000 | 1.0000 | 1.0000 | 1.0000 | 0.00 | 5 | 48x32 | 5 of " in table
    assert "weights_sha256: grey" in table
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "metrics.md"]
    records = [path for path in (tmp_path / "log").rglob("vdlrecords*")]
    assert len(records) == 2 and all(path.stat().st_size for path in records)
    assert "sky-other" in class_table(result) and "and 1 more" in class_table(result, classes=2)
    assert "protocol:" in text(result)


def test_scores_of_made_up_weights_say_so_everywhere(folders, networks, tmp_path):
    networks["predictor"].weights_sha256 = MADE_UP
    result = run(folders, networks)
    assert "mean nothing" in result["warning"]
    assert text(result).startswith(result["warning"]) and text(result).endswith(result["warning"])
    assert all("MADE-UP WEIGHTS" in line for line in markdown(result).splitlines()[2:])
    write_results(result, tmp_path / "out", tmp_path / "log")
    assert "mean nothing" in (tmp_path / "out" / "metrics.md").read_text()
    log_visualdl(result, tmp_path / "log")
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("name", ["a\nb", "[x] **100%**", "-x", "\udcbd\udcd6"])
def test_records_in_folders_of_any_name(tmp_path, name, capsys):
    pytest.importorskip("visualdl")
    protocol = {"image_size": "8x8", "reference": {"pictures": 3, "folder": name}}
    log_visualdl({"rows": {"generated": {"fid": 1.0}}, "protocol": protocol}, tmp_path / name)
    said = capsys.readouterr().out
    if "\udcbd" in name:
        assert said.startswith("no VisualDL records are written: ") and said.count("\n") == 1
    else:
        assert not said and list((tmp_path / name / "generated").glob("*.log"))


def test_metrics_can_be_computed_alone(folders, networks):
    fid_only = evaluate(folders / "good", folders / "photo", settings=Settings(metrics=("fid",)), **networks)
    assert list(fid_only["rows"]) == ["generated"] and networks["predictor"].seen == 0
    assert markdown(fid_only).splitlines()[0] == "| pictures of | FID | count | size | reference |"
    seg_only = run(folders, networks, metrics=("seg",), photos=False)
    assert list(seg_only["rows"]) == ["generated"] and "fid" not in seg_only["rows"]["generated"]


def test_kid_precision_and_recall_beside_fid_of_features_taken_once(folders, networks, monkeypatch):
    calls, net = [], networks["extractor"].net
    monkeypatch.setattr(networks["extractor"], "net", lambda x: calls.append(len(x)) or net(x))
    options = dict(metrics="fid, kid,pr", kid_subset_size=4, kid_subsets=9, kid_seed=7, other_dir=folders / "good")
    result = run(folders, networks, first="bad", **options)
    assert sum(calls) == 15
    bad, good = result["rows"]["generated"], result["rows"]["other"]
    assert set(bad) == {"fid", "kid", "kid_std", "precision", "recall"}
    assert bad["kid"] > good["kid"] and (good["precision"], good["recall"]) == (1, 1)
    assert bad["kid_std"] > 0
    for batch_size in (1, 5):
        again = run(folders, networks, first="bad", batch_size=batch_size, **options)
        for name, row in result["rows"].items():
            assert again["rows"][name] == pytest.approx(row, rel=GRADIENT, abs=DOUBLE_SUMS)
    protocol = result["protocol"]
    assert {key: protocol["kid"][key] for key in ("subset_size", "subsets", "seed")} == {
        "subset_size": 4, "subsets": 9, "seed": 7,
    }  # fmt: skip
    assert protocol["pr"]["k"] == 3 and protocol["kid"]["weights_sha256"] == "means"
    assert "note" not in protocol["kid"]
    said = text(result)
    assert "| FID | KID | KID std | precision | recall |" in said
    assert all(f"\n    {line}\n" in said for line in ("subset_size: 4", "subsets: 9", "seed: 7", "k: 3"))
    small = run(folders, networks, metrics=("kid",))["protocol"]
    assert small["kid"]["subset_size"] == 5 and "fewer pictures (5) than a subset of 1000" in small["kid"]["note"]
    assert "fid" not in small


@pytest.mark.parametrize("metric, least", [("fid", 2), ("kid", 2), ("pr", 4)])
def test_sets_that_are_too_small_for_a_metric_are_told_before_the_network_runs(folders, networks, metric, least):
    networks["extractor"].net = None
    message = f"metric {metric} needs at least {least} pictures in each set, and .*good has {least - 1}$"
    refuses(message, run, folders, networks, metrics=(metric,), max_pictures=least - 1)


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(metrics="fid,kit"), "'kit' is unknown: expected fid, seg.*did you mean kid"),
        (dict(other_name="generated", other_dir="bad"), "two different names"),
        (dict(first="nowhere"), "is not a folder"),
        (dict(first="empty"), "holds no pictures"),
        (
            dict(first="a.npz", metrics="fid,kid"),
            "a.npz is not a folder: .*, not statistics of them, which cannot give",
        ),
        (dict(first="broken", metrics="fid"), r"p1\.png"),
        *((dict(name=name), "no plain word") for name in ("../up", "a|b", ".", "")),
        (dict(metrics=("fid",), sheets=1, output_dir="out"), "sheets show segmentations"),
        (dict(dataset_mode="ade20k", label_nc=150), "182 classes; dataset_mode ade20k expects"),
    ],
)
def test_what_cannot_be_scored_is_told(folders, networks, options, words):
    for name in ("empty", "broken"):
        (folders / name).mkdir()
    (folders / "broken" / "p1.png").write_bytes(b"no picture")
    folder = {key: folders / options[key] for key in ("other_dir", "output_dir") if key in options}
    refuses(words, run, folders, networks, **{**options, **folder})


def test_pictures_without_a_label_map_are_told(folders, networks):
    (folders / "label" / "p3.png").unlink()
    refuses(r"1 of 5 pictures \(p3.png\) have no label map", run, folders, networks)
    refuses("need the label maps", evaluate, folders / "good", folders / "photo", **networks)


def test_settings_out_of_range_are_told():
    for name, value in dict(kid_subset_size=1, kid_subsets=0, kid_seed=-1, pr_k=0).items():
        refuses(f"{name} {value} is out of range: expected ", Settings, **{name: value})
    refuses(f"kid_seed {2**32} is out of range: expected ", Settings, kid_seed=2**32)


# ---- pictures ----


def test_cityscapes_files_find_each_other(tmp_path):
    for name in ("a/x_1_leftImg8bit.png", "b/x_1_gtFine_labelIds.png", "b/x_1_gtFine_color.png", "g/x_1.png"):
        save(tmp_path / name, np.zeros((2, 2), np.uint8))
    generated = list_pictures(tmp_path / "g")
    assert [pairing_key(path) for path in generated] == ["x_1"]
    assert partners(generated, list_maps(tmp_path / "b"), "label map")[0].name == "x_1_gtFine_labelIds.png"
    assert partners(generated, list_pictures(tmp_path / "a"), "photo")[0].name == "x_1_leftImg8bit.png"


def test_batches_hold_every_picture_once(tmp_path):
    for i in range(7):
        Image.new("RGB", (4 + i % 2, 3), (i, i, i)).save(tmp_path / f"{i}.png")
    seen = {}
    for positions, pictures in read_batches(list_pictures(tmp_path), 3):
        assert len(positions) == len(pictures) <= 3
        seen.update({p: int(picture[0, 0, 0]) for p, picture in zip(positions, pictures, strict=True)})
    assert seen == {i: i for i in range(7)}
    assert [len(pictures) for _, pictures in read_batches(list_pictures(tmp_path), 3, size=(5, 5))] == [3, 3, 1]


def test_progress_is_told_in_lines_in_a_file(capsys, monkeypatch):
    monkeypatch.setattr("model.progress._TOLD_EVERY", -1)
    with progress_bar(7, "photos", shown=True, done=2) as told:
        told(3)
        told(2)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("photos: 5/7 pictures, ") and last.startswith("photos: 7/7 pictures, ")
    assert last.endswith(" 0 s left")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar(7, "photos", shown=True) as told:
        told(7)
    assert "7/7" in capsys.readouterr().err.split("\r")[-1]
    with progress_bar(7, "photos", shown=False) as told:
        told(7)
    assert not capsys.readouterr().err


# ---- the command line ----


def test_class_counts_are_the_recipes():
    counts = {"coco_stuff": 182, "ade20k": 150, "cityscapes": 35, "facades": 13, "camvid": 11, "sample": 182}
    assert {mode: tool._label_nc(mode) for mode in counts} == counts


def test_command_line_with_a_model_of_ones_own(folders, tmp_path, capsys):
    model = tmp_path / "grey.py"
    model.write_text(
        "import numpy as np\n"
        "def build():\n"
        "    def read(x):\n"
        "        x = x[:, :1] * 255\n"
        "        s = np.full((len(x), 182, *x.shape[2:]), -1e6, np.float32)\n"
        "        for label, grey in ((0, 40), (2, 120), (156, 220)):\n"
        "            s[:, label] = -np.abs(x[:, 0] - grey)\n"
        "        return s\n"
        "    return read\n"
    )
    out = tmp_path / "out"
    arguments = [str(folders / "good"), str(folders / "photo"), "--labels", str(folders / "label"), "--metrics", "seg"]
    arguments += ["--seg_model", f"{model}:build", "--seg_mean", "0", "0", "0", "--seg_std", "1", "1", "1"]
    relabel(folders, lambda ids: np.stack([ids, 255 - ids, 0 * ids + 7], -1))  # as colours
    lines = [f"{i} {i} {255 - i} 7 {name}\n" for i, name in ((0, "one"), (2, "two"), (156, "three"), (255, ""))]
    (tmp_path / "colours.txt").write_text("".join(lines))
    arguments += ["--palette", str(tmp_path / "colours.txt")]
    assert tool.main([*arguments, "--output", str(out), "--no_cache", "--sheets", "1"]) == 0
    assert "| generated | 1.0000 |" in capsys.readouterr().out
    result = json.loads((out / "metrics.json").read_text())
    assert result["rows"]["generated"]["mean_iou"] == 1
    assert tool.main([*arguments, "--output", str(tmp_path / "other"), "--no_cache", "--unknown_ids", "2,255"]) == 0
    car = json.loads((tmp_path / "other" / "metrics.json").read_text())["classes"][2]["generated"]
    assert car["pixels"] == 0 < result["classes"][2]["generated"]["pixels"]
    assert [result["classes"][i]["name"] for i in (0, 2, 156)] == ["one", "two", "three"]
    assert (out / "sheets" / "sheet_000.png").is_file()
    assert any((out / "log").rglob("vdlrecords*"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--batch_size", "0"], "at least 1"),
        (["--dataset_mode", "custom"], "--label_nc"),
        (["--metrics", "seg"], "need the label maps"),
        (["--metrics", ","], "metrics are not named: expected fid, seg, kid, pr"),
        (
            ["--metrics", "pr", "--pr_k", "5", "--made_up"],
            "metric pr needs at least 6 pictures in each set, and .* has 5",
        ),
        (["--unknown_ids", "0;255"], "unknown_ids '0;255': '0;255' is no id: expected whole numbers 0..65535"),
        (["--device", "gpu:77"], "device gpu:77 cannot be used .this PaddlePaddle is built without CUDA"),
    ],
)
def test_command_line_mistakes(folders, arguments, message):
    refuses(message, tool.main, [str(folders / "good"), str(folders / "photo"), *arguments])


@pytest.mark.slow
def test_whole_evaluation_with_made_up_weights(folders, tmp_path, capsys):
    arguments = [str(folders / "good"), str(folders / "photo"), "--labels", str(folders / "label")]
    arguments += ["--made_up_weights", "--sheets", "2", "--output", str(tmp_path / "out"), "--cache", str(tmp_path)]
    assert tool.main(arguments) == 0
    assert "MADE-UP" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert result["rows"]["generated"]["fid"] == pytest.approx(0, abs=PARITY)
    assert result["rows"]["generated"]["mean_iou"] == result["rows"]["photos"]["mean_iou"]


@pytest.mark.parametrize("name", [os.fsdecode("街".encode("gbk")), "v1 [take 0] **100%**", "a\nb", "-x | y"])
def test_folders_and_files_of_any_name_are_scored(folders, networks, tmp_path, name):
    for folder in ("photo", "label", "good"):
        for file in list((tmp_path / folder).iterdir()):
            file.rename(file.with_name(f"{name}{file.name}"))
        (tmp_path / f"{folder}{name}").mkdir()
        (tmp_path / folder).rename(tmp_path / f"{folder}{name}" / "val")
    parts = [tmp_path / f"{part}{name}" for part in ("good", "photo", "label")]
    result = evaluate(*parts, Settings(sheets=1, output_dir=tmp_path / f"out{name}"), **networks)
    assert result["rows"]["generated"]["fid"] < 1e-3 and text(result)
    write_results(result, tmp_path / f"out{name}", tmp_path / "log")
    written = (tmp_path / f"out{name}" / "metrics.md").read_text(encoding="utf-8")
    table = [line for line in written.splitlines() if line.startswith("|")]
    assert len(table) == 4 and len({line.replace(r"\|", "").count("|") for line in table}) == 1
    again = json.loads((tmp_path / f"out{name}" / "metrics.json").read_text(encoding="utf-8"))
    assert again["protocol"]["reference"]["folder"] == str(parts[1] / "val") and printable(f"photo{name}") in written
