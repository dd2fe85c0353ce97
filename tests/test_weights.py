"""Official names, file formats, and files that must be refused."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import paddle
import pytest
import safetensors.numpy
from common import Call, refuses, rewrite_zip

from model.discriminator import MultiscaleDiscriminator
from model.encoder import ConvEncoder
from model.errors import UserError
from model.generator import SPADEGenerator, define_G
from model.options import OPT
from model.training.start import network_files
from model.vgg import VGG19
from model.weights import export_official, load_official, official_names
from model.weights.files import build, read_network, read_weights, recognise
from model.weights.made_up import made_up_arrays
from model.weights.mindspore_file import from_mindspore, read_mindspore, write_mindspore
from model.weights.published import find_network
from model.weights.torch_file import read_torch, write_torch


def generator(z_dim=3):
    return SPADEGenerator(6, (1, 2), ngf=2, z_dim=z_dim)


def randomised(net, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {k: rng.normal(size=v.shape).astype(v.dtype) for k, v in export_official(net).items()}
    load_official(net, arrays)
    return arrays


# ---- networks ----


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(generator, id="generator with VAE"),
        pytest.param(lambda: generator(None), id="generator"),
        pytest.param(lambda: MultiscaleDiscriminator(6, ndf=2, norm="spectralbatch"), id="discriminator"),
        pytest.param(lambda: ConvEncoder(2, 4), id="encoder"),
    ],
)
def test_export_returns_what_was_loaded(net):
    net = net()
    arrays = randomised(net)
    exported = export_official(net)
    assert list(exported) == list(arrays)
    for name, array in arrays.items():
        assert exported[name].dtype == array.dtype
        np.testing.assert_array_equal(exported[name], array)
    assert set(official_names(net)) >= {name for name, _ in net.named_parameters()}


def test_only_linear_weights_are_transposed():
    net = generator()
    arrays = randomised(net)
    np.testing.assert_array_equal(net.fc.weight.numpy(), arrays["fc.weight"].T)
    assert arrays["fc.weight"].shape == (64, 3)  # 16*ngf*height*width rows of z_dim, as torch keeps it
    np.testing.assert_array_equal(net.conv_img.weight.numpy(), arrays["conv_img.weight"])


def test_export_is_a_copy():
    net = generator()
    before = export_official(net)["conv_img.bias"]
    net.conv_img.bias.set_value(net.conv_img.bias + 1)
    assert not np.array_equal(before, net.conv_img.bias.numpy())


def test_loading_names_every_mistake_and_changes_nothing():
    net = generator()
    arrays = randomised(net)
    wrong = {k: v + 1 for k, v in arrays.items()}
    del wrong["up_3.conv_1.bias"]
    wrong["extra.weight"] = np.zeros(1)
    wrong["conv_img.bias"] = np.zeros(4)
    message = refuses("some.pth", load_official, net, wrong, "some.pth")
    for part in ("1 missing: up_3.conv_1.bias", "1 unexpected: extra.weight", "conv_img.bias is [4]"):
        assert part in message
    np.testing.assert_array_equal(net.head_0.conv_0.bias.numpy(), arrays["head_0.conv_0.bias"])


def test_vgg_takes_a_full_torchvision_state():
    net = VGG19()
    arrays = export_official(net) | {"features.34.bias": np.zeros(512), "classifier.6.weight": np.zeros((1000, 4096))}
    assert load_official(net, arrays) == ["features.34.bias", "classifier.6.weight"]


def test_made_up_weights_follow_from_names():
    shapes = {"a.weight_orig": (4, 3, 3, 3), "a.weight_u": (4,), "a.weight_v": (27,), "n.running_var": (4,)}
    one, two = made_up_arrays(shapes, "G."), made_up_arrays(shapes, "G.")
    assert all((one[name] == two[name]).all() and one[name].shape == shapes[name] for name in shapes)
    assert not (made_up_arrays(shapes, "D.")["a.weight_orig"] == one["a.weight_orig"]).any()
    sigma = one["a.weight_u"] @ one["a.weight_orig"].reshape(4, -1) @ one["a.weight_v"]
    largest = np.linalg.svd(one["a.weight_orig"].reshape(4, -1), compute_uv=False)[0]
    assert sigma == pytest.approx(largest, rel=0.2)


# ---- torch files ----


def torch_state():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    long = torch.randn(20)
    return torch, {
        "plain": torch.randn(2, 3, 4),
        "transposed": torch.arange(24.0).reshape(4, 6).t()[1:],
        "first": long[2:7],
        "strided": long[::3],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "half": torch.randn(5).half(),
        "bfloat16": torch.randn(5, 2).bfloat16(),
        "double": torch.randn(2).double(),
        "counter": torch.tensor(7),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_files_are_read_as_torch_reads_them(tmp_path, zipped):
    torch, state = torch_state()
    path = tmp_path / "a.bin"  # the ending plays no part
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    arrays, info = read_weights(path)
    assert info.format == f"PyTorch ({'zip' if zipped else 'legacy'})"
    assert list(arrays) == list(state)
    for name, tensor in state.items():
        want = tensor.detach().float().numpy() if tensor.is_floating_point() else tensor.numpy()
        assert arrays[name].dtype == want.dtype, name
        np.testing.assert_array_equal(arrays[name], want)


def test_torch_reads_what_is_written(tmp_path):
    torch, state = torch_state()
    arrays = {k: v.detach().float().numpy() if v.is_floating_point() else v.numpy() for k, v in state.items()}
    with open(tmp_path / "a.pth", "wb") as file:
        write_torch(file, arrays)
    for mmap in (False, True):
        loaded = torch.load(tmp_path / "a.pth", weights_only=True, mmap=mmap)
        assert list(loaded) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name].numpy(), array)
    assert list(read_torch(tmp_path / "a.pth")) == list(arrays)


def test_module_state_dicts_and_training_checkpoints(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.utils.spectral_norm(torch.nn.Conv2d(2, 3, 3)), torch.nn.BatchNorm2d(3))
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 2, 4, 4)).sum().backward()
    optimiser.step()
    torch.save({"epoch": 3, "state_dict": net.state_dict(), "opt": optimiser.state_dict()}, tmp_path / "a.pth")
    arrays = read_torch(tmp_path / "a.pth")
    assert {f"state_dict.{k}" for k in net.state_dict()} <= set(arrays)
    assert "opt.state.0.exp_avg" in arrays and "epoch" not in arrays


# ---- other formats ----


def test_safetensors_npz_and_paddle(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(2, 3)).astype(np.float32), "n": np.array(5), "h": np.float16([0.5, 2])}
    safetensors.numpy.save_file(arrays, tmp_path / "a")
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    paddle.save({k: paddle.to_tensor(v) for k, v in arrays.items()}, str(tmp_path / "c"))
    for name, layout in (("a", "torch"), ("b.npz", "torch"), ("c", "paddle")):
        read, info = read_weights(tmp_path / name)
        assert info.layout == layout
        assert read["h"].dtype == np.float32
        for key, array in arrays.items():
            np.testing.assert_array_equal(read[key], array)


def test_safetensors_bfloat16(tmp_path):
    data = (np.float32([1.5, -3]).view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "a").write_bytes(boxed(x=("BF16", [2], [0, 4])) + data)
    np.testing.assert_array_equal(read_weights(tmp_path / "a")[0]["x"], np.float32([1.5, -3]))


def test_mindspore_bytes_are_the_published_format(tmp_path):
    # Checkpoint{value{tag "w", tensor{dims 2, dims 1, "Float32", 8 bytes}}} written out by hand.
    content = np.float32([1, 2]).tobytes()
    tensor = b"\x08\x02\x08\x01" + b"\x12\x07Float32" + b"\x1a\x08" + content
    value = b"\x0a\x01w" + b"\x12" + bytes([len(tensor)]) + tensor
    expected = b"\x0a" + bytes([len(value)]) + value
    file = io.BytesIO()
    write_mindspore(file, {"w": np.float32([[1], [2]])})
    assert file.getvalue() == expected
    (tmp_path / "a").write_bytes(expected)
    arrays, info = read_weights(tmp_path / "a")
    assert info.format == "MindSpore"
    np.testing.assert_array_equal(arrays["w"], [[1], [2]])


def test_mindspore_scalars_slices_and_texts(tmp_path, monkeypatch):
    monkeypatch.setattr("model.weights.mindspore_file.SLICE", 16)
    arrays = {"big": np.float32(np.arange(50).reshape(5, 10)), "step": np.int32(3), "long": np.zeros(300, np.int64)}
    with open(tmp_path / "a.ckpt", "wb") as file:
        write_mindspore(file, arrays)
        text = b"\x08\x00\x12\x03str\x1a\x04a\x00\x00\x00"
        value = b"\x0a\x01t\x12" + bytes([len(text)]) + text
        file.write(b"\x0a" + bytes([len(value)]) + value)
    read = read_mindspore(tmp_path / "a.ckpt")
    assert list(read) == list(arrays) and read["step"].shape == ()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


def test_mindspore_with_trained_affine_norms_is_refused():
    arrays = {"head_0.norm_0.param_free_norm.gamma": np.full(3, 1.5)}
    refuses("not the constant 1", from_mindspore, arrays, "a.ckpt")


# ---- damaged and malicious files ----


def attack(touched):
    return Call(open, str(touched), "w")


TORCH_MAGIC = 0x1950A86A20F9469CFC6C
NASTY = b"X\x05\x00\x00\x00\x1b[2J\n"
TENSOR = "ctorch._utils\n_rebuild_tensor_v2\n("


def tensor_pickle(numel="K\x04", offset="K\x00", shape="K\x04\x85", stride="K\x01\x85", key="X\x01\x00\x00\x000"):
    """The pickle of {"w": a tensor} with chosen parts, each pickle code."""
    text = "}X\x01\x00\x00\x00w" + TENSOR + "(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + key
    text += "X\x03\x00\x00\x00cpu" + numel + "tQ" + offset + shape + stride + "\x89}tRs."
    return b"\x80\x02" + text.encode("latin-1")


def torch_zip(path, data, storages=None, compression=zipfile.ZIP_STORED, extra=()):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        for key, value in (storages or {"0": np.ones(4, np.float32).tobytes()}).items():
            archive.writestr(f"archive/data/{key}", value)
        for name in extra:
            archive.writestr(name, b"")


def legacy(path, data, keys=("0",), raw=b"\x04" + bytes(7 + 16)):
    system = {"protocol_version": 1001, "little_endian": True}
    start = b"".join(pickle.dumps(value, 2) for value in (TORCH_MAGIC, 1001, system))
    path.write_bytes(start + data + pickle.dumps(list(keys), 2) + raw)


def huge_int(value):
    return "\x8a\x09" + value.to_bytes(9, "little", signed=True).decode("latin-1")


def laughs():
    """Ten lists, each holding the one before ten times."""
    return b"\x80\x02]q\x00" + b"".join(b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1) for i in range(10)) + b"."


# Sixty lists, each holding the one before twice: its text has 2^60 parts.
SHARED = "]q\x20" + "".join(f"](h{chr(32 + i)}h{chr(32 + i)}eq{chr(33 + i)}" for i in range(60))


def swap(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))


def move_entries(path):
    """Let the directory of a zip look for its first entry far before the file's start."""
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x05\x06") + 16  # where the directory begins, by which offsets are corrected
    content[at : at + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)


def npz_of(path, array):
    with open(path, "wb") as file:
        np.savez_compressed(file, a=array)


def boxed(**tensors):
    """The start of a .safetensors file of these tensors, each (type, shape, where its data begin and end)."""
    fields = ("dtype", "shape", "data_offsets")
    header = json.dumps({name: dict(zip(fields, about, strict=True)) for name, about in tensors.items()}).encode()
    return struct.pack("<Q", len(header)) + header


def zipped(*content, **options):
    return lambda path, touched: torch_zip(path, *content, **options)


def raw(content):
    return lambda path, touched: path.write_bytes(content)


# How each is written, with the path of a file that no reader may touch. What all readers of pickles refuse is in
# test_checkpoint.py.
BAD = {
    "zip with a call": lambda p, t: torch_zip(p, pickle.dumps({"w": attack(t)}, 2)),
    "legacy with a call": lambda p, t: legacy(p, pickle.dumps({"w": attack(t)}, 2)),
    "paddle with a call": lambda p, t: p.write_bytes(pickle.dumps({"w": attack(t)}, 4)),
    "call of a name on the stack": lambda p, t: torch_zip(p, pickle.dumps({"w": attack(t)}, 4)),
    "paddle with a newline in a name": raw(b"\x80\x02coo\x0dos\nsystem\n."),
    "zip whose directory points before it": lambda p, t: torch_zip(p, tensor_pickle()) or move_entries(p),
    "zip with a name that is no text": lambda p, t: (
        torch_zip(p, tensor_pickle(), extra=["\u00e9" * 8]) or swap(p, "\u00e9".encode() * 8, b"\xff" * 16)
    ),
    "npz with broken compression": lambda p, t: (
        npz_of(p, np.arange(999)) or p.write_bytes(p.read_bytes()[:90] + b"\xff" * 40 + p.read_bytes()[130:])
    ),
    "old instruction": lambda p, t: torch_zip(p, b"(S'" + str(t).encode() + b"'\nios\nsystem\n."),
    "module in a legacy file": lambda p, t: legacy(p, b"\x80\x02(X\x06\x00\x00\x00modulectorch.nn\nLinear\nNNtQ."),
    "unknown storage": zipped(tensor_pickle().replace(b"FloatStorage", b"QInt8Storage")),
    "tensor longer than its storage": zipped(tensor_pickle(shape="K\x05\x85")),
    "storage longer than its data": zipped(tensor_pickle(numel="K\x05")),
    "offset outside": zipped(tensor_pickle(offset="K\x01")),
    "negative offset": zipped(tensor_pickle(offset="J\xff\xff\xff\xff")),
    "absurd offset": zipped(tensor_pickle(offset=huge_int(2**63))),
    "absurd expanded tensor": zipped(tensor_pickle(shape=huge_int(2**50) + "\x85", stride="K\x00\x85")),
    "absurd stride": zipped(tensor_pickle(stride=huge_int(2**61) + "\x85")),
    "strides of another rank": zipped(tensor_pickle(stride=")")),
    "storage key with a path": zipped(tensor_pickle(key="X\x0d\x00\x00\x00../../../evil")),
    "storage key of shared lists": zipped(tensor_pickle(key=SHARED)),
    "storage missing": zipped(tensor_pickle(), {"1": bytes(16)}),
    "endless laughter": zipped(laughs()),
    "pickle without end": zipped(tensor_pickle()[:-1]),
    "zip with paths that leave the folder": zipped(
        tensor_pickle(key="X\x0a\x00\x00\x00../touched"), {"../../touched": bytes(16)}
    ),
    "zip whose directory claims a gigabyte for 16 bytes": lambda p, t: (
        torch_zip(p, tensor_pickle()) or swap(p, struct.pack("<II", 16, 16), struct.pack("<II", 1 << 30, 1 << 30))
    ),
    "zip bomb": zipped(tensor_pickle(), {"0": bytes(10**7)}, zipfile.ZIP_DEFLATED),
    "zip without data": lambda p, t: zipfile.ZipFile(p, "w").writestr("evil.py", b"import os"),
    "TorchScript": zipped(tensor_pickle(), extra=["archive/constants.pkl"]),
    "no tensors": zipped(pickle.dumps({"epoch": 3}, 2)),
    "two entries of one name": zipped(tensor_pickle(), extra=["archive/data/0"]),
    "changed byte": lambda p, t: torch_zip(p, tensor_pickle()) or swap(p, np.float32(1).tobytes() * 4, bytes(16)),
    "name with an escape code": zipped(tensor_pickle().replace(b"X\x01\x00\x00\x00w", NASTY)),
    "truncated zip": lambda p, t: torch_zip(p, tensor_pickle()) or p.write_bytes(p.read_bytes()[:300]),
    "truncated legacy": lambda p, t: legacy(p, tensor_pickle(), raw=struct.pack("<q", 4) + bytes(15)),
    "absurd legacy length": lambda p, t: legacy(p, tensor_pickle(), raw=struct.pack("<q", 2**60)),
    "negative legacy length": lambda p, t: legacy(p, tensor_pickle(), raw=struct.pack("<q", -1)),
    "legacy keys that are not names": lambda p, t: legacy(p, tensor_pickle(), keys=[1]),
    "legacy cut in its first pickles": raw(pickle.dumps(TORCH_MAGIC, 2) + b"\x80\x02"),
    "safetensors outside its data": raw(boxed(x=("F32", [9], [0, 36]))),
    "safetensors with a header longer than the file": raw(struct.pack("<Q", 2**40) + b"{}" * 9),
    "safetensors cut in its header": raw(boxed(x=("F32", [9], [0, 36]))[:40]),
    "safetensors whose tensors overlap": raw(boxed(x=("U8", [4], [0, 4]), y=("U8", [4], [0, 4])) + bytes(4)),
    "safetensors that is not JSON": raw(struct.pack("<Q", 100) + b"{" * 100),
    "safetensors of an odd type": raw(boxed(x=("F8_E4M3", [1], [0, 1])) + b"1"),
    "safetensors name with a newline": raw(boxed(**{"a\nb": ("U8", [1], [0, 1])}) + b"1"),
    "npz with objects": lambda p, t: npz_of(p, np.array([attack(t)], dtype=object)),
    "npz with an open bracket in its header": lambda p, t: (
        npz_of(p, np.zeros(3)) or rewrite_zip(p, lambda content: content.replace(b"(3,)", b"((3,"))
    ),
    "npz bomb": lambda p, t: npz_of(p, np.zeros(10**7, np.uint8)),
    "MindSpore truncated": raw(b"\x0a\x20\x0a\x01w\x12\x1b\x08\x04\x12\x07Float32\x1a\x10"),
    "MindSpore absurd length": raw(b"\x0a" + b"\xff" * 9 + b"\x01rest"),
    "MindSpore length beyond its message": raw(b"\x0a\x0c\x0a\x01w\x12\x7f\x08\x01\x12\x07Floa"),
    "MindSpore varint without end": raw(b"\x0a" + b"\xff" * 40),
    "MindSpore content shorter than its shape": raw(
        b"\x0a\x16\x0a\x01w\x12\x11\x08\x02\x12\x07Float32\x1a\x04" + bytes(4)
    ),
    "MindSpore absurd shape": raw(b"\x0a\x13\x0a\x01w\x12\x0e\x08\xff\xff\xff\x7f\x12\x07Float32"),
    "a web page": raw(b"<!DOCTYPE html><html>404</html>"),
    "a Git LFS pointer": raw(b"version https://git-lfs.github.com/spec/v1\n"),
    "noise": raw(bytes(range(32, 256)) * 4),
    "nothing": raw(b""),
    "a folder": lambda p, t: p.mkdir(),
    "no file": lambda p, t: None,
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_bad_files_are_refused_by_name_and_run_nothing(tmp_path, make):
    path, touched = tmp_path / "bad.pth", tmp_path / "touched"
    make(path, touched)
    refuses("bad.pth", read_weights, path)
    assert not touched.exists()


@pytest.mark.parametrize(
    "make", [lambda path, data: path.write_bytes(data), torch_zip, legacy], ids=["Paddle", "zip", "legacy"]
)
def test_pickles_of_too_many_operations_are_refused(tmp_path, monkeypatch, make):
    monkeypatch.setattr("model.weights.pickles.MAX_OPERATIONS", 1000)
    make(tmp_path / "a", b"\x80\x02" + b"N" * 1001 + b".")
    refuses("its pickle is unreasonably long", read_weights, tmp_path / "a")


def test_the_attack_would_work(tmp_path):
    pickle.loads(pickle.dumps(attack(tmp_path / "touched"))).close()
    assert (tmp_path / "touched").exists()


def test_the_tensor_of_the_bad_files_is_good_when_untouched(tmp_path):
    torch_zip(tmp_path / "a", tensor_pickle())
    legacy(tmp_path / "b", tensor_pickle())
    np.testing.assert_array_equal(read_weights(tmp_path / "a")[0]["w"], np.ones(4))
    np.testing.assert_array_equal(read_weights(tmp_path / "b")[0]["w"], np.zeros(4))


# ---- recognising and finding ----


def test_the_earlier_reproduction_is_refused():
    for name in ("head_0.spade_0.mlp_gamma.weight", "nld_0.0.block_0.0.weight", "model.0.weight_orig"):
        refuses("GELU", recognise, {name: np.zeros(1), "fc_mu.weight": np.zeros((2, 2))}, "paddle", "n_g.pdparams")


def test_several_or_unknown_networks_are_refused():
    state = {"conv_img.weight": np.zeros((3, 2, 3, 3)), "discriminator_0.model0.0.weight": np.zeros((2, 9, 4, 4))}
    refuses("several networks: generator.*discriminator", recognise, state, "torch", "a.pth")
    refuses("no network known", recognise, {"encoder.weight": np.zeros(1)}, "torch", "a.pth")


def test_helpers_of_early_synchronised_norms_are_ignored():
    arrays = randomised(net := generator())
    norm = "up_0.norm_s.param_free_norm."
    helpers = {norm + name: np.ones(2) for name in ("_tmp_running_mean", "_tmp_running_var", "_running_iter")}
    found = recognise(arrays | helpers, "torch", "latest_net_G.pth")
    assert set(found.ignored) == set(helpers) and found.weights.keys() == arrays.keys()
    load_official(net, found.weights)


def test_ade20k_keeps_its_channels():
    net = SPADEGenerator(151, (1, 1), ngf=1)
    arrays = randomised(net)
    found = recognise(arrays, "torch", "a.pth")
    assert (found.options["label_nc"], found.options["no_instance"]) == (150, True)
    shared = "head_0.norm_0.mlp_shared.0.weight"
    np.testing.assert_array_equal(export_official(build(found))[shared], arrays[shared])


@pytest.mark.parametrize("prefix", ["base.", "scale.", "module.base.", "module.scale.", "state_dict.base.", ""])
def test_deeplab_prefixes(prefix):
    stages = "stages." if "scale" in prefix else ""
    arrays = {f"{prefix}layer1.conv1.conv.weight": np.zeros((64, 3, 7, 7))}
    arrays[f"{prefix}aspp.{stages}c0.weight"] = np.zeros((182, 2048, 3, 3), np.float16)
    found = recognise(arrays, "torch", "a.pth")
    assert list(found.weights) == ["base.layer1.conv1.conv.weight", "base.aspp.c0.weight"]
    assert (found.kind, found.options["classes"]) == ("deeplab", 182)


def test_another_inception_is_refused():
    arrays = {"Mixed_7c.branch_pool.conv.weight": np.zeros(1), "fc.weight": np.zeros((1000, 2048))}
    refuses("6726825d", recognise, arrays, "torch", "inception_v3_google.pth")


def test_a_missing_file_says_where_it_is_published(tmp_path):
    with pytest.raises(UserError, match="vgg19-dcbb9e9d.pth .*sha256 dcbb9e9d.*download.pytorch.org.*--no_vgg_loss"):
        find_network("vgg19", tmp_path / "vgg/vgg19pretrain.pdparams")
    known = r"pt_inception-2015-12-05-6726825d.pth \(95,628,359 bytes, sha256 6726825d.*\) from https"
    refuses(known, find_network, "inception", tmp_path)
    refuses(
        "deeplabv2_resnet101_msc-cocostuff164k-100000.pth from https", find_network, "deeplab", tmp_path / "deeplab"
    )


def test_vgg_is_found_under_any_usual_name(tmp_path):
    net = VGG19()
    arrays = randomised(net)
    full = arrays | {"features.30.weight": np.zeros((2, 2, 3, 3), np.float32), "classifier.0.bias": np.zeros(3)}
    with open(tmp_path / "vgg19-dcbb9e9d.pth", "wb") as file:
        write_torch(file, full)
    found, _ = read_network(tmp_path / "vgg19-dcbb9e9d.pth")
    assert found.ignored == ["features.30.weight", "classifier.0.bias"]
    same = export_official(find_network("vgg19", tmp_path / "vgg19pretrain.pdparams"))
    np.testing.assert_array_equal(same["features.28.weight"], arrays["features.28.weight"])
    paddle.save(net.state_dict(), str(tmp_path / "vgg19pretrain.pdparams"))
    same = export_official(find_network("vgg19", tmp_path))
    np.testing.assert_array_equal(same["features.0.bias"], arrays["features.0.bias"])


def test_vgg_of_the_earlier_reproduction_has_no_biases():
    layers = [(b, c) for b, n in ((1, 2), (2, 2), (3, 4), (4, 4), (5, 4)) for c in range(1, n + 1)]
    arrays = {f"_conv_block_{b}._conv_{c}.weight": np.full((b, c, 3, 3), b) for b, c in layers}
    arrays["_fc1.weight"] = np.zeros((4, 5))
    found = recognise(arrays, "paddle", "vgg19pretrain.pdparams")
    assert found.weights["features.28.weight"].shape == (5, 1, 3, 3)
    assert not found.weights["features.28.bias"].any() and "no biases" in found.notes[0]
    assert found.ignored == [f"_conv_block_5._conv_{c}.weight" for c in (2, 3, 4)] + ["_fc1.weight"]


PLACES = [  # what is given, what is there, what is found
    ("", "n_g.pdparams n_d.pdparams n_e.pdparams opt.yaml", "n_g.pdparams n_d.pdparams n_e.pdparams"),
    ("", "latest_net_G.pth latest_net_D.pth 10_net_G.pth 10_net_D.pth x.txt", "latest_net_G.pth latest_net_D.pth"),
    ("", "model/n_g.npz model/n_e.npz pics/x.jpg", "model/n_g.npz model/n_e.npz"),
    ("", "n_g.pdparams n_g_ema.pdparams n_e_ema.pdparams", "n_g.pdparams"),
    (
        "10_net_G.pth",
        "latest_net_G.pth 10_net_G.pth 10_net_D.pth 10_net_E.pth",
        "10_net_G.pth 10_net_D.pth 10_net_E.pth",
    ),
    (
        "netG_epoch_2.ckpt",
        "netG_epoch_2.ckpt netD_epoch_2.ckpt netD_epoch_1.ckpt",
        "netG_epoch_2.ckpt netD_epoch_2.ckpt",
    ),
    ("n_g_ema.npz", "n_g_ema.npz n_e_ema.npz n_e.npz n_d.npz", "n_g_ema.npz n_d.npz n_e_ema.npz"),
    ("n_d.safetensors", "n_g.safetensors n_d.safetensors n_e.pth", "n_g.safetensors n_d.safetensors"),
    ("n_g.pdparams.before", "n_g.pdparams n_g.pdparams.before n_d.pdparams", "n_g.pdparams.before"),
    ("spade.pth", "spade.pth n_d.pth", "spade.pth"),
    ("best_net_Generator.pth", "best_net_Generator.pth best_net_D.pth", "best_net_Generator.pth"),
]


@pytest.mark.parametrize("given, there, found", PLACES)
def test_networks_are_found_by_their_usual_names(tmp_path, given, there, found):
    for name in there.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    files = network_files(tmp_path / given)
    assert [str(path.relative_to(tmp_path)) for path in files.values()] == found.split()
    assert list(files)[0] == "n_g"


@pytest.mark.parametrize("there", ["", "n_d.pdparams", "10_net_G.pth 20_net_G.pth", "n_g.pdparams n_g.npz", "x.pth"])
def test_a_generator_that_is_not_the_only_one_is_asked_for(tmp_path, there):
    for name in there.split():
        (tmp_path / name).write_text("x")
    refuses("holds no checkpoint and (no generator's weights|several generators)", network_files, tmp_path)


def test_known_channels_are_told_with_their_data_set():
    found = recognise(export_official(define_G(OPT.from_preset("ade20k", ngf=1, no_vgg_loss=True))), "torch", "x.pth")
    advice = found.advice(OPT(ngf=1, use_vae=False, no_vgg_loss=True))
    assert "--label_nc 149 with the other two" in advice
    assert "--label_nc 150 --contain_dontcare_label true --no_instance true" in advice
    assert not found.differences(OPT.from_preset("ade20k", ngf=1, no_vgg_loss=True, norm_G="spectralspadebatch3x3"))
