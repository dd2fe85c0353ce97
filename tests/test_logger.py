"""The logs: readable at every moment, continued without doubles."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib  # noqa: F401  # Paddle 2.6 breaks a zlib that is loaded after it
from contextlib import closing

import numpy as np
import pytest
from common import ROOT, files_up_to, held, refuses
from PIL import Image
from visualdl import LogReader

from model.options import OPT
from model.training.logger import Logger
from model.training.loss_log import COLUMNS, LossLog
from model.training.visualdl_file import VisualDLFile


def filled(path, steps, start=0):
    log = LossLog(path, step=start)
    for step in range(start, steps):
        log.append([step + column / 10 for column in range(7)])
        assert np.load(path).shape == (step + 1, 7)  # while it is open
    return log


def test_every_row_is_readable_at_once(tmp_path):
    path = tmp_path / "log" / "log.npy"
    log = LossLog(path)
    assert np.load(path).shape == (0, 7)
    log.close()
    filled(path, 1001).close()
    found = np.load(path)
    assert found.dtype == np.float64 and found.shape == (1001, 7)
    np.testing.assert_allclose(found[:, 3], np.arange(1001) + 0.3)
    assert np.load(path, mmap_mode="r")[1000, 0] == 1000


def test_history_is_not_rewritten(tmp_path):
    path = tmp_path / "log.npy"
    log = filled(path, 50)
    inode = path.stat().st_ino
    before = path.read_bytes()
    log.append(np.arange(7))
    after = path.read_bytes()
    changed = [i for i in range(len(before)) if before[i] != after[i]]
    assert path.stat().st_ino == inode and len(after) == len(before) + 56
    assert len(changed) == 1 and changed[0] < 128  # "50" -> "51"


def test_resume_drops_what_will_be_computed_again(tmp_path):
    path = tmp_path / "log.npy"
    filled(path, 30).close()
    log = LossLog(path, step=20)
    assert np.load(path).shape == (20, 7) and path.stat().st_size == 128 + 20 * 56
    log.append([-1] * 7)
    assert np.load(path)[-1, 0] == -1 and np.load(path)[19, 0] == 19


def test_torn_tails_are_repaired(tmp_path):
    path = tmp_path / "log.npy"
    filled(path, 10).close()
    with open(path, "ab") as file:
        file.write(b"x" * 30)  # a row half written
    assert np.load(path).shape == (10, 7)
    LossLog(path, step=10).close()
    assert path.stat().st_size == 128 + 560
    os.truncate(path, 128 + 7 * 56 + 13)  # a power failure: the header is ahead of the rows
    log = LossLog(path, step=7)
    log.append([7.0] * 7)
    np.testing.assert_array_equal(np.load(path)[:, 0], np.arange(8))


def test_lacking_rows_become_nan(tmp_path, capsys):
    path = tmp_path / "log.npy"
    filled(path, 5).close()
    LossLog(path, step=9000).close()
    found = np.load(path)
    assert found.shape == (9000, 7) and found[4, 0] == 4 and np.isnan(found[5:]).all()
    assert "5 of 9000 steps" in capsys.readouterr().out
    path.unlink()
    LossLog(path, step=3).close()
    assert np.isnan(np.load(path)).all()


ROW = dict(zip(COLUMNS, range(7), strict=True))


def logged(folder, run, start, end):
    """Let a run log its steps from `start` to `end`."""
    opt = OPT(log_dir=folder, output=f"runs/{run}", print_freq=1)
    with closing(Logger(opt, run_id=run, step=start)) as logger:
        for _ in range(start, end):
            logger.log(ROW, epoch=1, images=1)


def test_logs_of_an_earlier_run_are_kept(tmp_path, capsys):
    for run, steps in (("a", 4), ("b", 6), ("c", 2)):
        logged(tmp_path, run, 0, steps)
    assert f"holds the losses of an earlier run; they are now in {tmp_path / 'before.1'}" in capsys.readouterr().out
    for folder, run, steps in (("before", "a", 4), ("before.1", "b", 6), (".", "c", 2)):
        assert len(np.load(tmp_path / folder / "log.npy")) == steps
        assert json.loads((tmp_path / folder / "run.json").read_text()) == {"run": run, "output": f"runs/{run}"}
        assert records(tmp_path / folder)[1].get_data("scalar", "loss/d_loss")[-1].id == steps
    logged(tmp_path, "c", 1, 3)
    assert len(losses := np.load(tmp_path / "log.npy")) == 3 and np.isfinite(losses).all()
    assert not (tmp_path / "before.2").exists()


def test_a_run_does_not_go_on_in_the_logs_of_another(tmp_path):
    logged(tmp_path, "a", 0, 4)
    logged(tmp_path, "b", 0, 2)
    refuses(r"another run, whose checkpoints are in runs/b: .*--log_dir .*before", logged, tmp_path, "a", 4, 5)
    assert len(np.load(tmp_path / "log.npy")) == 2
    logged(tmp_path / "before", "a", 4, 5)  # the way out
    assert np.isfinite(np.load(tmp_path / "before" / "log.npy")).all()
    (tmp_path / "run.json").unlink()  # as an earlier version left the folder
    logged(tmp_path, "d", 2, 3)
    assert len(np.load(tmp_path / "log.npy")) == 3


def test_two_runs_do_not_write_the_same_logs(tmp_path):
    opt = OPT(log_dir=tmp_path)
    with held(f"from model.training.logger import Logger, OPT; kept = Logger(OPT(log_dir={opt.log_dir!r}))") as other:
        refuses(rf"is in use by another training run \(process {other.pid}\).*--log_dir", Logger, opt, run_id="b")
    Logger(opt, run_id="b").close()


def npy(shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return V1 + header + bytes(7 * 8)


V1 = b"\x93NUMPY\x01\x00v\x00"


@pytest.mark.parametrize(
    "content", [b"", V1[:6], V1 + b"x" * 200, b"\x93NUMPY\x09\x00v\x00", b"text\n", npy((-1, 7)), npy("((")]
)
def test_file_that_is_no_log_is_not_overwritten(tmp_path, content):
    path = tmp_path / "log.npy"
    path.write_bytes(content)
    filled(path, 3).close()
    assert len(np.load(path)) == 3
    if content:
        assert (tmp_path / "log.npy.old").read_bytes() == content


def test_other_arrays(tmp_path):
    path = tmp_path / "log.npy"
    np.save(path, np.ones((5, 3)))
    LossLog(path, step=2).close()
    assert np.load(tmp_path / "log.npy.old").shape == (5, 3)
    np.save(path, np.full((5, 7), 2, np.float32))  # the same history, written by another program
    LossLog(path, step=4).close()
    assert np.load(path).shape == (4, 7) and (np.load(path) == 2).all()
    np.save(path, np.asfortranarray(np.arange(35.0).reshape(5, 7)))
    LossLog(path, step=3).close()
    assert (np.load(path) == np.arange(21).reshape(3, 7)).all()
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    LossLog(path, step=1).close()
    assert np.load(path).shape == (1, 7)


def test_full_disk(tmp_path):
    log = filled(tmp_path / "log.npy", 10)
    for size in (128 + 560, 128 + 560 + 20):
        with files_up_to(size):
            refuses("cannot write .*log.npy: .*; it ends at step 10", log.append, [1.0] * 7)
        assert np.load(tmp_path / "log.npy").shape == (10, 7)
    (tmp_path / "file").write_text("")
    refuses("cannot write", LossLog, tmp_path / "file" / "log.npy")


def test_kill_at_any_moment(tmp_path):
    code = (
        "import sys; from model.training.loss_log import LossLog\n"
        f"log = LossLog({str(tmp_path / 'log.npy')!r}, step=int(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "while True: log.append([log.rows] * 7)"
    )
    rows = 0
    for round_ in range(5):
        with subprocess.Popen([sys.executable, "-c", code, str(rows)], cwd=ROOT, stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            end = time.monotonic() + 0.02 * (round_ + 1)
            while time.monotonic() < end:
                np.load(tmp_path / "log.npy")  # readers may come at any time
            writer.send_signal(signal.SIGKILL)
        found = np.load(tmp_path / "log.npy")
        assert len(found) > rows
        rows = len(found)
        np.testing.assert_array_equal(found[:, 6], np.arange(rows))


# --- VisualDL


def losses(value):
    return dict.fromkeys(COLUMNS, value)


def records(folder):
    reader = LogReader(file_path=str(folder / VisualDLFile.NAME))
    return {component: list(tags) for component, tags in reader.get_tags().items()}, reader


def test_visualdl_reads_the_records(tmp_path):
    with closing(Logger(OPT(log_dir=tmp_path, print_freq=2), total_steps=4)) as logger:
        for step in range(4):
            logger.log(losses(step), epoch=1, images=2, lrs={"G": 1e-4})
        logger.scalar("score/fid", 12.5)
        logger.picture("samples", Image.new("RGB", (8, 8), (255, 0, 0)))
    tags, reader = records(tmp_path)
    assert {"loss/d_loss", "lr/G", "score/fid"} <= set(tags["scalar"]) and tags["image"] == ["samples"]
    assert [(point.id, point.value) for point in reader.get_data("scalar", "loss/g_loss_vae")] == [(2, 0.5), (4, 2.5)]
    picture = reader.get_data("image", "samples")[0].image.encoded_image_string
    assert picture.startswith(b"\xff\xd8")


@pytest.mark.parametrize("tail", [b"", b"\x05", struct.pack("<Q", 2**50) + b"x", struct.pack("<Q", 2) + b"\xff\xff"])
def test_visualdl_file_is_continued_without_doubles(tmp_path, tail):
    file = VisualDLFile(tmp_path)
    for step in range(1, 11):
        file.scalar("x", step, step)
    file.close()
    with open(tmp_path / VisualDLFile.NAME, "ab") as end:
        end.write(tail)
    file = VisualDLFile(tmp_path, step=6)
    file.scalar("x", 70, 7)
    file.close()
    _, reader = records(tmp_path)
    assert [point.value for point in reader.get_data("scalar", "x")] == [1, 2, 3, 4, 5, 6, 70]
    VisualDLFile(tmp_path).close()  # a new run
    assert "scalar" not in records(tmp_path)[0]


def test_without_visualdl_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("visualdl")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "visualdl", None)
    with closing(Logger(OPT(log_dir=tmp_path, print_freq=1))) as logger:
        logger.log(losses(1.0), epoch=1, images=1)
        logger.picture("samples", Image.new("RGB", (8, 8)))
    assert "no VisualDL records" in capsys.readouterr().out
    assert np.load(tmp_path / "log.npy").shape == (1, 7)


# --- the screen


def test_plain_lines(tmp_path, capsys):
    with closing(Logger(OPT(log_dir=tmp_path, print_freq=3, niter=2), total_steps=7)) as logger:
        for step in range(7):
            logger.log(losses(float(step)), epoch=1, images=4, data_time=0.5)
        logger.message("saved")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["3/7", "6/7", "7/7"] and lines[-1] == "saved"
    assert "epoch 1/2" in lines[0] and "img/s data 0.500 s ETA 0:00:00" in lines[0]
    assert all(f"{name} 1 " in f"{lines[0]} " and f"{name} 4 " in f"{lines[1]} " for name in COLUMNS)  # means


def test_terminal_gets_a_bar(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with closing(Logger(OPT(log_dir=tmp_path, print_freq=2, niter=9), total_steps=2)) as logger:
        logger.log(losses(1.0), epoch=1, images=4)
        assert not capsys.readouterr().out
        logger.log(losses(2.0), epoch=1, images=4)
        logger.message("saved")
    shown = capsys.readouterr()
    assert "step 2/2 | " in shown.out and "d_loss_r 1.5\n" in shown.out and "saved" in shown.out
    assert "2/2 epoch 1/9 " in shown.err and "img/s data 0.000 s ETA 0:00:00" in shown.err


def test_other_ranks_are_silent(tmp_path, capsys):
    with closing(Logger(OPT(log_dir=tmp_path / "log", print_freq=1), enabled=False)) as logger:
        logger.log(losses(1.0), epoch=1, images=1)
        logger.message("x")
        logger.picture("x", None)
        logger.scalar("x", 1)
        logger.sync()
    assert logger.step == 1 and not (tmp_path / "log").exists() and capsys.readouterr().out == ""
