"""train.py as its users run it: by its command line, on tiny data, interrupted in every way."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train as program
from model import checkpoint
from model.errors import UserError
from model.options import OPT

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "--dataroot data --label_nc 6 --crop_size 64 --load_size 68 --ngf 4 --ndf 4 --z_dim 8 --n_layers_D 2 --num_D 1 "
    "--no_vgg_loss --val_images 2 --print_freq 4 --device cpu"
).split()


def write_data(root, train=3, val=3):
    """Pictures of 80x72 with labels 0..5 and 255, in COCO-Stuff's layout."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind in ("img", "label", "inst"):
            (root / f"{split}_{kind}").mkdir(parents=True)
        for i in range(count):
            label = np.kron(rng.choice([0, 1, 2, 3, 4, 5, 255], (9, 10)), np.ones((8, 8))).astype(np.uint8)
            Image.fromarray(label).save(root / f"{split}_label" / f"{split}{i}.png")
            Image.fromarray(label).save(root / f"{split}_inst" / f"{split}{i}.png")
            photo = rng.integers(0, 256, (72, 80, 3), np.uint8)
            Image.fromarray(photo).save(root / f"{split}_img" / f"{split}{i}.jpg")


def command(*options):
    return [sys.executable, str(ROOT / "train.py"), *TINY, *map(str, options)]


def train(folder, *options, status=0):
    """Run train.py in `folder` as a process of its own; its stdout, or with another status expected its stderr."""
    done = subprocess.run(command(*options), cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture
def here(monkeypatch, capsys):
    """A function that runs train.py's main in a folder, in this process, which is quicker; returns its stdout."""

    def run(folder, *options):
        monkeypatch.chdir(folder)
        capsys.readouterr()
        assert program.main([*TINY, *map(str, options)]) == 0
        return capsys.readouterr().out

    return run


def test_unlabelled_behind_the_classes_as_in_camvid(here, tmp_path):
    """label_nc says which id it is; other ids may be named when the run goes on."""
    write_data(tmp_path / "data")
    for path in (tmp_path / "data").glob("*_label/*.png"):
        ids = np.asarray(Image.open(path))
        Image.fromarray(np.where(ids == 255, 6, ids).astype(np.uint8)).save(path)
    folders = [
        "--preset",
        "custom",
        "--dataroot",
        "",
        "--label_dir",
        "data/train_label",
        "--image_dir",
        "data/train_img",
    ]
    options = [*folders, "--no_instance", "--use_vae", "false", "--nThreads", "0", "--display_freq", "0"]
    said = here(tmp_path, *options, "--max_steps", "1")
    assert "data       data/train_label (custom): 3 training" in said
    assert "classes    0..5; unlabelled: 6, 255 (channel 6)\n" in said
    opt = OPT.load(tmp_path / "output" / "opt.yaml")
    assert (opt.label_nc, opt.contain_dontcare_label, opt.semantic_nc) == (6, True, 7)
    assert "changed " not in here(tmp_path, *options, "--max_steps", "1")
    said = here(tmp_path, *options, "--unknown_ids", "0", "--max_steps", "2")
    assert "unknown_ids '' -> '0'" in said and "unlabelled: 6, 0 (channel 6)" in said and "now at step 2" in said
    refused = train(tmp_path, *options, "--contain_dontcare_label", "false", "--fresh", status=2)
    assert (
        "label_nc 6 does not fit them: give --label_nc 7 --contain_dontcare_label false, or, where 6 means" in refused
    )


def losses(folder):
    return np.load(folder / "log" / "log.npy")


def contents(folder):
    """All arrays of the latest checkpoint, and the rest of its state."""
    saved = checkpoint.load(folder / "output" / "model", verify=True)
    flat = {f"{net}:{key}": value for net, arrays in saved.nets.items() for key, value in arrays.items()}
    for name in ("optimizer_G", "optimizer_D"):
        flat.update({f"{name}:{key}": value for key, value in saved.state["trainer"].pop(name).items()})
    del saved.state["rng"], saved.state["run"]
    return flat, saved.state


def assert_same_run(one, other):
    assert losses(one).tobytes() == losses(other).tobytes()
    (arrays, state), (others, other_state) = contents(one), contents(other)
    assert arrays.keys() == others.keys() and len(arrays) > 50
    assert [key for key in arrays if np.asarray(arrays[key]).tobytes() != np.asarray(others[key]).tobytes()] == []
    assert state == other_state


def wait_for(what, process, seconds=120):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end and process.poll() is None, "the run ended before what was waited for"
        time.sleep(0.02)


def rows(folder):
    path = folder / "log" / "log.npy"
    return len(np.load(path)) if path.exists() else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with data and an uninterrupted run of 8 steps, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    write_data(folder / "data")
    out = train(folder, "--max_steps", 8, "--nThreads", 0, "--display_freq", 2, "--save_latest_freq", 4)
    return folder, out


def test_a_run_leaves_what_it_says(whole):
    folder, out = whole
    assert losses(folder).shape == (8, 7) and np.isfinite(losses(folder)).all()
    assert [p.name for p in sorted((folder / "output" / "pics").iterdir())] == [
        f"step_{n:08d}.jpg"
        for n in (2, 3, 4, 6, 8)  # every second step, epochs' ends, the end
    ]
    for name in ("n_g", "n_d", "n_e"):
        assert checkpoint.read_pdparams(folder / "output" / "model" / f"{name}.pdparams")
    assert OPT.load(folder / "output" / "opt.yaml").max_steps == 8
    assert list((folder / "log").glob("vdlrecords.*"))
    for words in (
        "3 training pictures",
        "3 steps of 1 an epoch",
        "from new weights, to step 8",
        "step 8/8",
        "parameters: G ",
        "output/model/step_00000008",
        "visualdl --logdir log",
    ):
        assert words in out
    meta = checkpoint.load(folder / "output" / "model").meta
    assert (meta["step"], meta["epoch"], meta["epoch_end"]) == (8, 2, False)


def test_stop_and_resume_is_exact(whole, tmp_path):
    """Stopped by SIGTERM at whichever step, resumed twice with other workers: bit for bit the uninterrupted run."""
    (tmp_path / "data").symlink_to(whole[0] / "data")
    saved = ["--display_freq", 2, "--save_latest_freq", 4]
    process = subprocess.Popen(
        command("--nThreads", 2, "--max_steps", 8, *saved),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(lambda: rows(tmp_path) >= 2, process)
    process.send_signal(signal.SIGTERM)
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 130 and "stopped by SIGTERM" in out and "go on: the same command" in out
    stopped = checkpoint.load(tmp_path / "output" / "model").step
    assert stopped == rows(tmp_path) and 2 <= stopped < 8
    if stopped < 5:  # once more, so that a stop falls into an epoch's middle
        train(tmp_path, "--nThreads", 2, "--max_steps", 5, *saved)
    out = train(tmp_path, "--nThreads", 0, "--max_steps", 8, *saved)
    assert "resumes output/model/step_" in out and "nThreads 2 -> 0" in out
    assert_same_run(whole[0], tmp_path)


def test_a_complete_run_says_so(whole, here):
    out = here(whole[0], "--max_steps", 8)
    assert "nothing left to train: step 8" in out and rows(whole[0]) == 8


def test_other_networks_are_refused(whole):
    error = train(whole[0], "--ngf", 8, status=2)
    assert "ngf is 4 there and 8 now" in error and "--fresh" in error


def test_non_finite_loss_keeps_the_checkpoint(whole, tmp_path, here):
    """The message names the batch's files, the last good checkpoint stays, the log has finite numbers only."""
    (tmp_path / "data").symlink_to(whole[0] / "data")
    here(tmp_path, "--max_steps", 1, "--nThreads", 0)
    before = {p: p.read_bytes() for p in (tmp_path / "output" / "model").rglob("*.p*") if p.is_file()}
    message = (
        r"step \d: .*(nan|inf).* after the pictures train\d; the last good checkpoint, "
        r"output/model/step_00000001, is untouched"
    )
    with pytest.raises(UserError, match=message):
        here(
            tmp_path,
            "--max_steps",
            8,
            "--nThreads",
            0,
            "--lr",
            "1e30",
            "--save_latest_freq",
            0,
            "--save_epoch_freq",
            99,
        )
    # Weights that are not finite are not saved either, although the step's losses were.
    with pytest.raises(UserError, match="weights are not finite.* is untouched"):
        here(tmp_path, "--max_steps", 2, "--nThreads", 0, "--lr", "1e38", "--display_freq", 0)
    after = {p: p.read_bytes() for p in (tmp_path / "output" / "model").rglob("*.p*") if p.is_file()}
    assert before == after and np.isfinite(losses(tmp_path)).all()


def test_fresh_moves_the_old_run_aside(tmp_path, here):
    write_data(tmp_path / "data", val=0)
    here(tmp_path, "--max_steps", 1, "--nThreads", 0)
    out = here(tmp_path, "--max_steps", 2, "--nThreads", 0, "--fresh")
    assert "earlier checkpoints are now in output/model.1" in out
    assert "previews   of training maps" in out and (tmp_path / "output/pics/step_00000002.jpg").exists()
    assert checkpoint.load(tmp_path / "output" / "model").step == 2 and rows(tmp_path) == 2
    assert checkpoint.load(tmp_path / "output" / "model.1").step == 1
    assert len(np.load(tmp_path / "log" / "before" / "log.npy")) == 1
    assert [path.name for path in (tmp_path / "output" / "pics.1").iterdir()] == ["step_00000001.jpg"]


def test_a_bad_file_costs_no_step(tmp_path, here):
    write_data(tmp_path / "data", train=4, val=0)
    photo = tmp_path / "data" / "train_img" / "train2.jpg"
    whole = photo.read_bytes()
    photo.write_bytes(whole[: len(whole) // 2])
    options = ["--nThreads", 0, "--serial_batches", "--max_steps", 6]
    with pytest.raises(UserError, match=r"train2\.jpg.*; step 2 is saved in .*step_00000002$"):
        here(tmp_path, *options)
    with pytest.raises(UserError, match=r"train2\.jpg.*; step 2 is saved in .*step_00000002$"):
        here(tmp_path, *options)  # nothing new to save
    photo.write_bytes(whole)
    assert "resumes output/model/step_00000002 (step 2, epoch 1, batch 3)" in here(tmp_path, *options)
    assert rows(tmp_path) == 6 and np.isfinite(losses(tmp_path)).all()


def test_runs_do_not_share_logs_unnoticed(tmp_path, here):
    write_data(tmp_path / "data", val=0)
    tiny = ["--nThreads", 0, "--display_freq", 0]
    here(tmp_path, *tiny, "--max_steps", 2)
    before = losses(tmp_path)
    out = here(tmp_path, *tiny, "--max_steps", 1, "--output", "other", "--seed", 5)
    assert "log holds the losses of an earlier run; they are now in log/before" in out
    with pytest.raises(UserError, match=r"another run, whose checkpoints are in other: .*--log_dir .*log/before"):
        here(tmp_path, *tiny, "--max_steps", 3)
    here(tmp_path, *tiny, "--max_steps", 3, "--log_dir", "log/before")
    after = np.load(tmp_path / "log" / "before" / "log.npy")
    assert len(after) == 3 and after[:2].tobytes() == before.tobytes()


def session_options(folder, **changes):
    values = dict(
        dataroot=str(folder / "data"),
        label_nc=6,
        crop_size=64,
        load_size=68,
        ngf=4,
        ndf=4,
        z_dim=8,
        n_layers_D=2,
        num_D=1,
        no_vgg_loss=True,
        batchSize=1,
        nThreads=0,
        val_images=1,
        device="cpu",
        output=str(folder / "output"),
        log_dir=str(folder / "log"),
    )
    return OPT(**{**values, **changes})


def test_other_batch_size_goes_on_at_the_same_share_of_the_epoch(tmp_path, capsys):
    from model.session import Session

    write_data(tmp_path / "data", train=4, val=1)
    with Session(session_options(tmp_path)) as run:
        for batch in run.loader:
            run.step(batch, 0.0)
            if run.trainer.steps == 2:
                break
        run.finish()
    with Session(session_options(tmp_path, batchSize=2)) as run:
        assert (run.epoch, run.position, len(run.loader)) == (1, 1, 2)
        assert run.total_steps == 2 + 1 + 49 * 2
    assert "of an epoch were 4 and are 2 now" in capsys.readouterr().out


def test_learning_rate_falls_by_epochs(tmp_path):
    from model.session import Session

    write_data(tmp_path / "data", train=1)
    with Session(session_options(tmp_path, niter=1, niter_decay=2, val_images=0)) as run:
        rates = []
        while not run.is_complete:
            run.trainer.set_epoch(run.epoch)
            for batch in run.loader:
                rates.append(run.trainer.optimizer_D.get_lr())
                run.step(batch, 0.0)
    assert rates == pytest.approx([4e-4, 4e-4, 2e-4])


def test_quick_fid_keeps_the_best(tmp_path, monkeypatch):
    from model.metrics.fid import FeatureExtractor
    from model.session import Session

    class Thumbnail:
        def __call__(self, x):
            return x.mean([2, 3])

    write_data(tmp_path / "data")
    monkeypatch.setattr("model.metrics.report.load_extractor", lambda: FeatureExtractor(Thumbnail(), "x", 3))
    with Session(session_options(tmp_path, val_every=1)) as run:
        for score in (5.0, 3.0, 4.0):
            run.validate()
            assert np.isfinite(run.score) and run.save_is_due()
            run.trainer.steps += 1
            run.score = score
            run.save()
    best = checkpoint.load(tmp_path / "output" / "model" / "best")
    assert (best.step, best.meta["fid"]) == (2, 3.0)


def test_missing_fid_weights_are_told_and_training_goes_on(tmp_path, monkeypatch, capsys):
    from model.session import Session

    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "data")
    with Session(session_options(tmp_path, val_every=1)) as run:
        run.validate()
        assert run.score is None
    assert "no FID     every 1 epochs" in capsys.readouterr().out


def test_missing_data_leaves_no_trace(tmp_path, here):
    with pytest.raises(UserError, match="data/train_label is not a folder"):
        here(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_vgg_is_told(tmp_path, here):
    write_data(tmp_path / "data")
    with pytest.raises(UserError, match="vgg19.*download.*--no_vgg_loss"):
        here(tmp_path, "--no_vgg_loss", "false", "--vgg_path", "nowhere/vgg19pretrain.pdparams")


def test_unknown_device_is_one_line():
    from model.device import set_device

    with pytest.raises(UserError, match="device gpu:7 cannot be used"):
        set_device("gpu:7")


@pytest.mark.slow
def test_kill_at_any_moment(tmp_path):
    """20 kills -9 at random moments, in starts, steps and saves: nothing saved is lost, the end is the unbroken run."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        write_data(folder / "data")
    options = ["--nThreads", 2, "--save_latest_freq", 1, "--display_freq", 5, "--niter", 1000]
    rng, steps, latest = random.Random(os.getpid()), 0, one / "output" / "model" / "latest"
    for kill in range(20):
        before = latest.resolve()
        process = subprocess.Popen(command("--max_steps", 100000, *options), cwd=one, stdout=subprocess.DEVNULL)
        if kill % 2:  # in the steps and saves after a new checkpoint; otherwise anywhere from the start on
            wait_for(lambda old=before: latest.resolve() != old, process)
        else:
            time.sleep(4 * rng.random())
        time.sleep(rng.random())
        process.kill()
        process.wait()
        if not checkpoint.exists(one / "output" / "model"):
            assert steps == 0  # killed before the first checkpoint was whole
            continue
        saved = checkpoint.load(one / "output" / "model", verify=True)
        assert saved.step >= steps and rows(one) >= saved.step
        steps = saved.step
    assert steps >= 10
    assert f"(step {steps}, " in train(one, "--max_steps", steps + 2, *options)
    train(other, "--max_steps", steps + 2, *options)
    assert_same_run(one, other)
