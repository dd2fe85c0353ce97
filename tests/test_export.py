"""Exported models: equal to the network in every form and runtime, complete, and harmless to load."""

import dataclasses
import errno
import json
import os
import re
import shutil

import numpy as np
import pytest
from common import GRADIENT, ROOT, ROUNDING, python, refused, refuses
from PIL import Image
from reference_cases import write_model
from test_synthesizer import STYLED

from model import Synthesizer
from model.data.sample import ensure_sample
from model.errors import UserError
from model.serving import FORMS
from model.serving.export import export
from model.serving.painter import Painter
from tools import export as export_tool

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
CLOSE = 2 * ROUNDING  # of values in [-1, 1]; the sums are the network's own in another order


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a model, and its export by the command line's main in a folder beside it."""
    folder = tmp_path_factory.mktemp("exported")
    model = write_model(folder / "model", STYLED)
    assert export_tool.main([str(model), "--output", str(folder / "out")]) == 0
    return folder


@pytest.fixture(scope="module")
def maps():
    """Label maps [2,64,64] of ids 0..6 and instance maps, random in blocks."""
    rng = np.random.default_rng(1)
    label = rng.integers(0, 7, (2, 16, 16)).repeat(4, 1).repeat(4, 2)
    instance = rng.integers(0, 1000, (2, 8, 8)).repeat(8, 1).repeat(8, 2)
    return label, instance


def alike(one, other):
    """Whether 8-bit pictures differ by 1 at most."""
    one, other = (np.asarray(picture).astype(int) for picture in (one, other))
    return one.shape == other.shape and np.abs(one - other).max() <= 1


def deviation(got, want):
    assert got.shape == want.shape and want.std() > 0.05
    return np.abs(got - want).max()


def same_style(ours, eager):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    want = eager.encode(photo)
    assert np.abs(ours.encode(photo) - want).max() < GRADIENT * np.abs(want).max() + ROUNDING


@pytest.mark.parametrize("runtime", ["onnx", "paddle"])
def test_a_path_that_is_not_utf8_is_told_in_one_line(exported, tmp_path, runtime):
    odd = tmp_path / os.fsdecode("\u8857".encode("gbk"))
    with pytest.raises(UserError, match=r"\\udcbd\\udcd6/out: .* opens no path that is not UTF-8"):
        export_tool.main([str(exported / "model"), "--output", str(odd / "out"), "--runtimes", runtime])
    shutil.copytree(exported / "out", odd)
    refuses(r"\\udcbd\\udcd6/generator.*opens no path that is not UTF-8", Synthesizer.load, odd, runtime=runtime)
    Image.new("L", (64, 64)).save(tmp_path / "label.png")
    assert r"\udcbd\udcd6/generator" in refused(odd / "predict.py", "label.png", "picture.png", cwd=tmp_path)


@pytest.mark.parametrize(
    ("runtime", "form"),
    [
        ("onnx", "pattern"), ("onnx", "dense"), ("paddle", "pattern"),
        pytest.param("paddle", "dense", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_equals_the_network(exported, maps, runtime, form):
    """Batches of two and of one, and the encoder."""
    eager = Synthesizer.load(exported / "model")
    ours = Synthesizer.load(exported / "out", runtime=runtime, form=form)
    assert ours.info["runtime"] == runtime and form in ours.info["file"]
    label, instance = maps
    z = np.random.default_rng(2).standard_normal((2, 8), np.float32)
    batch = {"label": label, "instance": instance}
    want = eager.paint(batch, z)
    assert deviation(ours.paint(batch, z), want) < CLOSE
    assert deviation(ours.paint({name: maps[1:] for name, maps in batch.items()}, z[1:]), want[1:]) < CLOSE
    same_style(ours, eager)


def test_knows_what_the_checkpoint_knows(exported, maps):
    eager, ours = Synthesizer.load(exported / "model"), Synthesizer.load(exported / "out")
    for name in ("names", "size", "z_dim", "has_encoder", "uses_instances", "label_nc", "unknown"):
        assert getattr(ours, name) == getattr(eager, name), name
    assert (ours.palette == eager.palette).all() and ours.info["parameters"] == eager.info["parameters"]
    assert (ours.noise(5) == eager.noise(5)).all()
    assert alike(ours(maps[0][0], seed=4), eager(maps[0][0], seed=4))
    refuses("runs on the CPU", Synthesizer.load, exported / "out", device="gpu")


VARIANTS = {
    "no style, 5x5 windows": dict(norm_G="spectralspadebatch5x5", use_vae=False),
    "no style, no instances, no unknown": dict(
        use_vae=False, no_instance=True, contain_dontcare_label=False, label_nc=7
    ),
    "instance norm, deeper": dict(norm_G="spadeinstance3x3", num_upsampling_layers="most", crop_size=128, ngf=2),
    "batch norm in the encoder, twice as wide": dict(norm_E="spectralbatch", aspect_ratio=2.0),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(tmp_path, name):
    """Every branch of the graphs."""
    opt = dataclasses.replace(STYLED, **VARIANTS[name])
    eager = Synthesizer.load(write_model(tmp_path / "model", opt))
    export(Painter.load(tmp_path / "model"), tmp_path / "out", runtimes=["onnx"])
    rng = np.random.default_rng(3)
    height, width = opt.generator_size
    label = rng.integers(0, 7, (2, height // 16, width // 16)).repeat(16, 1).repeat(16, 2)
    batch = {"label": label} | ({} if opt.no_instance else {"instance": rng.integers(0, 9, label.shape)})
    z = rng.standard_normal((2, opt.z_dim), np.float32) if opt.use_vae else None
    for form in FORMS:
        ours = Synthesizer.load(tmp_path / "out", form=form)
        assert deviation(ours.paint(batch, z), eager.paint(batch, z)) < 5 * CLOSE
    if opt.use_vae:
        same_style(ours, eager)


def test_ids_that_mean_unlabelled_travel_with_the_folder(exported, tmp_path, maps):
    """Given as an option; a folder written before they did has one, 255."""
    label = maps[0][1].astype(np.uint8)
    shutil.copytree(exported / "model", tmp_path / "model")
    text = (tmp_path / "model" / "opt.yaml").read_text()
    (tmp_path / "model" / "opt.yaml").write_text(text.replace("unknown_ids: ''", "unknown_ids: 0,9"))
    export(Painter.load(tmp_path / "model"), tmp_path / "new", forms=["dense"], runtimes=["onnx"])
    described = json.loads((tmp_path / "new" / "model.json").read_text())
    assert (described["unknown"], described["unknown_ids"], described["file_unknown"]) == (6, [6, 0, 9], 9)
    np.save(tmp_path / "ids.npy", np.where(label == 6, 9, label))
    np.save(tmp_path / "plain.npy", np.where(label == 0, 6, label))
    for name in ("ids", "plain"):
        python("new/predict.py", f"{name}.npy", f"{name}_picture.npy", cwd=tmp_path)
    got = np.load(tmp_path / "ids_picture.npy")
    assert (got == np.load(tmp_path / "plain_picture.npy")).all()
    paint = Synthesizer.load(tmp_path / "new")
    assert alike(paint(np.load(tmp_path / "ids.npy")), got)  # edges run where the classes meet that the network sees

    shutil.copytree(exported / "out", tmp_path / "old")
    described = json.loads((tmp_path / "old" / "model.json").read_text())
    assert described.pop("unknown_ids") == [6, 255]
    (tmp_path / "old" / "model.json").write_text(json.dumps(described))
    assert (Synthesizer.load(tmp_path / "old").ids(np.where(label == 6, 255, label)) == label).all()


def test_a_stranger_paints_without_paddle(exported, tmp_path, maps):
    """predict.py in a copy of the folder, where Paddle and this project cannot be imported: the network's pictures."""
    shutil.copytree(exported / "out", tmp_path / "given")
    for package in ("paddle", "model"):
        (tmp_path / f"{package}.py").write_text(f"raise ImportError('{package} is not here')\n")
    eager = Synthesizer.load(exported / "model")
    label = maps[0][1].astype(np.uint8)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.png", exif=exif)  # it stands upright all the same
    optimised = Image.fromarray((6 - label).astype(np.uint8))  # a palette whose greys are the ids
    optimised.putpalette(np.repeat([255, 5, 4, 3, 2, 1, 0], 3).astype(np.uint8).tobytes())
    optimised.save(tmp_path / "ids.png")
    Image.fromarray(eager.palette[label]).save(tmp_path / "colours.png")
    Image.fromarray(maps[1][1].astype(np.uint16)).save(tmp_path / "instance.png")
    runs = [
        (["ids.png", "--seed", "3"], eager(label, seed=3)),
        (["colours.png", "--instance", "instance.png", "--photo", "photo.png", "--form", "dense"],
         eager(label, maps[1][1], style=photo)),
    ]  # fmt: skip
    alone = dict(cwd=tmp_path, PYTHONPATH=str(tmp_path))
    for arguments, want in runs:
        python("given/predict.py", arguments[0], "picture.png", *arguments[1:], **alone)
        assert alike(Image.open(tmp_path / "picture.png"), want)
    (tmp_path / "bits.png").write_bytes(b"P4\n64 64\n" + bytes(512))
    (tmp_path / "text.npy").write_bytes(b"no array")
    for name in ("bits.png", "text.npy", "gone.png"):
        assert refused("given/predict.py", name, "refused.png", **alone).startswith(name)
        assert not (tmp_path / "refused.png").exists()
    (tmp_path / "PIL.py").write_text("raise ImportError('Pillow is not here')\n")
    np.save(tmp_path / "large.npy", label.repeat(2, 0).repeat(2, 1))
    python("given/predict.py", "large.npy", "picture.npy", "--seed", 3, **alone)
    assert alike(np.load(tmp_path / "picture.npy"), runs[0][1])


def test_loading_needs_no_paddle(exported, tmp_path):
    """Synthesizer runs an exported folder with onnxruntime where Paddle is not installed."""
    (tmp_path / "paddle.py").write_text("raise ImportError('no paddle here')\n")
    code = "import model, numpy; print(model.Synthesizer.load('out')(numpy.zeros((8, 8), int)).size)"
    done = python("-c", code, cwd=exported, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert "(64, 64)" in done.stdout


@pytest.fixture
def hostile(exported, tmp_path):
    """A copy of the exported folder, for a stranger to change."""
    return shutil.copytree(exported / "out", tmp_path / "hostile")


def test_python_files_of_a_folder_are_never_imported(hostile, tmp_path):
    for name in ("neighbourhoods.py", "predict.py", "numpy.py", "sitecustomize.py"):
        (hostile / name).write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    Synthesizer.load(hostile)(np.zeros((64, 64), int))
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("onnx", {"generator": {"pattern": "../out/generator_pattern.onnx"}}),
        ("onnx", {"generator": {"pattern": "missing.onnx"}}),
        ("size", [64, 1 << 40]), ("names", []), ("colours", [[0, 0, 300]] * 7), ("z_dim", "8"), ("format", "other"),
        ("unknown_ids", 255), ("unknown_ids", ["255"]), ("unknown_ids", [1 << 40]), ("unknown_ids", None),
        ("unknown", None), (None, "[" * 100000),
    ],
)  # fmt: skip
def test_descriptions_that_no_export_writes_are_refused(hostile, field, value):
    path = hostile / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}) if field else value)
    refuses("no description of an exported model", Synthesizer.load, hostile)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [("z_dim", 1 << 40, "unreasonable sizes"), ("crop_size", 1 << 30, "unreasonable sizes"),
     ("label_nc", 1 << 40, "expected >= 1 and <= 65535")],
)  # fmt: skip
def test_options_that_no_export_writes_are_refused(hostile, option, value, reason):
    path = hostile / "opt.yaml"
    path.write_text(re.sub(rf"^{option}: .*$", f"{option}: {value}", path.read_text(), flags=re.MULTILINE))
    refuses(reason, Synthesizer.load, hostile)


@pytest.mark.parametrize(
    ("runtime", "change", "reason"),
    [
        ("paddle", lambda content: content.replace(b"1.tanh", b"1.save").replace(b"\x04tanh", b"\x04save"),
         r"operations that no export writes \(save\)"),
        ("paddle", lambda content: content[: len(content) // 2], "is no Paddle program|cannot be loaded"),
        ("onnx", lambda content: content.replace(b"generator.weights", b"../secret.weights"), "cannot be loaded"),
        ("onnx", lambda content: b"nothing", "cannot be loaded"),
    ],
    ids=["writes files", "cut", "reads a file outside", "no graph"],
)  # fmt: skip
def test_graphs_that_no_export_writes_are_refused(hostile, tmp_path, runtime, change, reason):
    shutil.copyfile(hostile / "generator.weights", tmp_path / "secret.weights")
    file = hostile / json.loads((hostile / "model.json").read_text())[runtime]["generator"]["pattern"]
    file.write_bytes(change(file.read_bytes()))
    refuses(reason, Synthesizer.load, hostile, runtime=runtime)


def test_command_line_tells_mistakes(tmp_path):
    said = python(ROOT / "tools/export.py", "nothing", "--output", "out", cwd=tmp_path, status=2).stderr
    assert said.splitlines()[-1].startswith("error: ") and not any(tmp_path.iterdir())
    refuses("expected latest, best or the number", export_tool.main, ["nothing", "--which_epoch", "first"])
    with pytest.raises(SystemExit):
        export_tool.main(["nothing", "--forms", "sparse"])


def test_replaces_nothing_unasked(exported, tmp_path, monkeypatch):
    painter = Painter.load(exported / "model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    refuses("is no exported model", export, painter, tmp_path / "full", force=True)
    one = dict(forms=["dense"], runtimes=["onnx"])
    assert export(painter, tmp_path / "out", **one).paddle == {}
    refuses("--force to replace", export, painter, tmp_path / "out", **one)
    export(painter, tmp_path / "out", force=True, forms=["pattern"], runtimes=["onnx"])
    assert not (tmp_path / "out" / "generator_dense.onnx").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "out"]  # nothing is left over
    refuses("no form dense", Synthesizer.load, tmp_path / "out", form="dense")

    def fails(source, target, replace=os.replace):
        if target == tmp_path / "out" and source.name != "old":
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="Input/output"):
        export(painter, tmp_path / "out", force=True, **one)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "out"]
    assert (tmp_path / "out" / "generator_pattern.onnx").is_file()  # the earlier one
    refuses("it needs onnxruntime", Synthesizer.load, tmp_path / "out", runtime="paddle")


@pytest.mark.slow
def test_real_maps(exported, tmp_path):
    """Maps of the built-in sample, with as many classes: both runtimes, the default form."""
    root = ensure_sample(tmp_path / "sample", train=1, val=3)
    opt = dataclasses.replace(STYLED, label_nc=182, dataset_mode="sample", crop_size=128)
    painter = Painter.load(write_model(tmp_path, opt))
    export(painter, tmp_path / "out", forms=["pattern"])
    eager = Synthesizer.load(tmp_path / "n_g.pdparams")
    for runtime in ("onnx", "paddle"):
        ours = Synthesizer.load(tmp_path / "out", runtime=runtime)
        for file in sorted((root / "val_label").glob("*.png")):
            pair = Image.open(file), Image.open(root / "val_inst" / file.name)
            assert alike(ours(*pair, seed=1), eager(*pair, seed=1))
