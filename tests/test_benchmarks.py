"""The benchmark scripts at toy size: they run, compare what they time, and write what is read from their JSON."""

import argparse
import json
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import harness
from benchmarks.variants import Task
from model.errors import UserError

TOY = ["--ngf", "4", "--size", "64", "--repeats", "1", "--warmup", "0"]


@pytest.fixture
def maps(tmp_path):
    """A folder of two pictures with maps, 64x64: bands and a box."""
    for kind in ("img", "label", "inst"):
        (tmp_path / f"train_{kind}").mkdir()
    for i in range(2):
        label = np.repeat(np.arange(64, dtype=np.uint8) // 16 * 40, 64).reshape(64, 64)
        label[:8] = 255
        inst = label.copy()
        inst[20 + i : 40, 10:30] = 7
        Image.fromarray(label).save(tmp_path / "train_label" / f"{i}.png")
        Image.fromarray(inst).save(tmp_path / "train_inst" / f"{i}.png")
        Image.fromarray(np.stack([label, inst, label], 2)).save(tmp_path / "train_img" / f"{i}.jpg")
    return tmp_path


@pytest.fixture
def run(monkeypatch, maps, tmp_path):
    """Run a script's main on the toy maps; its JSON rows. Threads are those that the test process has already."""
    pytest.importorskip("torch")
    monkeypatch.setattr(harness, "set_threads", lambda threads: None)

    def call(script, *flags):
        file = tmp_path / "rows.json"
        monkeypatch.setattr(sys, "argv", ["benchmark", *TOY, "--maps", str(maps), "--json", str(file), *flags])
        script.main()
        return json.loads(file.read_text())

    return call


def positive(row, *names):
    assert all(row[name] > 0 for name in names), row


@pytest.mark.slow
def test_generator(run, capsys):
    from benchmarks import generator

    inference, training = run(generator, "--no-memory")
    assert "inference" in inference["name"] and "forward+backward" in training["name"]
    for row in (inference, training):
        positive(row, "ratio_vs_torch", "ratio_vs_dense", "pattern_s", "numbering_s", "image_deviation")
        assert row["difference"] <= generator.TOLERANCE
        assert row["machine"]["threads"] >= 1
    assert 0 < training["gradient_difference"] <= generator.GRADIENT_TOLERANCE
    assert "ratio_vs_torch" in capsys.readouterr().out


@pytest.mark.slow
def test_engines(run):
    from benchmarks import generator

    rows = run(generator, "--mode", "engines")
    assert [row["name"].split(" ", 4)[4] for row in rows] == ["Paddle Inference", "onnxruntime"]
    for row in rows:
        positive(row, "ratio_vs_torch", "engine_s", "torch_s", "numbering_s")
        assert row["difference"] < 1e-3 < row["image_deviation"]


def test_generator_refuses_to_time_different_things(monkeypatch):
    from benchmarks import generator

    image = np.zeros((1, 3, 4, 4), np.float32)
    with pytest.raises(UserError, match="difference is 0.5"):
        generator.compare({"pattern": lambda: image, "torch": lambda: image + 0.5}, False)
    with pytest.raises(UserError, match="difference is nan"):
        generator.compare({"pattern": lambda: image, "torch": lambda: image + np.nan}, False)


@pytest.mark.slow
def test_train_step_with_memory(run):
    from benchmarks import train_step

    (row,) = run(train_step)
    assert "step" in row["name"] and row["loss_difference"] <= train_step.TOLERANCE
    positive(row, "ratio_vs_torch", "ratio_vs_dense", "memory_ratio_vs_torch", "memory_ratio_vs_dense")
    assert set(row["losses"]) == {"pattern", "dense", "torch"} and len(row["losses"]["torch"]) == 7
    assert row["pattern_peak_mb"] > row["pattern_work_mb"] > 0


def test_train_step_refuses_other_losses():
    from benchmarks import train_step

    with pytest.raises(UserError, match="pattern's d_loss is 1.1"):
        train_step.loss_difference({"pattern": {"d_loss": 1.1}, "torch": {"d_loss": 1.0}})


def test_data(run):
    from benchmarks import data

    (row,) = run(data, "--workers", "0", "--batch", "2")
    assert row["name"] == "one core"
    positive(row, "ratio_vs_plain", "ratio_vs_ids", "ours_per_s")
    assert row["plain_mb"] > row["ours_mb"]


@pytest.mark.slow
def test_data_with_workers(run):
    from benchmarks import data

    rows = run(data, "--workers", "1", "--batches", "2")
    assert rows[1]["name"] == "workers 1"
    positive(rows[1], "ratio_vs_plain", "ours_per_s")


def test_scaling(run):
    from benchmarks import scaling

    flags = ["--sizes", "64", "32", "--batches", "1", "--classes", "20", "182"]
    rows = run(scaling, *flags)
    assert [row["name"].partition(" ")[2] for row in rows] == [
        "64x64 batch 1 classes 182", "32x32 batch 1 classes 182", "64x64 batch 1 classes 20",
    ]  # fmt: skip
    for row in rows:
        positive(row, "ratio_vs_torch", "pattern_us_per_pixel", "torch_us_per_pixel")
        assert 0 < row["distinct"] < 1


@pytest.mark.slow
def test_count_agrees_with_the_layers_shapes(run):
    from benchmarks import count

    inference, step = run(count)
    derived = inference["gmac_residual_winograd"] + inference["gmac_patterns"]
    small = 256 * 64 * 4 * 4 / 1e9  # the first linear layer, spectral norms
    assert inference["gmac_done"] == pytest.approx(derived, rel=0.05, abs=small)
    assert step["gmac_dense"] > inference["gmac_dense"] > inference["gmac_residual"]
    positive(step, "gmac_done", "share_of_gemm", "less_work")


def test_coco_generator_has_the_known_number_of_multiplications():
    pytest.importorskip("torch")
    from benchmarks import count

    work = count.dense_work(Task())
    assert work["inference"] == pytest.approx(191.0, abs=0.1)


def test_product_size():
    from benchmarks import count

    def zeros(*shape):
        return np.zeros(shape)

    assert count.product_size(zeros(2, 3), zeros(3, 5)) == 30
    assert count.product_size(zeros(16, 3, 2), zeros(16, 5, 3), True, True) == 16 * 30
    assert count.product_size(zeros(16, 2, 3), zeros(3, 5)) == 16 * 30
    assert count.product_size(zeros(3), zeros(3, 5)) == 15


def test_classes_fold_and_the_unknown_stays(maps):
    args = argparse.Namespace(size=64, batch=1, ngf=4, seed=0, maps=maps)
    assert set(np.unique(Task.of(args).load().label)) == {0, 40, 80, 120, 182}
    assert set(np.unique(Task.of(args, classes=50).load().label)) == {0, 40, 30, 20, 50}
    assert set(np.unique(Task.of(args, classes=400).load().label)) == {0, 40, 80, 120, 400}
