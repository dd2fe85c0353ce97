"""train.py as its users run it: by its command line, on tiny data, interrupted in every way."""

import dataclasses
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from common import ROOT, python, refuses, same, save
from PIL import Image
from training_cases import arrays_of

import train as program
from model.command_line import parse_train
from model.metrics.fid import FeatureExtractor
from model.options import ARCHITECTURE, OPT
from model.run import Session
from model.training import checkpoint
from model.weights.paddle_file import read_pdparams, write_state
from tools import convert_weights

TINY = (
    "--dataroot data --label_nc 6 --crop_size 64 --load_size 68 --ngf 4 --ndf 4 --z_dim 8 --n_layers_D 2 --num_D 1 "
    "--no_vgg_loss --val_images 2 --print_freq 4 --device cpu"
).split()


def write_data(root, train=3, val=3):
    """Pictures of 80x72 with labels 0..5 and 255, in COCO-Stuff's layout."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            label = np.kron(rng.choice([0, 1, 2, 3, 4, 5, 255], (9, 10)), np.ones((8, 8))).astype(np.uint8)
            save(root / f"{split}_label" / f"{split}{i}.png", label)
            save(root / f"{split}_inst" / f"{split}{i}.png", label)
            save(root / f"{split}_img" / f"{split}{i}.jpg", rng.integers(0, 256, (72, 80, 3), np.uint8))


def command(*options):
    return [sys.executable, str(ROOT / "train.py"), *TINY, *map(str, options)]


def train(folder, *options):
    """What train.py prints, run in `folder` as a process of its own."""
    return python(*command(*options)[1:], cwd=folder).stdout


@pytest.fixture
def here(monkeypatch, main):
    """A function that runs train.py's main in a folder; returns its stdout."""

    # Paddle's loader looks once a second whether its thread has ended.
    clock = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / 5)})
    monkeypatch.setattr("paddle.io.dataloader.dataloader_iter.time", clock)

    def run(folder, *options):
        monkeypatch.chdir(folder)
        return main(program, *TINY, *options)

    return run


def test_unlabelled_behind_the_classes_as_in_camvid(here, tmp_path):
    """label_nc says which id it is; other ids may be named when the run goes on."""
    write_data(tmp_path / "data")
    for path in (tmp_path / "data").glob("*_label/*.png"):
        ids = np.asarray(Image.open(path))
        Image.fromarray(np.where(ids == 255, 6, ids).astype(np.uint8)).save(path)
    folders = "--preset custom --dataroot= --label_dir data/train_label --image_dir data/train_img --no_instance"
    options = [*folders.split(), "--use_vae", "false", "--nThreads", "0", "--display_freq", "0"]
    said = here(tmp_path, *options, "--max_steps", "1")
    assert "data       data/train_label (custom): 3 training" in said
    assert "classes    0..5; unlabelled: 6, 255 (channel 6)\n" in said
    opt = OPT.load(tmp_path / "output" / "opt.yaml")
    assert (opt.label_nc, opt.contain_dontcare_label, opt.semantic_nc) == (6, True, 7)
    assert "changed " not in here(tmp_path, *options, "--max_steps", "1")
    said = here(tmp_path, *options, "--unknown_ids", "0", "--max_steps", "2")
    assert "unknown_ids '' -> '0'" in said and "unlabelled: 6, 0 (channel 6)" in said and "now at step 2" in said
    said = "label_nc 6 does not fit them: give --label_nc 7 --contain_dontcare_label false, or, where 6 means"
    refuses(said, here, tmp_path, *options, "--contain_dontcare_label", "false", "--fresh")


def losses(folder):
    return np.load(folder / "log" / "log.npy")


def contents(folder):
    """All arrays of the latest checkpoint, and the rest of its state."""
    saved = checkpoint.load(folder / "output" / "model", verify=True)
    flat = {f"{net}:{key}": value for net, arrays in saved.nets.items() for key, value in arrays.items()}
    for name in ("optimizer_G", "optimizer_D"):
        flat.update({f"{name}:{key}": value for key, value in saved.state["trainer"].pop(name).items()})
    del saved.state["run"]
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
    shown = (2, 3, 4, 6, 8)  # every second step, epochs' ends, the end
    assert sorted(p.name for p in (folder / "output" / "pics").iterdir()) == [f"step_{n:08d}.jpg" for n in shown]
    for name in ("n_g", "n_d", "n_e"):
        assert read_pdparams(folder / "output" / "model" / f"{name}.pdparams")
    assert OPT.load(folder / "output" / "opt.yaml").max_steps == 8
    assert list((folder / "log").glob("vdlrecords.*"))
    said = "3 training pictures|3 steps of 1 an epoch|from new weights, to step 8|step 8/8|parameters: G |"
    said += "output/model/step_00000008|visualdl --logdir log"
    assert [words for words in said.split("|") if words not in out] == []
    meta = checkpoint.load(folder / "output" / "model").meta
    assert (meta["step"], meta["epoch"], meta["epoch_end"]) == (8, 2, False)


def test_stop_and_resume_is_exact(whole, tmp_path):
    """Stopped by SIGTERM at whichever step, resumed twice with other workers: bit for bit the uninterrupted run."""
    (tmp_path / "data").symlink_to(whole[0] / "data")
    saved = ["--display_freq", 2, "--save_latest_freq", 4]
    pipe = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    process = subprocess.Popen(command("--nThreads", 2, "--max_steps", 8, *saved), cwd=tmp_path, **pipe)
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


def test_non_finite_loss_keeps_the_checkpoint(whole, tmp_path, here):
    """The message names the batch's files, the last good checkpoint stays, the log has finite numbers only."""
    (tmp_path / "data").symlink_to(whole[0] / "data")
    here(tmp_path, "--max_steps", 1, "--nThreads", 0)
    before = {p: p.read_bytes() for p in (tmp_path / "output" / "model").rglob("*.p*") if p.is_file()}
    message = r"step \d: .*(nan|inf).* after the pictures train\d; the last good checkpoint, .*_00000001, is untouched"
    options = [tmp_path, "--nThreads", 0, "--max_steps"]
    refuses(message, here, *options, 8, *"--lr 1e30 --save_latest_freq 0 --save_epoch_freq 99".split())
    # Weights that are not finite are not saved either, although the step's losses were.
    refuses("weights are not finite.* is untouched", here, *options, 2, *"--lr 1e38 --display_freq 0".split())
    after = {p: p.read_bytes() for p in (tmp_path / "output" / "model").rglob("*.p*") if p.is_file()}
    assert before == after and np.isfinite(losses(tmp_path)).all()


def test_fresh_moves_the_old_run_aside(tmp_path, here):
    write_data(tmp_path / "data", val=0)
    here(tmp_path, "--max_steps", 1, "--nThreads", 0)
    out = here(tmp_path, "--max_steps", 2, "--nThreads", 0, "--fresh")
    assert "earlier checkpoints are now in output/model.1" in out and "not read" not in out
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
    options = ["--nThreads", 0, "--serial_batches", "--max_steps", 6, "--val_images", 1]  # the preview reads train0
    for _ in range(2):  # the second time, there is nothing new to save
        refuses(r"train2\.jpg.*; step 2 is saved in .*step_00000002$", here, tmp_path, *options)
    photo.write_bytes(whole)
    assert "resumes output/model/step_00000002 (step 2, epoch 1, batch 3)" in here(tmp_path, *options)
    assert rows(tmp_path) == 6 and np.isfinite(losses(tmp_path)).all()


def test_runs_do_not_share_logs_unnoticed(tmp_path, here):
    write_data(tmp_path / "data", val=0)
    tiny = ["--nThreads", 0, "--display_freq", 0]
    here(tmp_path, *tiny, "--max_steps", 2)
    out = here(tmp_path, *tiny, "--max_steps", 1, "--output", "other", "--seed", 5)
    assert "log holds the losses of an earlier run; they are now in log/before" in out
    refuses("another run, whose checkpoints are in other: .*--log_dir", here, tmp_path, *tiny, "--max_steps", 3)


def session_options(folder, **changes):
    places = {"dataroot": "data", "output": "output", "log_dir": "log"}
    words = [word for name, place in places.items() for word in (f"--{name}", str(folder / place))]
    opt = parse_train([*TINY, *words, "--batchSize", "1", "--nThreads", "0", "--val_images", "1"])
    return dataclasses.replace(opt, **changes)


def test_other_batch_size_goes_on_at_the_same_share_of_the_epoch(tmp_path, capsys):
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
    write_data(tmp_path / "data", train=1)
    with Session(session_options(tmp_path, niter=1, niter_decay=2, val_images=0)) as run:
        rates = []
        while not run.is_complete:
            run.trainer.set_epoch(run.epoch)
            for batch in run.loader:
                rates.append(run.trainer.optimizer_D.get_lr())
                run.step(batch, 0.0)
    assert rates == pytest.approx([4e-4, 4e-4, 2e-4])


class Thumbnail:
    """A quick stand-in for the Inception."""

    def __call__(self, x):
        return x.mean([2, 3])


def test_quick_fid_keeps_the_best(tmp_path, monkeypatch):
    write_data(tmp_path / "data")
    monkeypatch.setattr("model.metrics.evaluation.load_extractor", lambda: FeatureExtractor(Thumbnail(), "x", 3))
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
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "data")
    with Session(session_options(tmp_path, val_every=1)) as run:
        run.validate()
        assert run.score is None
    assert "no FID     every 1 epochs" in capsys.readouterr().out


def test_missing_data_leaves_no_trace(tmp_path, here):
    refuses("data/train_label is not a folder", here, tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- what may change at a resume ----

START = "--ngf 2 --ndf 2 --z_dim 4 --crop_size 64 --nThreads 0 --batchSize 2 --val_images 1 --display_freq 0".split()
FOLDERS = (
    "--preset coco_stuff --dataset_mode custom --dataroot= "
    "--label_dir more/train_label --image_dir more/train_img --instance_dir more/train_inst"
)
# Options of which another value is not simply made from the first, or does not go alone.
OTHER = {
    "preset": "--preset ade20k_mindspore --dataset_mode coco_stuff --no_instance false --use_vae --batchSize 1",
    **dict.fromkeys(("dataset_mode", "label_dir", "image_dir", "instance_dir"), FOLDERS),
    "dataroot": "--dataroot more",
    "unknown_ids": "--unknown_ids 5,255",
    "preprocess_mode": "--preprocess_mode scale_width_and_crop",
    "crop_size": "--crop_size 32",
    "aspect_ratio": "--aspect_ratio 2 --preprocess_mode fixed",
    "output_nc": "--output_nc 1",
    "norm_G": "--norm_G spadeinstance3x3",
    "norm_D": "--norm_D spectralbatch",
    "norm_E": "--norm_E none",
    "no_vgg_loss": "--no_vgg_loss false",
    "beta1": "--beta1 0.5",
    "niter": "--niter 1 --niter_decay 3",
    "max_steps": "--max_steps 3",
    "device": "--device gpu:7",
    "name": "--name again --output output --log_dir log",
    "val_every": "--val_every 1",
}
# What is refused, and where it says why; the rest goes on.
REFUSED = {
    **dict.fromkeys(ARCHITECTURE, r"was trained with other networks: .*{name} is .* there and .* now"),
    "aspect_ratio": "start|aspect_ratio",
    "contain_dontcare_label": "255 is outside .*contain_dontcare_label",
    "output_nc": "output_nc",
    "palette": "other: not a palette file",
    "no_vgg_loss": "no vgg19 weights there; .* --no_vgg_loss",
    "device": "device gpu:7 cannot be used",
    "amp": "amp needs a GPU",
}


def other_value(field, value):
    """A valid value of an option that is not the one it has, as the command line takes it."""
    kinds = getattr(field.type, "__args__", (field.type,))
    if bool in kinds:
        return str(not value).lower()
    if field.metadata["choices"]:
        return next(choice for choice in field.metadata["choices"] if choice != value)
    return (value or 1) + 1 if int in kinds else (value or 0.9) / 2 if float in kinds else "other"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with data, more data and a run of one step."""
    folder = tmp_path_factory.mktemp("begun")
    write_data(folder / "data")
    write_data(folder / "more", train=5)
    train(folder, *START, "--max_steps", 1)
    return folder


@pytest.fixture
def go(begun, tmp_path, here):
    """A function that runs train.py's main in tmp_path, with START's options, on the data of `begun`; its stdout."""
    for name in ("data", "more"):
        (tmp_path / name).symlink_to(begun / name)
    return lambda *options: here(tmp_path, *START, *options)


@pytest.fixture
def go_on(begun, tmp_path, go):
    """As `go`, after the step of `begun`."""
    for name in ("output", "log"):
        shutil.copytree(begun / name, tmp_path / name, symlinks=True)
    return go


@pytest.mark.parametrize("field", dataclasses.fields(OPT), ids=lambda field: field.name)
def test_every_option_may_change_at_a_resume_or_is_refused_in_one_line(begun, tmp_path, go_on, field):
    value = getattr(OPT.load(begun / "output" / "opt.yaml"), field.name)
    given = OTHER.get(field.name, f"--{field.name}={other_value(field, value)}").split()
    options = ["--max_steps", 2, *given]
    if field.name in REFUSED:
        refuses(REFUSED[field.name].format(name=field.name), go_on, *options)
        assert checkpoint.load(tmp_path / "output" / "model", verify=True).step == 1
        return
    out = go_on(*options)
    if field.name in ("output", "name", "fresh"):
        assert "resumes" not in out and "to step 2" in out
        return
    now = OPT.load(tmp_path / "output" / "opt.yaml")
    assert getattr(now, field.name) != value
    assert "resumes output/model/step_00000001 (step 1, " in out and f"step {now.max_steps}/{now.max_steps}" in out
    told = "not used " if field.name.startswith("init_") else "changed "
    assert field.name == "preset" or re.search(rf"^{told}.*\b{field.name} ", out, re.M)
    assert ("first ones start at 0" in out) == (now.beta1 > 0)
    saved = checkpoint.load(tmp_path / "output" / "model", verify=True)
    assert saved.step == now.max_steps and np.isfinite(np.load(Path(now.log_dir, "log.npy"))[-1]).all()
    assert any("moment1" in key for key in saved.state["trainer"]["optimizer_G"]) == (now.beta1 > 0)


def test_an_optimiser_that_made_no_step_is_saved_as_it_was(begun, tmp_path, go):
    """D's extra step is the only one between a resume and a save."""
    common = ["--batchSize", 1, "--max_steps"]
    go(*common, 1)
    before = contents(tmp_path)[0]
    go(*common, 2, "--D_steps_per_G", 2, "--beta1", 0.5)
    after = contents(tmp_path)[0]
    for key, array in before.items():
        if key.startswith("optimizer_G") and "moment2" in key:
            np.testing.assert_array_equal(after[key], array)
            assert not after[key.replace("moment2", "moment1")].any()
            assert float(after[key.replace("moment2", "beta1_pow_acc")][0]) == 0.5
    assert any("n_d" in key and "moment1" in key and array.any() for key, array in after.items())
    go(*common, 3, "--D_steps_per_G", 2, "--beta1", 0.5)


# ---- starting from given networks ----


def networks_of(folder):
    return dict(checkpoint.load(folder / "output" / "model", verify=True).nets)


@pytest.fixture
def first_networks(monkeypatch):
    """The networks with which sessions that are opened here begin, each {name: {key: array}}."""
    found, banner = [], Session._banner

    def watch(run, origin):
        found.append(arrays_of(run.trainer))
        return banner(run, origin)

    monkeypatch.setattr(Session, "_banner", watch)
    return found


def parameters(nets, name):
    """Without statistics and spectral vectors, which averaged networks have anew."""
    return {"": {k: a for k, a in nets[name].items() if not re.search("running|tracked|weight_[uv]", k)}}


PLACES = ("output", "output/model", "output/model/latest", "output/model/step_00000001", "output/model/n_g.pdparams")


@pytest.mark.parametrize("place", PLACES)
def test_a_run_starts_from_another_run_s_networks(begun, tmp_path, go, first_networks, place):
    out = go("--max_steps", 1, "--init_from", begun / place)
    for letter in "GDE":
        assert re.search(rf"^weights +{letter} taken from \S*step_00000001/n_{letter.lower()}.pdparams", out, re.M)
    assert f"start      from the weights of {begun / place}, to step 1" in out
    same(first_networks[0], networks_of(begun))
    saved = checkpoint.load(tmp_path / "output" / "model")
    assert (saved.step, saved.state["trainer"]["draws"]) == (1, 2) and rows(tmp_path) == 1
    steps = {float(a[0]) for k, a in contents(tmp_path)[0].items() if "beta2_pow_acc" in k}
    assert steps == {np.float32(0.9) * np.float32(0.9)}  # Adam's first step


def test_the_checkpoint_wins_over_init_from(begun, tmp_path, go, first_networks):
    shutil.copytree(begun / "output", tmp_path / "given", symlinks=True)
    command = ["--max_steps", 2, "--init_from", "given"]
    go(*command)
    assert OPT.load(tmp_path / "output" / "opt.yaml").init_from == "given"
    shutil.rmtree(tmp_path / "given")  # not needed again
    for options in (command, ["--max_steps", 3]):
        trained = networks_of(tmp_path)
        out = go(*options)
        assert "resumes output/model/step_00000002" in out and "init_from" not in "".join(re.findall("changed.*", out))
        assert ("not used   init_from 'given': the run goes on from its own checkpoint" in out) == (options is command)
        same(first_networks[-1], trained)
    refuses("init_from given does not exist", go, *command, "--fresh")
    trained = networks_of(tmp_path)
    assert checkpoint.load(tmp_path / "output" / "model").step == 3
    out = go("--max_steps", 1, "--init_from", "output", "--fresh")  # from what it moves aside
    assert "anew from the weights of output; the earlier checkpoints are now in output/model.1, to step 1" in out
    same(first_networks[-1], trained)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz", ".pdparams"])
def test_a_run_starts_from_converted_weights(begun, tmp_path, go, first_networks, suffix):
    for letter in "GDE":
        source, target = f"output/model/n_{letter.lower()}.pdparams", f"w/latest_net_{letter}{suffix}"
        assert convert_weights.main([str(begun / source), str(tmp_path / target)]) == 0
    (tmp_path / "w" / "iter.txt").write_text("(1, 0)")
    out = go("--max_steps", 1, "--init_from", "w")
    assert re.search(rf"^weights +E taken from w/latest_net_E{suffix} \(.*, 8,230 parameters\)", out, re.M)
    same(first_networks[0], networks_of(begun))
    (tmp_path / "w" / f"latest_net_D{suffix}").unlink()
    out = go("--max_steps", 1, "--fresh", "--init_from", f"w/latest_net_G{suffix}")
    assert "weights    D is new: there is none beside w/latest_net_G" in out
    new = first_networks[1]
    same({n: new[n] for n in ("n_g", "n_e")}, {n: first_networks[0][n] for n in ("n_g", "n_e")})
    assert any((new["n_d"][k] != array).any() for k, array in first_networks[0]["n_d"].items())


def test_the_average_starts_from_the_generator(begun, tmp_path, go, first_networks):
    """Also with a run that has averaged weights; these are taken where their file is named."""
    common = ["--max_steps", 1, "--ema", 0.5]
    go(*common, "--init_from", begun / "output")
    for net in ("n_g", "n_e"):
        same(parameters(first_networks[0], f"{net}_ema"), parameters(first_networks[0], net))
    saved = networks_of(tmp_path)
    options = ["--output", "o", "--log_dir", "l", "--init_from"]
    go(*common, *options, "output")
    same(parameters(first_networks[1], "n_g_ema"), parameters(saved, "n_g"))
    go(*common, *options, "output/model/n_g_ema.pdparams", "--fresh")
    taken = {"n_g": saved["n_g_ema"], "n_e": saved["n_e_ema"], "n_d": saved["n_d"]}
    same({name: first_networks[2][name] for name in taken}, taken)


MISFITS = {
    "--label_nc 9": r"n_g.pdparams does not fit SPADEGenerator: .*mlp_shared.0.weight is \[128, 8, 3, 3\], the "
    r"network's is \[128, 11, 3, 3\].*maps of 8 channels \(not 11\).*: --label_nc 6",
    "--no_instance": r"maps of 8 channels \(not 7\), .* \+ 1 without no_instance",
    "--ngf 4": r"n_g.pdparams .*these weights fit --ngf 2 \(not 4\)",
    "--ndf 4 --num_D 2": r"n_d.pdparams .*missing.*of another shape.*fit --ndf 2 \(not 4\); --num_D 1 \(not 2\)",
    "--n_layers_D 3": r"n_d.pdparams .*fit --n_layers_D 2",
    "--norm_G spadeinstance5x5": r"--norm_G spectralspadesyncbatch3x3 \(not spadeinstance5x5\)",
    "--norm_D batch": r"--norm_D spectralinstance",
    "--norm_E none": r"n_e.pdparams .*--norm_E spectralinstance",
    "--use_vae false": r"fc.weight is \[128, 4\].*--use_vae true \(not false\)",
    "--z_dim 8": r"fc.weight is \[128, 4\], the network's is \[128, 8\].*--z_dim 4 \(not 8\)",
    "--crop_size 32": r"a first feature map of 4 cells \(not 1\), as crop_size",
}


@pytest.mark.parametrize("options", MISFITS)
def test_networks_that_do_not_fit_are_told_with_the_options_that_would(begun, tmp_path, go, options):
    refuses(MISFITS[options], go, "--max_steps", 1, *options.split(), "--init_from", begun / "output")
    assert not (tmp_path / "log" / "log.npy").exists()


@pytest.fixture(scope="module")
def bad_sources(begun, tmp_path_factory):
    """A folder with what no run can start from."""
    folder, model = tmp_path_factory.mktemp("bad"), begun / "output" / "model"
    for name in ("cut", "swapped", "nan", "several", "alone", "broken", "empty"):
        (folder / name).mkdir()
    copies = {"cut/n_g": "n_g", "swapped/n_g": "n_g", "swapped/n_d": "n_e", "alone/n_d": "n_d"}
    for target, name in {**copies, "several/10_net_G": "n_g", "several/20_net_G": "n_g"}.items():
        shutil.copy(model / f"{name}.pdparams", folder / f"{target}.pdparams")
    os.truncate(folder / "cut/n_g.pdparams", (model / "n_g.pdparams").stat().st_size // 2)
    arrays = {key: array.copy() for key, array in read_pdparams(model / "n_g.pdparams").items()}
    arrays["fc.bias"][3] = np.nan
    write_state(folder / "nan" / "n_g.pdparams", arrays)
    shutil.copytree(model, folder / "broken" / "model", symlinks=True)
    (folder / "broken/model/step_00000001/n_d.pdparams").write_bytes(b"")
    (folder / "run.py").write_text("print('hello')")
    return folder


@pytest.mark.parametrize(
    "path, message",
    [
        ("nowhere", "init_from .*nowhere does not exist"),
        ("cut", r"cut/n_g.pdparams is cut short"),
        ("swapped", r"swapped/n_d.pdparams holds weights of the kind encoder, expected discriminator"),
        ("nan", r"nan/n_g.pdparams: not all numbers are finite in fc.bias"),
        ("several", r"several generators \(10_net_G.pdparams, 20_net_G.pdparams\)"),
        ("alone", "no generator's weights"),
        ("alone/n_d.pdparams", "a run starts from a generator, and there is none beside"),
        ("broken", r"broken holds no whole checkpoint: .*n_d.pdparams has 0 bytes"),
        ("empty", "init_from .*empty holds no checkpoint and no generator's weights"),
        ("run.py", "run.py is not a weight file known here"),
    ],
)
def test_sources_that_cannot_be_read_are_one_line(bad_sources, tmp_path, go, path, message):
    refuses(message, go, "--max_steps", 1, "--init_from", bad_sources / path)
    assert not (tmp_path / "log" / "log.npy").exists()


def test_weights_in_the_run_s_own_folder_are_for_init_from(begun, tmp_path, go, first_networks):
    """Not read without it, which is told at the start; read from there with it, also after the first save."""
    own = tmp_path / "output" / "model"
    own.mkdir(parents=True)
    for name in ("n_g", "n_d", "n_e"):
        shutil.copy(begun / "output" / "model" / f"{name}.pdparams", own)
    out = go("--max_steps", 1)
    assert re.search(r"^not read +n_d.pdparams, n_e.pdparams, n_g.pdparams in .*--init_from output/model$", out, re.M)
    assert "it is now n_g.pdparams.before (such a file is for --init_from)" in out
    out = go("--max_steps", 1, "--fresh", "--init_from", "output/model/n_g.pdparams.before")
    assert "E taken from output/model/n_e.pdparams.before" in out and "not read" not in out
    same(first_networks[1], networks_of(begun))


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
