"""tools/convert_weights.py, end to end: what torch wrote computes the same here, and goes back to torch strictly."""

import pickle
import re

import numpy as np
import paddle
import pytest
import safetensors.numpy
from common import PARITY, close, refuses, same
from test_weights import attack

from model import OPT, Semantics, define_D, define_E, define_G
from model.errors import UserError, run_cli
from model.judges.deeplab import DeepLabV2
from model.judges.inception import FIDInception
from model.serving.synthesizer import Synthesizer
from model.vgg import VGG19
from model.weights import export_official, load_official
from model.weights.files import read_network, write_weights
from model.weights.kinds import Found
from model.weights.mindspore_file import read_mindspore, to_mindspore, write_mindspore
from model.weights.published import find_network
from tools import convert_weights

try:
    import torch

    from benchmarks import torch_spade
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch writes the files that are converted")

SMALL = {"crop_size": 64, "load_size": 64, "ngf": 2, "ndf": 2, "label_nc": 5, "z_dim": 4, "no_vgg_loss": True}
VAE = OPT(**SMALL)
PLAIN = OPT(**SMALL, use_vae=False)


def maps(opt, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, opt.label_nc + 1, (2, 8, 8)).repeat(8, 1).repeat(8, 2)
    instance = rng.integers(0, 4, (2, 4, 4)).repeat(16, 1).repeat(16, 2)
    image = np.tanh(rng.normal(size=(2, 3, 64, 64))).astype(np.float32)
    return label, instance, image


def trained(net):
    """A torch network whose every number differs from a fresh one's."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point() and not name.endswith(("weight_u", "weight_v", "running_var")):
                tensor += 0.02 * torch.randn(tensor.shape, generator=generator)
            elif name.endswith("num_batches_tracked"):
                tensor += 7
        for module in net.modules():
            if hasattr(module, "weight_orig"):  # as training leaves them; at random, sigma may be anywhere near 0
                w = module.weight_orig.flatten(1)
                for _ in range(5):
                    module.weight_v.copy_(torch.nn.functional.normalize(w.T @ module.weight_u, dim=0))
                    module.weight_u.copy_(torch.nn.functional.normalize(w @ module.weight_v, dim=0))
    return net.eval()


def convert(*arguments):
    return convert_weights.main([str(a) for a in arguments])


NETWORKS = {
    "G with VAE": (VAE, "SPADEGenerator", define_G),
    "G": (PLAIN, "SPADEGenerator", define_G),
    "D": (PLAIN, "MultiscaleDiscriminator", define_D),
    "E": (VAE, "ConvEncoder", define_E),
}


def inputs(name):
    """What the network of this name takes in torch, and here."""
    opt = NETWORKS[name][0]
    label, instance, image = maps(opt)
    theirs, ours = torch_spade.one_hot_semantics(label, instance, opt), Semantics(label, instance, opt)
    if name == "E":
        return [torch.from_numpy(image)], [paddle.to_tensor(image)]
    if name == "D":
        return [torch.cat([theirs, torch.from_numpy(image)], 1)], [ours, paddle.to_tensor(image)]
    z = np.random.default_rng(1).normal(size=(2, opt.z_dim)).astype(np.float32)
    return ([theirs, torch.from_numpy(z)], [ours, paddle.to_tensor(z)]) if opt.use_vae else ([theirs, None], [ours])


def compute_the_same(name, theirs, target):
    """Assert that the converted file's network, by its name, gives what the torch network gives."""
    opt, _, define = NETWORKS[name]
    ours = define(opt)
    missing, unexpected = ours.set_state_dict(paddle.load(str(target)))
    assert not missing and not unexpected
    ours.eval()
    for_torch, for_paddle = inputs(name)
    with torch.no_grad(), paddle.no_grad():
        wanted, got = (paddle.utils.flatten(outputs) for outputs in (theirs(*for_torch), ours(*for_paddle)))
    for one, other in zip(wanted, got, strict=True):
        close(other, one, PARITY / 10, PARITY)


@needs_torch
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", NETWORKS)
def test_torch_weights_compute_the_same_and_go_back_strictly(tmp_path, name, zipped, capsys):
    opt, theirs, _ = NETWORKS[name]
    theirs = trained(getattr(torch_spade, theirs)(opt))
    source, target, back = tmp_path / "latest_net.pth", tmp_path / "n.pdparams", tmp_path / "back.pth"
    torch.save(theirs.state_dict(), source, _use_new_zipfile_serialization=zipped)

    convert(source, target)
    said = capsys.readouterr().out
    assert f"({'zip' if zipped else 'legacy'})" in said
    assert f"{sum(p.numel() for p in theirs.parameters()):,} parameters" in said
    assert f"{len(theirs.state_dict())} keys used" in said and "0 keys ignored" in said

    compute_the_same(name, theirs, target)

    convert(target, back)
    loaded = torch.load(back, weights_only=True)
    type(theirs)(opt).load_state_dict(loaded, strict=True)
    for key, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(loaded[key].numpy(), tensor.numpy())


def parametrized(net):
    """The network with spectral norm as today's PyTorch has it, on the same vectors."""
    for module in list(net.modules()):
        if hasattr(module, "weight_orig"):
            weight, u, v = (t.detach().clone() for t in (module.weight_orig, module.weight_u, module.weight_v))
            torch.nn.utils.remove_spectral_norm(module)
            torch.nn.utils.parametrizations.spectral_norm(module)
            with torch.no_grad():
                module.parametrizations.weight.original.copy_(weight)
                module.parametrizations.weight[0]._u.copy_(u)
                module.parametrizations.weight[0]._v.copy_(v)
    return net.eval()


@needs_torch
@pytest.mark.parametrize(
    ("ending", "wrapped"),
    [("pth", "{}"), ("safetensors", "module.{}"), ("npz", "_orig_mod.{}"), ("pth", "module._orig_mod.{}")],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_names_of_todays_torch(tmp_path, name, wrapped, ending):
    opt, theirs, _ = NETWORKS[name]
    theirs = parametrized(trained(getattr(torch_spade, theirs)(opt)))
    state = {wrapped.format(key): tensor for key, tensor in theirs.state_dict().items()}
    assert any(key.endswith("parametrizations.weight.0._u") for key in state)
    source, target = tmp_path / f"net.{ending}", tmp_path / "n.pdparams"
    if ending == "pth":
        torch.save(state, source)
    else:
        arrays = {key: tensor.numpy() for key, tensor in state.items()}
        safetensors.numpy.save_file(arrays, source) if ending == "safetensors" else np.savez(source, **arrays)
    convert(source, target)
    compute_the_same(name, theirs, target)


@needs_torch
def test_other_parametrizations_are_refused_by_name(tmp_path):
    net = torch_spade.MultiscaleDiscriminator(PLAIN)
    torch.nn.utils.parametrizations.weight_norm(net.discriminator_1.model0[0])
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"discriminator_1\.model0\.0\.parametrizations.*remove_parametrizations"):
        convert(tmp_path / "net.pth", tmp_path / "n.pdparams")


@pytest.mark.parametrize("ending", ["pdparams", "pth", "safetensors", "npz", "ckpt"])
@pytest.mark.parametrize("name", ["G", "D"])
def test_every_format_round_trips(tmp_path, name, ending):
    opt, _, define = NETWORKS[name]
    arrays = export_official(define(opt))
    load_official(net := define(opt), {k: v + 1 if v.dtype == np.int64 else v * 1.5 for k, v in arrays.items()})
    paddle.save(net.state_dict(), str(tmp_path / "n.pdparams"))
    convert(tmp_path / "n.pdparams", tmp_path / f"other.{ending}")
    convert(tmp_path / f"other.{ending}", tmp_path / "again.pdparams")
    if ending == "ckpt":
        assert {array.dtype for array in read_mindspore(tmp_path / "other.ckpt").values()} == {np.dtype(np.float32)}
    again = paddle.load(str(tmp_path / "again.pdparams"))
    assert list(again) == list(net.state_dict())
    for key, tensor in net.state_dict().items():
        if ending == "ckpt" and key.endswith("num_batches_tracked"):
            continue  # MindSpore does not count batches
        np.testing.assert_array_equal(again[key].numpy(), tensor.numpy())


def test_options_are_inferred(tmp_path):
    opt = OPT(crop_size=256, aspect_ratio=2.0, ngf=2, label_nc=35, contain_dontcare_label=False,
              norm_G="spadeinstance5x5", num_upsampling_layers="most", z_dim=3, no_vgg_loss=True, ndf=4, num_D=3,
              n_layers_D=3, norm_D="batch", norm_E="spectralnone")  # fmt: skip
    expected = {
        define_G: ("generator", ("label_nc", "contain_dontcare_label", "no_instance", "ngf", "norm_G", "z_dim",
                                 "use_vae", "num_upsampling_layers", "output_nc", "semantic_nc", "start_size")),
        define_D: ("discriminator", ("ndf", "num_D", "n_layers_D", "norm_D", "semantic_nc")),
        define_E: ("encoder", ("ngf", "z_dim", "norm_E")),
    }  # fmt: skip
    for define, (kind, fields) in expected.items():
        paddle.save(define(opt).state_dict(), str(tmp_path / "n.pdparams"))
        found, _ = read_network(tmp_path / "n.pdparams")
        assert found.kind == kind
        for field in fields:
            assert found.options[field] == getattr(opt, field), field


@pytest.mark.parametrize("preset, changes", [
    ("ade20k", {}), ("cityscapes", {}), ("coco_stuff", {"use_vae": False}), ("coco_stuff", {"z_dim": 8}),
])  # fmt: skip
def test_a_generator_without_options_gets_its_recipes(tmp_path, preset, changes, capsys):
    opt = OPT.from_preset(preset, ngf=2, **changes)
    G = define_G(opt)
    write_weights(tmp_path / "latest_net_G.pth", Found("generator", "", export_official(G), lambda: G))
    target = tmp_path / "weights" / "n_g.pdparams"
    convert(tmp_path / "latest_net_G.pth", target, "--preset", preset)
    assert f"{preset}'s options" in capsys.readouterr().out
    assert OPT.load(target.parent / "opt.yaml").incompatible(opt) == {}
    assert OPT.load(target.parent / "opt.yaml").dataroot == opt.dataroot
    label = np.zeros((1, *opt.generator_size), np.int32)
    paint = Synthesizer.load(target)
    G.eval()
    z = paddle.to_tensor(paint.noise(0)[None]) if opt.use_vae else None
    with paddle.no_grad():
        want = G(Semantics(label, None if opt.no_instance else label, opt), z).numpy()
    batch = {"label": label} | ({} if opt.no_instance else {"instance": label})
    np.testing.assert_array_equal(paint.paint(batch, None if z is None else z.numpy()), want)


def test_a_preset_that_does_not_fit_is_refused(tmp_path):
    def written(net, kind):
        write_weights(path := tmp_path / f"{kind}.pth", Found(kind, "", export_official(net), lambda: net))
        return path

    ade20k = OPT.from_preset("ade20k", ngf=2, ndf=2)
    G, D = written(define_G(ade20k), "generator"), written(define_D(ade20k), "discriminator")
    target = tmp_path / "weights" / "n_g.pdparams"
    refuses("takes 151 channels .* preset cityscapes has 36", convert, G, target, "--preset", "cityscapes")
    refuses("--preset is for a generator, .* of a discriminator", convert, D, target, "--preset", "ade20k")
    large = written(define_G(OPT(ngf=2, crop_size=512, load_size=572)), "large")
    with pytest.raises(UserError, match="another size .* 256 pixels wide: .* has 256 cells, not 64"):
        convert(large, target, "--preset", "coco_stuff")
    assert not target.parent.exists()
    convert(G, target, "--preset", "ade20k")
    refuses("opt.yaml exists", convert, G, target.with_name("other.pdparams"), "--preset", "ade20k")
    convert(G, target, "--preset", "ade20k", "--force")


@needs_torch
def test_module_prefix_and_missing_counters(tmp_path, capsys):
    theirs = trained(torch_spade.SPADEGenerator(PLAIN))
    state = {f"module.{k}": v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    convert(tmp_path / "old.pth", tmp_path / "new.pth")
    said = capsys.readouterr().out
    assert "prefix 'module.' removed" in said and "counters added" in said
    theirs.load_state_dict(torch.load(tmp_path / "new.pth", weights_only=True), strict=True)


def test_mindspore_names(tmp_path, capsys):
    arrays = export_official(define_D(PLAIN))
    named = to_mindspore(arrays)
    assert named["discriminator_1.model2_conv.weight_u"].shape == (8, 1)
    assert named["discriminator_0.model1_bn.gamma"].shape == (1, 4, 1, 1)
    assert {"discriminator_0.model0.0.weight", "discriminator_0.model4.0.bias"} <= set(named)
    with open(tmp_path / "netD_epoch_200.ckpt", "wb") as file:
        write_mindspore(file, {f"D.netD.{k}": v for k, v in named.items()})  # the names that training wraps leave
    convert(tmp_path / "netD_epoch_200.ckpt", tmp_path / "n_d.pdparams")
    assert "12 keys ignored: " in capsys.readouterr().out
    generator = to_mindspore(export_official(define_G(PLAIN)))
    assert {"head_0.conv_0.weight", "head_0.conv_0.weight_u", "up_0.conv_s.weight_v"} <= set(generator)
    norm = "up_3.norm_1.param_free_norm."
    assert {norm + leaf for leaf in ("gamma", "beta", "moving_mean", "moving_variance")} <= set(generator)
    assert not any("running" in name or "tracked" in name or "orig" in name for name in generator)


def test_mindspore_has_no_vae(tmp_path):
    paddle.save(define_G(VAE).state_dict(), str(tmp_path / "n.pdparams"))
    refuses("only the generator with no VAE", convert, tmp_path / "n.pdparams", tmp_path / "n.ckpt")
    paddle.save(define_E(VAE).state_dict(), str(tmp_path / "n.pdparams"))
    refuses("no encoder", convert, tmp_path / "n.pdparams", tmp_path / "n.ckpt")
    assert not (tmp_path / "n.ckpt").exists()


@pytest.mark.slow
@needs_torch
def test_vgg_features_agree_with_torch(tmp_path, capsys):
    theirs = trained(torch_spade.VGG19())
    state = {k if k.startswith("features.") else f"features.{k}": v for k, v in theirs.state_dict().items()}
    torch.save(state | {"classifier.6.bias": torch.zeros(1000)}, tmp_path / "vgg19-dcbb9e9d.pth")
    convert(tmp_path / "vgg19-dcbb9e9d.pth", f"{tmp_path}/vgg/")
    assert "1 keys ignored: classifier.6.bias" in capsys.readouterr().out
    ours = VGG19()
    ours.set_state_dict(paddle.load(str(tmp_path / "vgg/vgg19pretrain.pdparams")))
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32)
    with torch.no_grad(), paddle.no_grad():
        for want, got in zip(theirs(torch.from_numpy(image)), ours(paddle.to_tensor(image)), strict=True):
            close(got, want, PARITY / 10 * float(want.abs().max()), PARITY)


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("kind, net, older", [
    ("inception", FIDInception, {}), ("deeplab", DeepLabV2, {"base.": "scale.", "aspp.": "aspp.stages."}),
])  # fmt: skip
def test_judges_are_converted_and_found(tmp_path, kind, net, older):
    arrays, state = export_official(net()), {}
    for name, array in arrays.items():
        for ours, theirs in older.items():
            name = name.replace(ours, theirs)
        state[name] = torch.from_numpy(array)
    torch.save(state, tmp_path / "published.pth", _use_new_zipfile_serialization=False)
    convert(tmp_path / "published.pth", f"{tmp_path}/weights/")
    same(export_official(find_network(kind, tmp_path / "weights")), arrays)


# ---- refusals: exit status 2, one line, nothing written ----


def incomplete(path):
    state = define_D(PLAIN).state_dict()
    del state["discriminator_1.model4.0.bias"]
    paddle.save(state, str(path))


REFUSED = {
    "a pickle with a call": (lambda p: p.write_bytes(pickle.dumps(attack(p.parent / "touched"))), "nothing of it"),
    "a torch file with an object": (lambda p: torch.save({"w": attack(p.parent / "touched")}, p), "io.open"),
    "a whole torch module": (lambda p: torch.save(torch.nn.Linear(2, 2), p), "state_dict"),
    "an unknown network": (lambda p: torch.save({"blocks.0.weight": torch.zeros(2)}, p), "no network known"),
    "a missing key": (incomplete, "1 missing: discriminator_1.model4.0.bias"),
    "an empty file": (lambda p: p.write_bytes(b""), "is empty"),
}


@needs_torch
@pytest.mark.parametrize("make, reason", REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, capsys, monkeypatch, make, reason):
    make(tmp_path / "source")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    monkeypatch.setattr("sys.argv", ["convert_weights.py", str(tmp_path / "source"), str(tmp_path / "target.pdparams")])
    with pytest.raises(SystemExit) as caught:
        run_cli(convert_weights.main)
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert re.search(reason, said) and said.startswith("error: ") and said.count("\n") == 1 and "source" in said
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@needs_torch
def test_an_existing_target_is_kept(tmp_path):
    torch.save(trained(torch_spade.ConvEncoder(VAE)).state_dict(), tmp_path / "e.pth")
    (tmp_path / "n_e.pdparams").write_bytes(b"precious")
    refuses("--force", convert, tmp_path / "e.pth", tmp_path)
    assert (tmp_path / "n_e.pdparams").read_bytes() == b"precious"
    convert(tmp_path / "e.pth", tmp_path, "--force")
    assert "fc_mu.weight" in paddle.load(str(tmp_path / "n_e.pdparams"))
    refuses("cannot write a .onnx", convert, tmp_path / "e.pth", tmp_path / "e.onnx")


@needs_torch
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    torch.save(trained(torch_spade.ConvEncoder(VAE)).state_dict(), tmp_path / "e.pth")
    (tmp_path / "e.npz").write_bytes(b"precious")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.weights.files.np.savez", full)
    refuses("cannot write .*e.npz: No space", convert, tmp_path / "e.pth", tmp_path / "e.npz", "--force")
    assert (tmp_path / "e.npz").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.npz", "e.pth"]
