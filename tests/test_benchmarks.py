"""The benchmark scripts at toy size: they run, compare what they time, and write what is read from their JSON."""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from common import refuses, save

from benchmarks import data, generator, gpu_forms, harness, table, train_step
from benchmarks.variants import CASES, Task

TOY = ["--size", "64", "--repeats", "1", "--warmup", "0"]


def write_maps(folder, label, instance, name):
    save(folder / "train_label" / f"{name}.png", label)
    save(folder / "train_inst" / f"{name}.png", instance)


@pytest.fixture
def maps(tmp_path):
    """A folder of two pictures with maps, 64x64: bands and a box."""
    for i in range(2):
        label = np.repeat(np.arange(64, dtype=np.uint8) // 16 * 40, 64).reshape(64, 64)
        label[:8] = 255
        inst = label.copy()
        inst[20 + i : 40, 10:30] = 7
        write_maps(tmp_path, label, inst, i)
        save(tmp_path / "train_img" / f"{i}.jpg", np.stack([label, inst, label], 2))
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
    inference, training = run(generator, "--ngf", "4", "--no-memory")
    assert "inference" in inference["name"] and "forward+backward" in training["name"]
    for row in (inference, training):
        positive(row, "ratio_vs_torch", "ratio_vs_dense", "pattern_s", "numbering_s", "image_deviation")
        assert row["difference"] <= generator.TOLERANCE
        assert row["machine"]["threads"] >= 1
    assert 0 < training["gradient_difference"] <= generator.GRADIENT_TOLERANCE
    assert "ratio_vs_torch" in capsys.readouterr().out


@pytest.mark.slow
def test_engines(run):
    rows = run(generator, "--ngf", "4", "--mode", "engines")
    assert [row["name"].split(" ", 5)[5] for row in rows] == ["Paddle Inference", "onnxruntime"]
    for row in rows:
        positive(row, "ratio_vs_torch", "engine_s", "torch_s", "numbering_s")
        assert row["difference"] < 1e-3 < row["image_deviation"]


def test_different_things_are_not_timed():
    image = np.zeros((1, 3, 4, 4), np.float32)
    for other in (0.5, np.nan):
        runs = {"pattern": lambda: image, "torch": lambda other=other: image + other}
        refuses(f"difference is {other}", generator.compare, runs, False)
    losses = {"pattern": {"d_loss": 1.1}, "torch": {"d_loss": 1.0}}
    refuses("pattern's d_loss is 1.1", train_step.loss_difference, losses)


@pytest.mark.slow
def test_train_step_with_memory(run):
    (row,) = run(train_step, "--ngf", "4")
    assert "step" in row["name"] and row["loss_difference"] <= train_step.TOLERANCE
    positive(row, "ratio_vs_torch", "ratio_vs_dense", "memory_ratio_vs_torch", "memory_ratio_vs_dense")
    assert set(row["losses"]) == {"pattern", "dense", "torch"} and len(row["losses"]["torch"]) == 7
    assert row["pattern_peak_mb"] > row["pattern_work_mb"] > 0


def test_data(run):
    rows = run(data, "--workers", "1", "--batch", "2", "--batches", "2")
    assert [row["name"] for row in rows] == ["one core", "workers 1"]
    for row in rows:
        positive(row, "ratio_vs_plain", "ratio_vs_ids", "ours_per_s")
    assert rows[0]["plain_mb"] > rows[0]["ours_mb"]


def test_coco_generator_has_the_known_number_of_multiplications():
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.torch_spade import SPADEGenerator, semantic_channels

    opt = Task().options()
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        SPADEGenerator(opt)(torch.empty(1, semantic_channels(opt), 256, 256), torch.empty(1, opt.z_dim))
    assert counter.get_total_flops() / 2e9 == pytest.approx(191.0, abs=0.1)


def test_products_are_counted():
    with generator.counted() as total:
        paddle.matmul(paddle.zeros([2, 3]), paddle.zeros([3, 5]))
        paddle.matmul(paddle.zeros([16, 2, 3]), paddle.zeros([16, 5, 2]), True, True)
        paddle.matmul(paddle.zeros([3]), paddle.zeros([3, 5]))
    assert total == [30 + 16 * 30 + 15]


@pytest.mark.parametrize("training", [False, True])
def test_the_forms_for_gpus_compute_the_same(maps, training):
    torch = pytest.importorskip("torch")
    task = Task(size=64, ngf=4, vgg=False, batch=2, maps=str(maps))
    runs = {form: gpu_forms.build(form, task, training) for form in gpu_forms.FORMS}
    if training:  # the second step's losses follow from the first one's gradients
        got = {form: torch.tensor([list(run().values()) for _ in range(2)]) for form, run in runs.items()}
    else:
        got = {form: run() for form, run in runs.items()}
    for form in ("pattern", "sorted"):
        assert torch.allclose(got[form], got["dense"], atol=1e-4), form


@pytest.mark.parametrize("case", CASES)
def test_cases_are_what_they_are_called(case, maps):
    task = Task(case, maps=str(maps), **{**CASES[case], "ngf": 4, "size": 128 if case == "camvid" else 64})
    opt, batch = task.options(), task.batches("pattern")[0]
    height, width = task.shape
    assert batch["label"].shape == (opt.batchSize, height, width) == (task.batch, *opt.generator_size)
    assert ("instance" in batch) is not opt.no_instance and batch["label"].max() <= opt.label_nc
    distinct = len(batch[f"patterns/{height}x{width}/outer"]) / batch["label"].size
    assert distinct > 0.9 if case == "noise" else distinct < 0.3


def test_ctrl_c_leaves_what_is_measured(maps, tmp_path):
    pytest.importorskip("torch")
    words = ["--case", "camvid", "--mode", "inference", "--ngf", "4", "--no-memory", "--no-dense", "--warmup", "0"]
    words += ["--repeats", "100000", "--json", str(tmp_path / "rows.json"), "--maps", str(maps)]
    terminal, side = os.openpty()
    with subprocess.Popen(
        [sys.executable, "benchmarks/generator.py", *words],
        cwd=harness.ROOT, stdout=subprocess.PIPE, stderr=side, text=True,
    ) as done:  # fmt: skip
        os.close(side)
        shown = b""
        while b"round 2 of 100000, " not in shown:
            shown += os.read(terminal, 1000)
        done.send_signal(signal.SIGINT)
        out, _ = done.communicate(timeout=60)
    os.close(terminal)
    assert b" left" in shown and done.returncode == 130 and "interrupted: 1 rows were measured" in out, out
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    positive(row, "pattern_s", "torch_s", "ratio_vs_torch")


@pytest.mark.slow
def test_the_table_is_measured_and_written_between_its_marks(maps, tmp_path):
    pytest.importorskip("torch")
    page = tmp_path / "performance.md"
    page.write_text(f"# Speed\n\n{table.BEGIN}\nold\n{table.END}\nThe end.\n")
    words = ["--only", "camvid", "--quick", "--camvid", str(maps), "--out", str(page)]
    for _ in range(2):
        subprocess.run([sys.executable, "benchmarks/table.py", *words], cwd=harness.ROOT, check=True, timeout=300)
        text = page.read_text()
        assert text.startswith("# Speed\n") and text.endswith(f"{table.END}\nThe end.\n") and "old" not in text
        assert text.count("| CamVid") == 3 and "cpu" in text


def test_a_page_without_marks_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Speed\n")
    refuses("has no lines", table.write, page, "rows")
    assert page.read_text() == "# Speed\n"


def test_classes_fold_and_the_unknown_stays(maps):
    args = argparse.Namespace(case="coco", size=64, batch=1, ngf=4, seed=0, maps=maps)
    assert set(np.unique(Task.of(args).load().label)) == {0, 40, 80, 120, 182}
    assert set(np.unique(Task.of(args, classes=50).load().label)) == {0, 40, 30, 20, 50}
    assert set(np.unique(Task.of(args, classes=400).load().label)) == {0, 40, 80, 120, 400}


# ---- what the scripts share ----


def test_alternate_runs_every_variant_in_every_round():
    order = []
    timings = harness.alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, warmup=1, pause=0)
    assert sorted(order[:2]) == sorted(order[2:4]) == sorted(order[4:]) == ["a", "b"]
    assert order[2:4] != order[4:]
    assert list(timings) == ["a", "b"] and all(len(seconds) == 2 for seconds in timings.values())
    with pytest.raises(ValueError, match="0 repeats"):
        harness.alternate({"a": list}, 0)


def test_timing_statistics_and_rows():
    timings = {"pattern": [1.0, 2.0, 3.0, 4.0, 100.0], "torch": [6.0, 6.0, 6.0]}
    row = harness.speed_row("inference", timings, size=256)
    assert row == {
        "name": "inference", "size": 256, "pattern_s": 3.0, "pattern_quartiles_s": [2.0, 4.0], "torch_s": 6.0,
        "torch_quartiles_s": [6.0, 6.0], "ratio_vs_torch": 2.0,
    }  # fmt: skip


def test_table_aligns_and_leaves_missing_values_empty():
    rows = [{"name": "inference", "seconds": 1.23456, "all": [1.0]}, {"name": "step", "n": 12}]
    assert harness.table(rows).splitlines() == [
        "name       seconds   n",
        "---------  -------  --",
        "inference     1.23",
        "step                12",
    ]
    assert harness.table(rows, ["name", "n"], markdown=True).splitlines() == [
        "| name      |  n |",
        "| --------- | -: |",
        "| inference |    |",
        "| step      | 12 |",
    ]


def test_json_is_written_whole(tmp_path):
    file = tmp_path / "rows.json"
    harness.write_json(file, [{"name": "step", "ratio_vs_torch": 2.0}])
    assert json.loads(file.read_text()) == [{"name": "step", "ratio_vs_torch": 2.0}]
    with pytest.raises(ValueError):
        harness.write_json(file, [{"name": "step", "ratio_vs_torch": float("nan")}])
    assert json.loads(file.read_text())[0]["ratio_vs_torch"] == 2.0 and list(tmp_path.iterdir()) == [file]
    refuses("cannot write .*rows.json/more.json", harness.write_json, file / "more.json", [])


def test_flags_and_report(tmp_path, capsys):
    parser = harness.add_flags(argparse.ArgumentParser())
    Task.add_flags(parser)
    args = parser.parse_args(["--json", str(tmp_path / "rows.json"), "--threads", "2", "--case", "camvid"])
    assert (args.repeats, args.size, args.maps) == (5, None, None)
    task = Task.of(args)
    assert (task.shape, task.batch, task.ngf, task.options().generator_size) == ((96, 128), 4, 32, (96, 128))
    assert harness.report([lambda: {"name": "step"}], args) == 0
    assert "threads 2" in capsys.readouterr().out
    assert json.loads((tmp_path / "rows.json").read_text())[0]["machine"]["threads"] == 2
    with pytest.raises(SystemExit):
        parser.parse_args(["--batch", "0"])


def test_threads_are_set_before_the_frameworks(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    with pytest.raises(RuntimeError, match="before the import of .*torch"):
        harness.set_threads(2)


def test_maps_are_resized_without_blending(tmp_path):
    label = np.array([[0, 255], [5, 3]], np.uint8)
    write_maps(tmp_path, label, label, "one")
    maps = harness.load_maps(tmp_path, (4, 4), label_nc=182)
    assert len(maps.label) == 1
    assert (maps.label[0] == np.array([[0, 182], [5, 3]]).repeat(2, 0).repeat(2, 1)).all()
    assert (maps.instance[0] == label.repeat(2, 0).repeat(2, 1)).all()
    assert maps.batch(3, start=1)[0].shape == (3, 4, 4)


def test_wrong_map_folders_are_told(tmp_path):
    refuses("no PNG label maps", harness.load_maps, tmp_path, (4, 4))
    nines = np.full((2, 2), 9, np.uint8)
    write_maps(tmp_path, nines, nines, "one")
    refuses("label 9 is outside 0..4", harness.load_maps, tmp_path, (4, 4), label_nc=5)
    (tmp_path / "train_inst" / "one.png").unlink()
    refuses("one.png: not found", harness.load_maps, tmp_path, (4, 4))


def allocator(megabytes):
    """For the next test, in its child process."""
    return lambda: np.ones(megabytes * 2**20, np.uint8).sum()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
def test_peak_memory_sees_what_a_callable_allocates(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    memory = harness.peak_memory("test_benchmarks:allocator", {"megabytes": 64})
    assert 60 * 2**20 < memory.used < 160 * 2**20
    with pytest.raises(RuntimeError, match="no_such_function"):
        harness.peak_memory("test_benchmarks:no_such_function", {})
