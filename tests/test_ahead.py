"""Loops compiled ahead by a second process: what it leaves for the first, and what happens without it."""

import atexit
import os
import subprocess
import sys

import numba
import numpy as np
import paddle
import pytest
from common import ROOT
from numba.core import caching

from model import OPT, Trainer
from model.ops import ahead, jit
from model.vgg import VGG19

SCRIPT = """
import os, sys, time
from pathlib import Path
from model.ops import ahead
ahead.CORES = 2
ahead.start("cpu")
if ahead.STARTED and sys.argv[1] == "kill":
    while not list(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nbi")):
        time.sleep(0.01)
    ahead.STARTED[0].kill()
if ahead.STARTED:
    ahead.STARTED[0].wait()
import numpy as np
from numba.core import event
from model import Synthesizer
from model.ops import jit

class Counter(event.Listener):
    count = 0
    def on_start(self, event):
        Counter.count += event.data["dispatcher"] in jit.SIGNATURES
    def on_end(self, event):
        pass

event.register("numba:compile", Counter())
synthesizer = Synthesizer.load("model/serving/assets/sample", device="cpu")
ahead.finish()
compiled = Counter.count
picture = synthesizer(np.repeat(np.arange(128, dtype=np.int32)[:, None] // 64, 128, 1), seed=1)
print(len(ahead.STARTED), compiled, Counter.count, np.asarray(picture).sum())
"""


def painted(folder, how):
    """Whether a process began; kernels compiled in `finish`, in it and painting; the picture's sum; lines told."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", SCRIPT, how]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("compiling loops")]
    return *map(int, done.stdout.split()), said


def test_what_the_process_compiled_is_not_compiled_again(tmp_path):
    began, in_finish, in_all, total, said = painted(tmp_path / "cache", "wait")
    assert began and (in_finish, in_all) == (0, 0)
    assert len(said) == 1 and ", once:" in said[0]
    began, _, in_all, again, said = painted(tmp_path / "cache", "wait")
    assert (began, in_all, again, said) == (0, 0, total, [])  # everything was in the cache


def test_a_killed_process_leaves_its_work_to_finish(tmp_path):
    began, in_finish, in_all, total, _ = painted(tmp_path / "cache", "kill")
    assert began and 0 < in_finish == in_all
    *_, in_all, again, _ = painted(tmp_path / "cache", "wait")
    assert (in_all, again) == (0, total)


def test_kernels_are_called_with_the_types_that_they_declare():
    """Others would be compiled where somebody waits; all kernels take part in this step, which has all losses."""
    paddle.seed(0)
    options = {"label_nc": 8, "ngf": 8, "ndf": 36, "z_dim": 4, "use_vae": True, "batchSize": 2}
    trainer = Trainer(OPT(crop_size=128, load_size=128, **options), VGG19())
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(0, 8, (2, 16, 16)), np.ones((8, 8), int))
    photo = rng.uniform(-1, 1, (2, 3, 128, 128)).astype(np.float32)
    trainer.step({"image": photo, "label": label, "instance": label})
    for kernel, types in jit.SIGNATURES.items():
        assert [tuple(signature) for signature in kernel.signatures] == [types], kernel


@pytest.mark.parametrize(("device", "cores"), [("gpu", 4), ("gpu:1", 4), ("cpu", 1), ("auto", 1)])
def test_no_process_where_there_is_nothing_or_no_core_for_it(device, cores, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(ahead, "STARTED", [])
    monkeypatch.setattr(ahead, "CORES", cores)
    monkeypatch.setattr(subprocess, "Popen", pytest.fail)
    ahead.start(device)
    ahead.finish()


def test_works_where_no_process_can_be_started(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise BlockingIOError

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(ahead, "STARTED", [])
    monkeypatch.setattr(ahead, "CORES", 2)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    ahead.start("cpu")
    ahead.finish()


@pytest.mark.parametrize(
    ("there", "training", "begins"),
    [
        ([], False, 1),
        (["loops.columns-9.py311.nbi"], False, 0),
        (["loops.columns-9.py311.nbi"], True, 1),
        (["loops.columns_grad-9.py311.nbi"], True, 0),
    ],
)
def test_a_process_begins_where_the_cache_lacks_loops_of_the_kind(there, training, begins, monkeypatch, tmp_path):
    class Process:
        kill = None

        def __init__(self, command, **_):
            commands.append(command[-1])

    commands = []
    (tmp_path / "ops").mkdir()
    for name in there:
        (tmp_path / "ops" / name).touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(ahead, "STARTED", [])
    monkeypatch.setattr(ahead, "CORES", 2)
    monkeypatch.setattr(atexit, "register", lambda function: None)
    monkeypatch.setattr(subprocess, "Popen", Process)
    ahead.start("auto", training)
    ahead.start("auto", training)  # at most once
    assert commands == ["training" if training else "painting"] * begins


def test_compiles_without_a_folder_for_the_cache_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(jit, "SIGNATURES", {})
    monkeypatch.setattr(jit, "is_cached", True)
    monkeypatch.setattr(jit.Compilations, "told", False)
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])

    @jit.compiled(numba.int64)
    def doubled(number):
        return 2 * number

    assert doubled(3) == 6 and not jit.is_cached
    assert "at each start (set NUMBA_CACHE_DIR" in capsys.readouterr().err
