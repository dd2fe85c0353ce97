"""The PyTorch baseline and what the benchmark scripts share."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest
from common import refuses
from PIL import Image

from benchmarks import harness
from benchmarks.variants import Task

COCO = dict(
    label_nc=182, contain_dontcare_label=True, no_instance=False, output_nc=3, crop_size=256, aspect_ratio=1.0,
    ngf=64, ndf=64, norm_G="spectralspadesyncbatch3x3", norm_D="spectralinstance", norm_E="spectralinstance",
    num_upsampling_layers="normal", use_vae=True, z_dim=256, num_D=2, n_layers_D=4, gan_mode="hinge",
    no_ganFeat_loss=False, lambda_feat=10.0, lambda_vgg=10.0, lambda_kld=0.05, lr=2e-4, beta1=0.0, beta2=0.9,
    no_TTUR=False, init_variance=0.02,
)  # fmt: skip


@pytest.fixture(scope="module")
def baseline():
    pytest.importorskip("torch")
    from benchmarks import torch_spade

    return torch_spade


def options(**changes) -> SimpleNamespace:
    return SimpleNamespace(**{**COCO, "ngf": 2, "ndf": 2, "crop_size": 64, "label_nc": 5, "z_dim": 8, **changes})


def scene(batch: int = 1, size: int = 64, classes: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, (batch, size // 8, size // 8)).repeat(8, 1).repeat(8, 2)
    return {"label": label, "instance": label // 2, "image": harness.random_images(batch, (size, size), 0)}


def test_coco_generator_has_the_published_number_of_parameters(baseline):
    import torch

    with torch.device("meta"):
        net = baseline.SPADEGenerator(SimpleNamespace(**{**COCO, "use_vae": False}))
    assert sum(p.numel() for p in net.parameters()) == 97_480_899


def test_semantics_are_one_hot_with_edges_on_both_sides(baseline):
    label = np.array([[[0, 1], [5, 1]]])
    instance = np.array([[[7, 7], [7, 9]]])
    seg = baseline.one_hot_semantics(label, instance, options())
    assert seg.shape == (1, 7, 2, 2)
    assert (seg[:, :6].argmax(1).numpy() == label).all() and (seg[:, :6].sum(1) == 1).all()
    assert seg[0, 6].tolist() == [[0, 1], [1, 1]]
    assert baseline.one_hot_semantics(label, None, options(no_instance=True)).shape == (1, 6, 2, 2)


def test_spade_without_modulation_is_the_plain_normalisation(baseline):
    import torch

    layer = baseline.SPADE(3, 4)
    for conv in (layer.mlp_gamma, layer.mlp_beta):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    x = torch.randn(2, 3, 8, 8)
    out = layer(x, torch.rand(2, 4, 16, 16))
    assert torch.allclose(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(out.var((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-3)


@pytest.mark.parametrize(
    "changes, size",
    [
        ({}, (64, 64)),
        ({"use_vae": False, "aspect_ratio": 2.0}, (32, 64)),
        ({"num_upsampling_layers": "most", "crop_size": 256, "norm_G": "spadeinstance5x5"}, (256, 256)),
    ],
)
def test_generator_gives_images_of_the_options_size(baseline, changes, size):
    import torch

    opt = options(**changes)
    label = np.zeros((2, *size), np.uint8)
    net = baseline.SPADEGenerator(opt)
    with torch.no_grad():
        image = net(baseline.one_hot_semantics(label, label, opt))
    assert image.shape == (2, 3, *size) and image.abs().max() <= 1


def test_discriminator_gives_every_layer_of_every_scale(baseline):
    import torch

    opt = options(ndf=4)
    scales = baseline.MultiscaleDiscriminator(opt)(torch.rand(2, baseline.semantic_channels(opt) + 3, 64, 64))
    assert [[t.shape[1] for t in scale] for scale in scales] == [[4, 8, 16, 32, 1]] * 2
    assert [scale[-1].shape[2] for scale in scales] == [11, 7]


@pytest.mark.parametrize(
    "mode, expected", [("hinge", (-0.5, 1.5, 0.5)), ("w", (-0.5, 0.5, -0.5)), ("ls", (0.25, 0.25, 0.25))]
)
def test_gan_losses_of_a_constant_prediction(baseline, mode, expected):
    import torch

    scales = [[torch.zeros(1), torch.full((1, 1, 3, 3), 0.5)], [torch.zeros(1), torch.full((1, 1, 2, 2), 0.5)]]
    got = (
        baseline.gan_loss(scales, True, mode, for_discriminator=False),
        baseline.gan_loss(scales, False, mode),
        baseline.gan_loss(scales, True, mode),
    )
    assert [float(value) for value in got] == pytest.approx(expected)


def test_unknown_modes_are_refused(baseline):
    with pytest.raises(ValueError, match="gan_mode 'x'"):
        baseline.gan_loss([[None]], True, "x")
    with pytest.raises(ValueError, match="norm_G 'spectralspade'"):
        baseline.SPADEGenerator(options(norm_G="spectralspade"))
    with pytest.raises(ValueError, match="norm 'layer'"):
        baseline.normalised_conv("layer", 1, 1, 3)


def test_the_kl_divergence_of_the_standard_normal_is_zero(baseline):
    import torch

    zero = torch.zeros(2, 8)
    assert float(baseline.kld_loss(zero, zero)) == 0
    assert float(baseline.kld_loss(zero + 1, zero)) == pytest.approx(8)


def test_a_training_step_moves_every_network_and_gives_seven_losses(baseline):
    import torch

    class TinyVGG(torch.nn.Module):
        def forward(self, x):
            return [x] * 5

    torch.manual_seed(0)
    trainer = baseline.TorchTrainer(options(), vgg=TinyVGG())
    nets = {"G": trainer.G, "D": trainer.D, "E": trainer.E}
    before = {name: [p.detach().clone() for p in net.parameters()] for name, net in nets.items()}
    losses = trainer.step(scene())
    assert tuple(losses) == baseline.LOSS_NAMES
    assert all(np.isfinite(value) for value in losses.values())
    assert losses["d_loss"] == pytest.approx(losses["d_loss_f"] + losses["d_loss_r"])
    for name, net in nets.items():
        assert any((p != q).any() for p, q in zip(net.parameters(), before[name], strict=True)), name


def test_the_discriminator_step_leaves_no_gradient_in_the_generator(baseline):
    import torch

    trainer = baseline.TorchTrainer(options(use_vae=False))
    batch = scene()
    seg = baseline.one_hot_semantics(batch["label"], batch["instance"], trainer.opt)
    trainer.discriminator_step(seg, torch.from_numpy(batch["image"]))
    assert all(p.grad is None for p in trainer.G.parameters())
    assert any(p.grad.abs().sum() > 0 for p in trainer.D.parameters())


def test_weights_load_strictly(baseline):
    net = baseline.NLayerDiscriminator(options())
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    baseline.load_arrays(net, arrays)
    arrays.popitem()
    with pytest.raises(RuntimeError, match="Missing key"):
        baseline.load_arrays(net, arrays)


def test_alternate_runs_every_variant_in_every_round():
    order = []
    timings = harness.alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, warmup=1, pause=0)
    assert sorted(order[:2]) == sorted(order[2:4]) == sorted(order[4:]) == ["a", "b"]
    assert order[2:4] != order[4:]
    assert list(timings) == ["a", "b"] and all(len(t.seconds) == 2 for t in timings.values())
    with pytest.raises(ValueError, match="0 repeats"):
        harness.alternate({"a": list}, 0)


def test_timing_statistics_and_rows():
    ours, theirs = harness.Timing((1.0, 2.0, 3.0, 4.0, 100.0)), harness.Timing((6.0, 6.0, 6.0))
    assert ours.median == 3 and ours.quartiles == (2, 4)
    row = harness.speed_row("inference", {"pattern": ours, "torch": theirs}, size=256)
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
    parser = harness.add_flags(argparse.ArgumentParser(), repeats=3)
    Task.add_flags(parser)
    args = parser.parse_args(["--json", str(tmp_path / "rows.json"), "--threads", "2", "--case", "camvid"])
    assert (args.repeats, args.size, args.maps) == (3, None, None)
    task = Task.of(args)
    assert (task.shape, task.batch, task.ngf, task.options().generator_size) == ((96, 128), 4, 32, (96, 128))
    assert harness.report([lambda: {"name": "step"}], args) == 0
    assert "threads 2" in capsys.readouterr().out
    assert json.loads((tmp_path / "rows.json").read_text())[0]["machine"]["threads"] == 2
    with pytest.raises(SystemExit):
        parser.parse_args(["--batch", "0"])


def test_threads_are_set_before_the_frameworks(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", object())
    with pytest.raises(RuntimeError, match="before the import of .*torch"):
        harness.set_threads(2)


def write_maps(folder, label):
    for kind, values in (("label", label), ("inst", label)):
        (folder / f"train_{kind}").mkdir(parents=True)
        Image.fromarray(values).save(folder / f"train_{kind}" / "one.png")


def test_maps_are_resized_without_blending(tmp_path):
    label = np.array([[0, 255], [5, 3]], np.uint8)
    write_maps(tmp_path, label)
    maps = harness.load_maps(tmp_path, (4, 4), label_nc=182)
    assert maps.names == ("one",)
    assert (maps.label[0] == np.array([[0, 182], [5, 3]]).repeat(2, 0).repeat(2, 1)).all()
    assert (maps.instance[0] == label.repeat(2, 0).repeat(2, 1)).all()
    assert maps.batch(3, start=1)[0].shape == (3, 4, 4)


def test_wrong_map_folders_are_told(tmp_path):
    refuses("no PNG label maps", harness.load_maps, tmp_path, (4, 4))
    write_maps(tmp_path, np.full((2, 2), 9, np.uint8))
    refuses("label 9 is outside 0..4", harness.load_maps, tmp_path, (4, 4), label_nc=5)
    (tmp_path / "train_inst" / "one.png").unlink()
    refuses("one.png: not found", harness.load_maps, tmp_path, (4, 4))


def allocator(megabytes: int):
    """Used by the memory test, in a child process."""
    return lambda: np.ones(megabytes * 2**20, np.uint8).sum()


@pytest.mark.skipif(not harness.Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
def test_peak_memory_sees_what_a_callable_allocates(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(harness.Path(__file__).parent))
    memory = harness.peak_memory("test_torch_spade:allocator", {"megabytes": 64})
    assert 60 * 2**20 < memory.used < 160 * 2**20
    with pytest.raises(RuntimeError, match="no_such_function"):
        harness.peak_memory("test_torch_spade:no_such_function")
