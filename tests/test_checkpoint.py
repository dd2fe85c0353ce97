"""Checkpoints: complete after kill -9, strict, and deaf to code in files."""

import dataclasses
import json
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib  # noqa: F401  # Paddle 2.6 breaks a zlib that is loaded after it

import numpy as np
import paddle
import pytest
from common import ROOT, Call, files_up_to, held, refuses

from model.errors import UserError
from model.options import OPT
from model.training import checkpoint
from model.training.checkpoint import load, prepare, save
from model.training.optimizer_state import load_optimizer, optimizer_state
from model.weights.networks import load_net
from model.weights.paddle_file import DamagedError, read_pdparams, read_state, write_state


@pytest.fixture(scope="module")
def opt():
    return OPT.from_preset("sample")


def nets_of(step, size=50):
    return {name: {"w": np.full(size, step, np.float32), "b": np.full((), step, np.float32)} for name in ("n_g", "n_d")}


def save_step(root, opt, step, **options):
    options = {"epoch": step // 10, **options}
    return save(root, nets_of(step), {"at": step}, opt, step=step, **options)


# --- writing and finding


def test_round_trip(tmp_path, opt):
    state = {"a": [1, 2.5, None, True, "x"], "b": (np.arange(3), {"c": b"\0\xff"}), 7: np.float64(0.1), "empty": {}}
    nets = {"n_g": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "k": np.zeros((0, 4), np.int64)}}
    folder = save(tmp_path, nets, state, opt, step=5, epoch=1, info={"fid": 3.5})
    found = load(tmp_path, opt, verify=True)
    assert (found.step, found.epoch, found.path, found.meta["fid"]) == (5, 1, folder, 3.5)
    np.testing.assert_array_equal(found.nets["n_g"]["w"], nets["n_g"]["w"])
    assert found.nets["n_g"]["k"].shape == (0, 4)
    assert found.state["a"] == state["a"] and found.state["b"][1] == {"c": b"\0\xff"} and found.state[7] == 0.1
    assert OPT.load(found.opt_file) == opt
    assert found.meta["values"] == {"n_g": 6}


def test_paths_that_users_give(tmp_path, opt):
    root = tmp_path / "output" / "model"
    first, second = save_step(root, opt, 1, best=True), save_step(root, opt, 2)
    for path in (tmp_path / "output", root, second, root / "latest", root / "n_g.pdparams", second / "n_d.pdparams"):
        assert load(path, opt).step == 2
    for path in (first, root / "best", first / "n_g.pdparams"):
        assert load(path, opt).step == 1
    assert checkpoint.exists(tmp_path / "output") and not checkpoint.exists(tmp_path / "other")
    refuses("holds no checkpoint", load, tmp_path / "other", opt)
    assert list(load(root, opt, nets=lambda there: there[:1], with_state=False).nets) == ["n_g"]


def test_links_lead_to_the_latest_and_only_to_its_networks(tmp_path, opt):
    nets = {**nets_of(1), "n_e": {"w": np.ones(2, np.float32)}}
    save(tmp_path, nets, {}, opt, step=1, epoch=0)
    assert os.readlink(tmp_path / "n_e.pdparams") == "latest/n_e.pdparams"
    save_step(tmp_path, opt, 2)
    assert not (tmp_path / "n_e.pdparams").is_symlink()
    assert read_pdparams(tmp_path / "n_g.pdparams")["b"] == 2


def test_retention(tmp_path, opt):
    opt = dataclasses.replace(opt, keep_epochs=2)
    for step in range(1, 13):
        save_step(tmp_path, opt, step, is_epoch_end=step % 3 == 0, best=step == 4)
    kept = sorted(path.name for path in tmp_path.glob("step_*"))
    assert kept == [f"step_{step:08d}" for step in (4, 9, 11, 12)]  # best, epoch ends, the one before, latest
    assert not list(tmp_path.glob("tmp_*")) and not list(tmp_path.glob("trash_*"))


@pytest.mark.parametrize("steps", [(3, 3), (500, 10, 20)])
def test_the_last_save_is_the_latest_whatever_its_step(tmp_path, opt, steps):
    folders = [save(tmp_path, nets_of(step), {"at": at}, opt, step=step, epoch=0) for at, step in enumerate(steps)]
    assert load(tmp_path, opt).state["at"] == len(steps) - 1
    assert [folder.exists() for folder in folders] == [False, True, True][-len(steps) :]


def test_without_links(tmp_path, opt, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    for step in (1, 2, 3):
        save_step(tmp_path, opt, step, best=step == 1)
    assert (tmp_path / "latest").read_text() == "step_00000003"
    assert not (tmp_path / "n_g.pdparams").is_symlink()
    assert read_pdparams(tmp_path / "n_g.pdparams")["b"] == 3
    assert [load(tmp_path / name, opt).step for name in (".", "latest", "best")] == [3, 3, 1]


# --- damage


@pytest.mark.parametrize("name", ["n_d.pdparams", "state.pdopt", "opt.yaml", "meta.json"])
@pytest.mark.parametrize("how", ["cut", "removed"])
def test_damaged_latest_falls_back(tmp_path, opt, capsys, name, how):
    save_step(tmp_path, opt, 1)
    file = save_step(tmp_path, opt, 2) / name
    if how == "cut":
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.unlink()
    assert load(tmp_path, opt).step == 1
    assert name in (said := capsys.readouterr().out) and "step 1" in said
    refuses(name, load, tmp_path / "step_00000002", opt)
    assert save_step(tmp_path, opt, 2).name == "step_00000002.1"  # the next save heals the folder
    assert load(tmp_path, opt).path.name == "step_00000002.1"


def test_edited_options_are_taken_as_they_are(tmp_path, opt, capsys):
    save_step(tmp_path, opt, 1)
    file = save_step(tmp_path, opt, 2) / "opt.yaml"
    file.write_text(file.read_text().replace("dataroot: ", "dataroot: /elsewhere/"))
    found = load(tmp_path, opt)
    assert found.step == 2 and OPT.load(found.opt_file).dataroot.startswith("/elsewhere/")
    assert "opt.yaml was edited" in capsys.readouterr().out
    file.write_text(file.read_text().replace("ngf: ", "ngf: 1"))
    refuses(r"step_00000002 was trained with other networks: ngf is ", load, tmp_path, opt)


def test_damaged_checkpoints_are_not_removed(tmp_path, opt):
    damaged = save_step(tmp_path, opt, 1)
    (damaged / "state.pdopt").unlink()
    for step in range(2, 8):
        save_step(tmp_path, opt, step)
    assert damaged.is_dir() and len(list(tmp_path.glob("step_*"))) == 3


def test_a_package_is_no_place_for_checkpoints(tmp_path):
    (tmp_path / "__init__.py").touch()
    refuses("is a Python package and no place for checkpoints: choose another --output", checkpoint.prepare, tmp_path)


def test_altered_byte_is_found_when_asked(tmp_path, opt):
    file = save_step(tmp_path, opt, 1) / "n_g.pdparams"
    data = bytearray(file.read_bytes())
    data[-60] ^= 1
    file.write_bytes(data)
    refuses("n_g.pdparams was altered", load, tmp_path, opt, verify=True)


def test_pointer_lost_or_dangling(tmp_path, opt):
    save_step(tmp_path, opt, 1)
    save_step(tmp_path, opt, 2)
    (tmp_path / "latest").unlink()
    assert load(tmp_path, opt).step == 2
    (tmp_path / "latest").symlink_to("step_00000099")
    assert load(tmp_path, opt).step == 2


def test_newer_format_is_refused(tmp_path, opt):
    meta = save_step(tmp_path, opt, 1) / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "format": 99}))
    refuses("format 99", load, tmp_path, opt)


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, '{"files": {}}', '{"format": 1, "files": []}', "\0"])
def test_meta_that_is_none_is_damage(tmp_path, opt, content):
    save_step(tmp_path, opt, 1)
    (save_step(tmp_path, opt, 2) / "meta.json").write_text(content)
    assert load(tmp_path, opt).step == 1


def test_meta_cannot_lead_out_of_the_folder(tmp_path, opt):
    meta = save_step(tmp_path / "model", opt, 1) / "meta.json"
    (tmp_path / "x").write_bytes(b"12")
    content = json.loads(meta.read_text())
    content["files"]["../../x"] = {"size": 2, "sha256": ""}
    meta.write_text(json.dumps(content))
    refuses("missing", load, tmp_path / "model", opt)


def test_other_architecture_names_each_field(tmp_path, opt):
    save_step(tmp_path, opt, 1)
    other = dataclasses.replace(opt, ngf=opt.ngf * 2, num_D=3)
    refuses(rf"ngf is {opt.ngf} there and {opt.ngf * 2} now; num_D is {opt.num_D} there", load, tmp_path, other)


# --- no space, no permission, two runs


def test_no_space_is_seen_before_writing(tmp_path, opt, monkeypatch):
    save_step(tmp_path, opt, 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    refuses(r"no space .* needs 1.0 MB, 1.0 kB are free .* untouched", save_step, tmp_path, opt, 2)
    assert load(tmp_path, opt).step == 1


def test_no_space_while_writing_leaves_the_last_one(tmp_path, opt):
    save_step(tmp_path, opt, 1)
    with files_up_to(50_000):
        refuses("no space to write", save, tmp_path, nets_of(2, size=100_000), {}, opt, step=2, epoch=0)
    assert load(tmp_path, opt, verify=True).step == 1
    assert not list(tmp_path.glob("tmp_*"))


def test_folder_that_cannot_be_made(tmp_path, opt):
    (tmp_path / "file").write_text("")
    refuses("cannot write in .*/file/model", save_step, tmp_path / "file" / "model", opt, 1)
    refuses("cannot write in", prepare, tmp_path / "file" / "model")


def test_prepare_clears_leftovers_only(tmp_path, opt):
    save_step(tmp_path, opt, 1)
    for name in ("tmp_1_00000002", "trash_step_00000000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "n_g.pdparams").write_bytes(b"x")
    (tmp_path / "tmp_9_latest").symlink_to("nowhere")
    prepare(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock", "latest", "n_d.pdparams", "n_g.pdparams", "step_00000001",
    ]  # fmt: skip


def test_second_run_in_the_same_folder_is_refused(tmp_path):
    with held(f"from model.training import checkpoint; kept = checkpoint.prepare({str(tmp_path)!r})") as other:
        refuses(f"in use by another training run .process {other.pid}.", prepare, tmp_path)
    prepare(tmp_path).close()  # the claim died with its process


# --- kill -9

SAVER = """
import sys
import numpy as np
from model.training.checkpoint import exists, load, prepare, save
from model.training.loss_log import LossLog
from model.options import OPT
root, opt = sys.argv[1] + "/model", OPT.from_preset("sample", keep_epochs=2)
claim = prepare(root)
step = load(root, opt).step if exists(root) else 0
log = LossLog(sys.argv[1] + "/log.npy", step=step)
print(step, flush=True)
while True:
    step += 1
    log.append([step] * 7)
    log.sync()
    nets = {n: {str(i): np.full(5000, step, np.float32) for i in range(20)} for n in ("n_g", "n_d")}
    save(root, nets, {"at": step}, opt, step=step, epoch=step, is_epoch_end=step % 2 == 0, best=step % 5 == 0)
"""


def test_kill_at_any_moment(tmp_path, opt):
    rng, last = random.Random(0), 0
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-c", SAVER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) as saver:
            first = int(saver.stdout.readline())
            assert first == last
            time.sleep(rng.uniform(0.02, 0.25))
            saver.send_signal(signal.SIGKILL)
        if not checkpoint.exists(tmp_path):
            continue
        found = load(tmp_path, opt, verify=True)
        last = found.step
        assert last >= first and found.state["at"] == last
        for arrays in found.nets.values():
            assert len(arrays) == 20 and all((array == last).all() for array in arrays.values())
        for name in ("n_g", "n_d"):  # the links agree with the checkpoint
            assert read_pdparams(tmp_path / "model" / f"{name}.pdparams")["0"][0] == last
        log = np.load(tmp_path / "log.npy")
        assert len(log) >= last
        np.testing.assert_array_equal(log[:, 3], np.arange(1, len(log) + 1))
    assert last > 2  # it got on between the kills
    prepare(tmp_path / "model").close()
    assert not list((tmp_path / "model").glob("t*_*"))


# --- reading what strangers wrote


def written(path, content, protocol=4):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("how", "named"),
    [
        ((os.system, ("touch {mark}",)), "posix.system"),
        ((eval, ("open({mark!r}, 'w')",)), "builtins.eval"),
        ((exec, ("open({mark!r}, 'w')",)), "builtins.exec"),
        ((open, ("{mark}", "w")), "open"),
        ((getattr, ("x", "upper")), "builtins.getattr"),
        ((np.load, ("{mark}", None, True)), "numpy.*load"),
        ((np.fromfile, ("{mark}",)), "numpy"),
        ((subprocess.call, ("touch {mark}",)), "(subprocess|commands).call"),
        ((pickle.loads, (b"cos\nsystem\n",)), "pickle.*loads"),
    ],
)
def test_code_is_not_run(tmp_path, how, named, protocol):
    mark = str(tmp_path / "mark")
    function, args = how
    args = [a.format(mark=mark) if isinstance(a, str) else a for a in args]
    path = written(tmp_path / "n_g.pdparams", {"w": Call(function, *args)}, protocol)
    refuses(rf"n_g\.pdparams asks for .*{named}.*nothing of it was run", read_pdparams, path)
    assert not os.path.exists(mark)


P = b"\x80\x04"


@pytest.mark.parametrize(
    "content",
    [
        P + b"(S'id'\nios\nsystem\n.",  # INST
        P + b"(cos\nsystem\nS'id'\no.",  # OBJ
        P + b"cnumpy\nndarray\n)\x81.",  # NEWOBJ
        P + b"cnumpy\nndarray\n}S'__class__'\nNsb.",  # BUILD on a class
        P + b"cnumpy\nndarray\n.",  # a bare class
        P + b"Pos.system\n.",  # PERSID
        P + b"\x82\x01.",  # EXT1
        P + b"]N\x85R.",  # a call of a list
        P + b"cnumpy\nctypeslib.ctypes\n.",
        P + b"cmodel.checkpoint\nwrite_state\n.",
    ],
)
def test_opcodes_that_make_objects_are_refused(tmp_path, content):
    refuses("asks for", read_state, written(tmp_path / "a.pdparams", content))


def array_pickle(shape, dtype=b"f4", raw=b"\0" * 8):
    return (
        P + b"}\x8c\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
        + b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in shape) + b"t"
        + b"cnumpy\ndtype\n\x8c" + bytes([len(dtype)]) + dtype + b"\x89\x88\x87R(K\x03\x8c\x01<NNNJ\xff\xff\xff\xff"
        + b"J\xff\xff\xff\xffK\x00tb\x89B" + struct.pack("<I", len(raw)) + raw + b"tbs."
    )  # fmt: skip


def test_handmade_array_is_read(tmp_path):
    path = written(tmp_path / "a.pdparams", array_pickle([2], raw=struct.pack("<2f", 1, 2)))
    np.testing.assert_array_equal(read_pdparams(path)["w"], [1, 2])


@pytest.mark.parametrize(
    "content",
    [
        array_pickle([2**40]),
        array_pickle([2**31, 2**31, 2**31]),
        array_pickle([-2]),
        array_pickle([1], b"O"),
        array_pickle([8], b"S1"),
        array_pickle([2], b"f4,f4"),
        array_pickle([1] * 40),
        P + b"r\xff\xff\xff\xff.",  # memo index 2**32 - 1
        P + b"]r\xff\xff\xff\xffh\x00.",
        P + b"\x8e" + struct.pack("<Q", 2**60) + b"x.",  # 2**60 bytes
        P + b"\x8b\xff\xff\xff\x7f.",  # a number of 2**31 bytes
        P + b"\x95" + struct.pack("<Q", 2**50) + b"].",  # a frame
        P + b"]" * 100 + b"a" * 99 + b".",  # too deep
        P + b"]\x94h\x00a.",  # a list in itself
        P + b"a.",
        P,
        b"",
        b"\x93NUMPY",
        b"hello",
        b"PK\x03\x04rest of an archive",
    ],
)
def test_nonsense_is_one_clear_error(tmp_path, content):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuses(r"a\.pdparams", read_pdparams, written(tmp_path / "a.pdparams", content))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


def test_many_references_to_one_list_cost_nothing(tmp_path):
    nested = []
    for _ in range(30):
        nested = [nested] * 10
    start = time.perf_counter()
    read_state(written(tmp_path / "a.pdparams", {"x": nested}))
    assert time.perf_counter() - start < 1


def test_every_truncation_is_damage(tmp_path):
    path = tmp_path / "a.pdparams"
    write_state(path, {"w": np.arange(20, dtype=np.float32), "s": [1, "x"]})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedError, match=r"a\.pdparams"):
            read_state(path)


def test_altered_bytes_never_break_out(tmp_path):
    path, rng = tmp_path / "a.pdparams", random.Random(0)
    write_state(path, {"w": np.arange(6, dtype=np.float32), "t": {"s": (1, 2.5, "x", None), "i": np.arange(3)}})
    whole = path.read_bytes()
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(2, len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            read_state(path)
        except UserError:
            continue


def test_wrong_content_is_named(tmp_path):
    refuses("entry 'model' is a dict", read_pdparams, written(tmp_path / "a.pdparams", {"model": {"w": np.ones(2)}}))
    refuses("holds a list", read_pdparams, written(tmp_path / "a.pdparams", [1]))
    refuses("zip archive", read_pdparams, written(tmp_path / "a.pdparams", b"PK\x03\x04"))
    with pytest.raises(DamagedError, match="does not exist"):
        read_pdparams(tmp_path / "none.pdparams")


def test_refuses_to_write_what_it_would_not_read(tmp_path):
    for value in (object(), np.array(["x"]), np.array([None])):
        with pytest.raises(TypeError, match="cannot save"):
            write_state(tmp_path / "a.pdopt", {"x": value})


# --- Paddle


def test_reads_every_form_of_paddle_save(tmp_path):
    layer = paddle.nn.Linear(3, 4)
    expected = {key: value.numpy() for key, value in layer.state_dict().items()}
    for protocol in (2, 3, 4):
        for content in (layer.state_dict(), dict(expected), {"weight": layer.weight, "bias": layer.bias}):
            path = str(tmp_path / "a.pdparams")
            paddle.save(content, path, protocol=protocol)
            found = read_pdparams(path)
            assert list(found) == ["weight", "bias"]
            for key, value in expected.items():
                np.testing.assert_array_equal(found[key], value)


def test_reads_arrays_that_paddle_cut(tmp_path):
    parts = {"w@@.0": np.arange(4, dtype=np.float32), "w@@.1": np.arange(4, 6, dtype=np.float32)}
    info = {"UnpackBigParamInfor@@": {"w": {"OriginShape": (2, 3), "slices": list(parts)}}}
    path = written(tmp_path / "a.pdparams", {**parts, **info}, protocol=2)
    np.testing.assert_array_equal(read_pdparams(path)["w"], np.arange(6).reshape(2, 3))


def test_plain_paddle_load_takes_the_files(tmp_path, opt):
    layer = paddle.nn.Linear(3, 4)
    save(tmp_path, {"n_g": layer.state_dict()}, {}, opt, step=1, epoch=0)
    state = paddle.load(str(tmp_path / "n_g.pdparams"))
    other = paddle.nn.Linear(3, 4)
    missing, unexpected = other.set_state_dict(state)
    assert not missing and not unexpected
    np.testing.assert_array_equal(other.weight.numpy(), layer.weight.numpy())


def test_arrays_of_another_type_are_no_weights():
    net = paddle.nn.Linear(2, 3)
    before = net.weight.numpy().copy()
    weight = np.ones((2, 3))  # floats of any kind are
    wrong = {"weight": weight, "bias": np.zeros(3, np.int64)}
    refuses("bias is int64, the network's is float32", load_net, net, wrong, "x")
    np.testing.assert_array_equal(net.weight.numpy(), before)
    load_net(net, {"weight": weight, "bias": np.zeros(3, np.float32)}, "x")
    assert (net.weight.numpy() == 1).all() and net.weight.dtype == paddle.float32


def test_an_optimiser_s_state_is_kept_by_the_parameters_names(tmp_path):
    net = paddle.nn.Sequential(*[paddle.nn.Linear(4, 4) for _ in range(12)])
    adam = paddle.optimizer.Adam(0.1, parameters=net.parameters())
    net(paddle.ones([1, 4])).sum().backward()
    adam.step()
    state = optimizer_state(adam, {"g": net})
    assert "g.10.weight:moment1_0" in state
    fewer = {"g": paddle.nn.Sequential(*net[:11])}
    refuses("unknown parameters .g.11.*", load_optimizer, adam, fewer, state, "x")
