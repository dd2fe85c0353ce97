"""Options: defaults, checks and their messages, derived values, presets, yaml files, the command lines."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from common import ROOT, files_up_to, python, refused, refuses

from model import command_line, options
from model.command_line import parse_train, parse_val
from model.configuration.presets import PRESETS
from model.configuration.texts import parse_ids, parse_norm
from model.options import OPT
from model.serving.val_options import ValOPT

CUSTOM = dict(label_dir="labels", image_dir="images", instance_dir="instances")


def preset(recipe, **overrides):
    return OPT.from_preset(recipe, **{**(CUSTOM if recipe == "custom" else {}), **overrides})


# Defaults and documentation


def test_defaults_are_coco_stuffs():
    opt = OPT()
    assert (opt.label_nc, opt.contain_dontcare_label, opt.no_instance, opt.use_vae) == (182, True, False, True)
    assert (opt.crop_size, opt.load_size, opt.gan_mode, opt.no_vgg_loss) == (256, 286, "hinge", False)
    assert opt.semantic_nc == 184
    assert opt.learning_rates == (1e-4, 4e-4)
    assert opt.betas == (0.0, 0.9)
    opt.check_training()
    assert dataclasses.replace(opt, no_instance=True).semantic_nc == 183
    assert dataclasses.replace(opt, contain_dontcare_label=False).semantic_nc == 183


def test_old_options_explain_themselves_and_are_in_the_migration_tables():
    tables = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    fields = {f.name for cls in (OPT, ValOPT) for f in dataclasses.fields(cls)}
    for name, way in command_line.RENAMED.items():
        assert name not in {f.name for f in dataclasses.fields(OPT)}
        assert re.search(rf"`{name}[` ]", tables), name
        assert set(re.findall(r"--(\w+)", way)) <= fields | {"config"}, way
    assert set(re.findall(r"`--(\w+)[` ]", tables)) <= fields | {"config"} | set(command_line.RENAMED)


@pytest.mark.parametrize("cls", [OPT, ValOPT])
def test_every_field_is_documented(cls):
    for f in dataclasses.fields(cls):
        assert len(f.metadata["help"]) > 10 and "%" not in f.metadata["help"], f.name
        assert cls is ValOPT or f.metadata["group"] in options.GROUPS


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        OPT().ngf = 3
    assert dataclasses.replace(OPT(), ngf=3).ngf == 3


# Checks of values


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(crop_size=250), r"^crop_size 250 is not divisible by 32 .* 256$"),
        (dict(crop_size=96, num_upsampling_layers="more"), r"crop_size 96 is not divisible by 64"),
        (dict(crop_size=64, num_upsampling_layers="most"), r"crop_size 64 is not divisible by 128 .* 128$"),
        (dict(crop_size=128, num_upsampling_layers="most", aspect_ratio=2.0), r"first block 0x1 pixels"),
        (dict(aspect_ratio=0), r"aspect_ratio 0.0 is out of range: expected > 0"),
        (dict(ngf=0), r"ngf 0 is out of range: expected >= 1"),
        (dict(ngf=1.5), r"ngf 1.5 is not a whole number"),
        (dict(ngf="8"), r"ngf '8' is not a whole number"),
        (dict(ngf=True), r"ngf True is not a whole number"),
        (dict(lr="fast"), r"lr 'fast' is not a finite number"),
        (dict(lr=0), r"lr 0.0 is out of range: expected > 0"),
        (dict(lr=float("nan")), r"lr nan is not a finite number"),
        (dict(lambda_kld=float("inf")), r"lambda_kld inf is not a finite number"),
        (dict(lambda_vgg=10**400), r"is not a finite number"),
        (dict(beta2=1), r"beta2 1.0 is out of range: expected >= 0 and < 1"),
        (dict(use_vae=1), r"use_vae 1 is not true or false"),
        (dict(dataroot=3), r"dataroot 3 is not text"),
        (dict(dataroot="a\0b"), r"dataroot 'a\\x00b' holds a NUL character"),
        (dict(max_steps=0), r"max_steps 0 is out of range: expected >= 1"),
        (dict(max_steps="all"), r"max_steps 'all' is not a whole number or null"),
        (dict(seed=2**32), r"seed 4294967296 is out of range: expected >= 0 and <= 4294967295"),
        (dict(gan_mode="hing"), r"gan_mode 'hing' is unknown: expected one of hinge, ls, original, w; .* hinge\?"),
        (dict(preprocess_mode="resize"), r"preprocess_mode 'resize' is unknown: expected one of resize_and_crop, crop"),
        (dict(dataset_mode="coco"), r"dataset_mode 'coco' is unknown: .*coco_stuff"),
        (dict(norm_G="spectralsyncbatch3x3"), r"norm_G .* expected \[spectral\]spade.*mean spectralspadesyncbatch3x3"),
        *(
            (dict(norm_G=text), f"norm_G '{text}' is unknown")
            for text in ("spectralspadebatch7x7", "spadebatch", "spadebatch3x5", "spadelayer3x3", "batch3x3", "")
        ),
        (dict(norm_G="spadebatch"), r"did you mean spadebatch3x3\?"),
        (dict(norm_D="spectralinstanse"), r"norm_D 'spectralinstanse' is unknown.*did you mean spectralinstance\?"),
        (dict(norm_E="layer"), r"norm_E 'layer' is unknown: expected \[spectral\]\{instance,batch,syncbatch,none\}$"),
        (dict(z_dim=0), r"use_vae needs a style vector, and z_dim is 0"),
        (dict(D_steps_per_G=0), r"D_steps_per_G 0 is out of range"),
        (dict(reuse_fake=True, D_steps_per_G=2), r"reuse_fake and D_steps_per_G 2 exclude each other"),
        (dict(output_nc=2), r"output_nc 2: .* colour \(3\) or grey \(1\)"),
        (dict(output_nc=4), r"output_nc 4 is out of range"),
        (dict(device="tpu"), r"device 'tpu' is unknown: expected auto, cpu, gpu or gpu:N"),
        (dict(dataset_mode="custom"), r"dataset_mode custom needs label_dir"),
        (dict(image_dir="i"), r"image_dir and instance_dir go with label_dir, which is empty"),
    ],
)
def test_wrong_values(changes, message):
    refuses(message, OPT, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        dict(use_vae=False, z_dim=0),
        dict(no_vgg_loss=True, lambda_vgg=0),
        dict(dataset_mode="custom", label_dir="l", no_instance=True),
        *(dict(preprocess_mode=mode, load_size=286, crop_size=512) for mode in options.PREPROCESS_MODES),
        *(
            dict(preprocess_mode=mode, crop_size=250, load_size=333, aspect_ratio=1.3)
            for mode in ("none", "scale_width", "scale_shortside")
        ),
    ],
)
def test_what_is_unused_is_not_refused(changes):
    OPT(**changes)


WORDS = "|1e5|2e-4|null|true|2024|a: b|# c|- d|{e|\u4e2d\u6587|x\ny|...".split("|")  # which yaml may read otherwise


@pytest.mark.parametrize("text", [*map(chr, range(1, 0xA1)), *"\u2028\u2029\ufeff\ufffe\u8857\U0001f600\udcbd", *WORDS])
def test_names_with_any_text_come_back(tmp_path, text):
    name = f"{text}a {text}: #{text}"
    OPT(dataroot=name, output=text).save(tmp_path / "opt.yaml")
    assert (OPT.load(tmp_path / "opt.yaml").dataroot, OPT.load(tmp_path / "opt.yaml").output) == (name, text)


def test_values_take_their_fields_type():
    opt = OPT(lambda_feat=10, ngf=np.int64(8), lr=np.float32(0.5), dataroot=Path("a") / "b")
    assert [type(v) for v in (opt.lambda_feat, opt.ngf, opt.lr, opt.dataroot)] == [float, int, float, str]


def test_norm_d_spellings_of_the_released_code():
    kept = {"": "none", "spectral": "spectralnone", "spectralsync_batch": "spectralsyncbatch", "instance": "instance"}
    for name in ("norm_D", "norm_E"):
        assert {given: getattr(OPT(**{name: given}), name) for given in kept} == kept
    parts = [(False, "none"), (True, "none"), (True, "syncbatch"), (False, "instance")]
    assert [parse_norm(text) for text in kept.values()] == parts


# Derived values


@pytest.mark.parametrize(
    "layers, crop, ratio, start",
    [
        ("normal", 256, 1.0, (8, 8)),
        ("more", 512, 2.0, (4, 8)),
        ("most", 256, 2.0, (1, 2)),
        ("normal", 256, 1.3333, (6, 8)),
        ("normal", 256, 0.5, (16, 8)),
    ],
)
def test_sizes(layers, crop, ratio, start):
    opt = OPT(num_upsampling_layers=layers, crop_size=crop, aspect_ratio=ratio)
    assert opt.start_size == start
    assert opt.generator_size == opt.image_size
    opt.check_geometry()


@pytest.mark.parametrize("mode", options.PREPROCESS_MODES)
def test_loader_size(mode):
    size = (128, 256) if mode == "fixed" else (256, 256) if "crop" in mode else None
    assert OPT(preprocess_mode=mode, aspect_ratio=2.0).loader_size == size


def test_decay():
    opt = OPT(niter=3, niter_decay=4)
    assert [opt.decay(e) for e in range(1, 9)] == [1, 1, 1, 1, 0.75, 0.5, 0.25, 0]
    assert opt.decay(100) == 0
    assert opt.total_epochs == 7
    assert OPT(niter=3, niter_decay=0).decay(9) == 1


# Geometry and training


def test_geometry_names_aspect_ratios_that_fit():
    said = refuses(r"256x171 .* 256x160 differ: .* 1.5 does not fit, .*1.6", OPT(aspect_ratio=1.5).check_geometry)
    for word in said.split("values that do are ")[1].split(", "):
        OPT(aspect_ratio=float(word.split(" ")[0])).check_geometry()


def test_geometry_of_real_pictures():
    check = OPT().check_geometry
    check((256, 256))
    refuses(r"256x224 .* 256x256 differ: aspect_ratio 1 .*1.14286 \(256x224\)", check, (224, 256))
    refuses(r"300x300 .*crop_size must be the pictures' width and a multiple of 32", check, (300, 300))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(aspect_ratio=2.0), r"resize_and_crop cuts squares, and aspect_ratio is 2: give aspect_ratio 1"),
        (dict(crop_size=512), r"load_size 286 is smaller than crop_size 512, .* \(usual: 572\)"),
        (dict(preprocess_mode="scale_width"), r"286 wide \(load_size\), and the generator's are 256 wide"),
        (dict(preprocess_mode="fixed", aspect_ratio=1.5), r"aspect_ratio 1.5 does not fit"),
        (dict(niter=0), r"nothing to train"),
        (dict(dataset_mode="custom", label_dir="l", no_instance=True), r"needs image_dir"),
        (dict(label_dir="l", image_dir="i"), r"needs instance_dir, .* or no_instance"),
    ],
)
def test_options_that_cannot_be_trained(changes, message):
    refuses(message, OPT(**changes).check_training)


def test_square_crops_ignore_load_size_where_nothing_is_scaled():
    OPT(preprocess_mode="crop", load_size=10).check_training()
    OPT(preprocess_mode="fixed", load_size=10).check_training()


@pytest.mark.parametrize(
    "text, ids",
    [("0-2,7", (0, 1, 2, 7)), (" 5 , 3-3 ", (5, 3)), ("", ()), ("65535", (65535,)), ("2,0-2", (2, 0, 1, 2)),
     *((text, None) for text in ("3-1", "1-", "-1", "0-65536", "1-2-3", "a", "1,,2", "0.5", "0 - 2", "\u0661"))],
)  # fmt: skip
def test_ids_and_ranges_of_them(text, ids):
    if ids is None:
        said = r"^--things '.*' is no id and no range: expected .*ranges such as 0-90$"
        refuses(said, parse_ids, text, "--things", ranges=True)
    else:
        assert parse_ids(text, "--things", ranges=True) == ids
    if "-" in text:
        refuses(r"^unknown_ids .* is no id: expected whole numbers 0..65535 with commas", parse_ids, text)


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_trained_and_saved(name, tmp_path):
    opt = preset(name)
    assert (opt.preset, opt.dataset_mode) == (name, "ade20k" if name == "ade20k_mindspore" else name)
    opt.check_training()
    opt.save(tmp_path / "opt.yaml")
    assert OPT.load(tmp_path / "opt.yaml") == opt


def test_sample_preset_is_short_and_its_learning_rate_can_be_changed():
    opt = preset("sample")
    assert opt.total_epochs * 240 / opt.batchSize <= 400 and opt.display_freq <= 20
    assert (opt.learning_rates, opt.betas) == ((1e-3, 1e-3), (0.0, 0.9))
    assert parse_train(["--preset", "sample", "--lr", "5e-4"]).learning_rates == (5e-4, 5e-4)


def test_preset_channels():
    channels = {"coco_stuff": 184, "ade20k": 151, "cityscapes": 36, "facades": 13, "camvid": 12}
    assert {name: preset(name).semantic_nc for name in channels} == channels


def test_mindspore_s_recipe():
    ade, ported = preset("ade20k"), preset("ade20k_mindspore")
    assert set(ade.differences(ported)) == {"preset", "batchSize", "beta2", "G_lr", "D_lr"}
    assert (ported.batchSize, ported.learning_rates, ported.betas) == (8, (1e-4, 4e-4), (0.0, 0.999))
    assert (ported.total_epochs, ported.decay(101), ported.decay(200)) == (200, 1.0, pytest.approx(0.01))
    assert ade.learning_rates == ported.learning_rates


def test_from_preset():
    opt = OPT.from_preset("cityscapes", batchSize=4)
    assert (opt.crop_size, opt.batchSize) == (512, 4)
    refuses(r"preset 'cityscape' is unknown: .*did you mean cityscapes\?", OPT.from_preset, "cityscape")
    refuses(r"unknown option batchsize; did you mean batchSize\?", OPT.from_preset, "sample", batchsize=4)


def test_edited_defaults_reach_presets_and_command_line(tmp_path):
    shutil.copytree(ROOT / "model", tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__", "assets"))
    file = tmp_path / "model" / "options.py"
    edited = file.read_text(encoding="utf-8").replace("ndf: int = _networks(64,", "ndf: int = _networks(48,")
    edited, found = re.subn(r'(preset: str = _data\(\s*)"coco_stuff"', r'\1"facades"', edited)
    assert edited.count("_networks(48,") == 1 and found == 1
    file.write_text(edited, encoding="utf-8")
    code = "from model.command_line import parse_train\nfrom model.options import OPT\no = parse_train([])\n"
    code += "print(o.ndf, o.label_nc, OPT.from_preset('ade20k').ndf)"
    assert python("-c", code, cwd=tmp_path).stdout.split() == ["48", "13", "48"]


# Yaml


def test_save_is_readable_and_atomic(tmp_path):
    path = tmp_path / "new" / "opt.yaml"
    OPT(dataroot="größe: 1e5", lr=3e-5).save(path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Options") and "# networks: " in text
    assert set(yaml.safe_load(text)) == {f.name for f in dataclasses.fields(OPT)}
    assert OPT.load(path) == OPT(dataroot="größe: 1e5", lr=3e-5)
    with files_up_to(100):
        refuses("cannot write .*opt.yaml: File too large", OPT(ngf=1).save, path)
    assert path.read_text(encoding="utf-8") == text
    assert [p.name for p in path.parent.iterdir()] == ["opt.yaml"]


def test_name_is_the_run_s_folder():
    opt = OPT(name="exp-2.1")
    assert (opt.output, opt.log_dir) == ("output/exp-2.1", "log/exp-2.1")
    assert dataclasses.replace(opt, lr=0.1).output == opt.output
    opt = OPT(name="größe", output="runs")
    assert (opt.output, opt.log_dir) == ("runs", "log/größe")
    for name in ("..", "a/b", ".a", "a b", " "):
        refuses("is no folder's name: expected letters", OPT, name=name)


def test_handwritten_yaml(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("# mine\nngf: 8\nlr: 2e-5\nuse_vae: no\nG_lr: null\n")
    opt = OPT.load(path)
    assert (opt.ngf, opt.lr, opt.use_vae, opt.G_lr, opt.ndf) == (8, 2e-5, False, None, 64)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "found nothing"),
        (bytes(range(256)), "opt.yaml: not a yaml file of options"),
        ("- 1\n- 2\n", "found list"),
        ("just words", "found str"),
        ("ngf: [8\n", "not a yaml file of options"),
        ("ngf: 8\nngf: 9\n", "line 2: .*ngf is given twice"),
        ("{[1]: 2}\n", "not a yaml file of options"),
        ("seed: 2001-99-99\n", "not a yaml file of options"),
        ("a: " + "[" * 5000, "not a yaml file of options"),
        ("crop_sise: 256\n", r"unknown option crop_sise; did you mean crop_size\?"),
        ("7: 256\n", "unknown option 7"),
        ("ngf: eight\n", "ngf 'eight' is not a whole number"),
        ("ngf: 8\nlr: fast\n", "lr 'fast' is not a finite number"),
        ("lr: 1e999\n", "lr inf is not a finite number"),
        ("lr: .nan\n", "lr nan is not a finite number"),
        ("preset: [sample]\n", r"preset \['sample'\] is not text"),
        ("name: 2024\n", "name 2024 is not text .in a yaml file, put it in quotes."),
        ("crop_size: 250\n", "crop_size 250 is not divisible by 32"),
        ("z_dim: !!python/object/apply:os.system ['touch hacked']\n", "not a yaml file of options"),
        ("!!python/object/new:model.options.OPT {}\n", "not a yaml file of options"),
    ],
)
@pytest.mark.parametrize("reader", ["load", "--config"])
def test_damaged_or_hostile_yaml(text, message, reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "opt.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    read = OPT.load if reader == "load" else lambda path: parse_train(["--config", str(path)])
    said = refuses(message, read, path)
    assert "250" in message or said.startswith(str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["opt.yaml"]


def test_missing_yaml(tmp_path):
    refuses("gone.yaml: No such file or directory", OPT.load, tmp_path / "gone.yaml")
    refuses("Is a directory", OPT.load, tmp_path)


def test_yaml_cut_off_anywhere(tmp_path):
    path = tmp_path / "opt.yaml"
    OPT().save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 4, 97), len(whole) - 4]:
        path.write_bytes(whole[:length])
        refuses("opt.yaml", OPT.load, path)


# Comparison


def test_differences():
    assert OPT().differences(OPT()) == {}
    assert OPT().differences(OPT(ngf=8, seed=1)) == {"ngf": (64, 8), "seed": (0, 1)}


@pytest.mark.parametrize(
    "mine, theirs, names",
    [
        ({}, dict(lr=1.0, gan_mode="ls", seed=3), set()),
        ({}, dict(ngf=8, label_nc=3), {"ngf", "label_nc"}),
        ({}, dict(norm_G="spectralspadebatch3x3"), set()),
        ({}, dict(norm_G="spectralspadebatch5x5"), {"norm_G"}),
        ({}, dict(norm_G="spadesyncbatch3x3", norm_D="instance"), {"norm_G", "norm_D"}),
        ({}, dict(crop_size=512), {"crop_size"}),
        (dict(use_vae=False), dict(use_vae=False, crop_size=512, z_dim=3, norm_E="batch"), set()),
        ({}, dict(use_vae=False), {"use_vae"}),
        ({}, dict(z_dim=3, norm_E="batch"), {"z_dim", "norm_E"}),
    ],
)
def test_incompatible(mine, theirs, names):
    assert set(OPT(**mine).incompatible(OPT(**theirs))) == names


# Command lines


def test_precedence(tmp_path):
    config = tmp_path / "my.yaml"
    config.write_text("preset: sample\nngf: 8\nbatchSize: 7\n")
    for argv in (["--batchSize", "5", "--config", str(config)], ["--config", str(config), "--batchSize", "5"]):
        opt = parse_train(argv)
        assert (opt.batchSize, opt.ngf, opt.crop_size, opt.num_D, opt.preset) == (5, 8, 128, 2, "sample")
    opt = parse_train(["--config", str(config), "--preset", "facades"])
    assert (opt.preset, opt.dataset_mode, opt.label_nc, opt.ngf) == ("facades", "facades", 13, 8)
    assert parse_train(["--config", str(config), "--ngf", "64"]).ngf == 64  # the default
    assert parse_train(["--preset", "sample", "--batchSize", "4"]) == OPT.from_preset("sample", batchSize=4)
    assert parse_train(["--preset", "sample", "--no_vgg_loss", "false"]).no_vgg_loss is False
    assert parse_train([]) == OPT()
    opt = preset("cityscapes", ngf=8)
    opt.save(config)
    assert parse_train(["--config", str(config)]) == opt


@pytest.mark.parametrize(
    "argv, name, value",
    [
        (["--no_vgg_loss"], "no_vgg_loss", True),
        (["--no_vgg_loss", "true"], "no_vgg_loss", True),
        (["--no_vgg_loss", "false"], "no_vgg_loss", False),
        (["--no_vgg_loss=False"], "no_vgg_loss", False),
        (["--use_vae"], "use_vae", True),
        (["--use_vae", "false"], "use_vae", False),
        (["--use_vae", "--ngf", "8"], "ngf", 8),
        (["--batchSize=3"], "batchSize", 3),
        (["--lr", "2e-5"], "lr", 2e-5),
        (["--lr", "1"], "lr", 1.0),
        (["--max_steps", "null"], "max_steps", None),
        (["--max_steps", "9"], "max_steps", 9),
        (["--max_steps", "~"], "max_steps", None),
        (["--seed", "007"], "seed", 7),
        (["--use_vae", "off"], "use_vae", False),
        (["--G_lr", "1e-4"], "G_lr", 1e-4),
        (["--name", "2024"], "name", "2024"),
        (["--dataroot", "a=b: {c"], "dataroot", "a=b: {c"),
        (["--name", ""], "name", ""),
        (["--ngf", "8", "--ngf", "9"], "ngf", 9),
        (["--dataroot", "a b"], "dataroot", "a b"),
    ],
)
def test_flags(argv, name, value):
    assert getattr(parse_train(argv), name) == value


def test_every_field_is_a_flag():
    saved = dataclasses.asdict(preset("custom", G_lr=1.0, D_lr=2.0, max_steps=3, max_dataset_size=4, name="n"))
    argv = [word for k, v in saved.items() for word in (f"--{k}", str(v).lower() if isinstance(v, bool) else str(v))]
    assert dataclasses.asdict(parse_train(argv)) == saved


def test_dataset_mode_alone_brings_its_recipe():
    assert parse_train(["--dataset_mode", "ade20k"]) == OPT.from_preset("ade20k")
    opt = parse_train(["--preset", "sample", "--dataset_mode", "coco_stuff", "--dataroot", "d"])
    assert (opt.preset, opt.dataset_mode, opt.crop_size) == ("sample", "coco_stuff", 128)


def test_betas_without_ttur_are_the_released_command_lines():
    assert parse_train(["--no_TTUR"]).betas == (0.5, 0.999)
    assert parse_train(["--no_TTUR", "--beta1", "0"]).betas == (0.0, 0.999)
    assert OPT.from_preset("ade20k", no_TTUR=True, beta2=0.9).betas == (0.5, 0.9)
    assert OPT(no_TTUR=True).betas == (0.0, 0.9)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--ngff", "3"], r"^unknown option --ngff; did you mean --ngf\?$"),
        (["--batchsize", "3"], r"did you mean --batchSize\?"),
        (["--crop-size=3"], r"unknown option --crop-size; did you mean --crop_size\?"),
        (["--batch", "3"], r"unknown option --batch"),
        (["--zzz"], r"^unknown option --zzz; see --help$"),
        (["--"], r"unknown option --"),
        (["--no_use_vae"], r"unknown option --no_use_vae: to switch it off, give --use_vae false"),
        (["--gpu_ids", "0"], r"unknown option --gpu_ids: here it is --device"),
        (["stray"], r"unrecognized arguments: stray"),
        (["--ngf"], r"expected one argument"),
        (["--ngf", "--ndf", "3"], r"ngf.*expected one argument"),
        (["--ngf", "x"], r"^--ngf x is not a whole number$"),
        (["--lr", "fast"], r"^--lr fast is not a finite number$"),
        (["--max_steps", "x"], r"^--max_steps x is not a whole number or null$"),
        (["--use_vae", "maybe"], r"^--use_vae maybe is not true or false$"),
        (["--use_vae="], r"^--use_vae empty is not true or false$"),
        (["--ngf", "1e3"], r"^--ngf 1e3 is not a whole number$"),
        (["--ngf", "null"], r"^--ngf null is not a whole number$"),
        (["--ngf", "[" * 5000], r"is not a whole number$"),
        (["--max_steps", ""], r"^--max_steps empty is not a whole number or null$"),
        (["--preset", "sampel"], r"did you mean sample\?"),
        (["--crop_size", "512"], r"load_size 286 is smaller than crop_size 512"),
        (["--config", "nowhere.yaml"], r"nowhere.yaml: No such file"),
        (["--dataset_mode", "coco"], r"^dataset_mode 'coco' is unknown: .*; did you mean coco_stuff\?"),
        (["--how_many", "3"], r"--how_many is an option of val.py alone$"),
    ],
)
def test_command_line_errors_say_what_is_meant(argv, message):
    assert "class" not in refuses(message, parse_train, argv)


def test_val_without_flags_takes_the_latest_checkpoint_and_photos_styles():
    opt = parse_val([])
    assert opt == ValOPT()
    assert (opt.checkpoint, opt.results_dir, opt.phase) == ("output/model", "output_val", "val")
    assert (opt.which_epoch, opt.style) == ("latest", "auto")


def test_val_flags(tmp_path):
    opt = parse_val(["--panels", "--metrics", "seg, fid,seg", "--how_many", "3", "--use_ema", "false"])
    assert (opt.panels, opt.metric_names, opt.how_many, opt.use_ema) == (True, ("seg", "fid"), 3, False)
    (tmp_path / "val.yaml").write_text("how_many: 5\nseed: 2\n")
    opt = parse_val(["--seed", "1", "--config", str(tmp_path / "val.yaml")])
    assert (opt.how_many, opt.seed) == (5, 1)
    parse_val(["--style_image", "a.jpg", "--style_image2", "b.jpg", "--style_steps", "5"])
    parse_val(["--style_steps", "5", "--style", "random"])


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--metrics", "fid,ssim"], r"metrics 'ssim' is unknown"),
        (["--which_epoch", "newest"], r"which_epoch 'newest' is unknown"),
        (["--phase", "tset"], r"phase 'tset' is unknown: expected one of val, train, test; did you mean test"),
        (["--style", "image"], r"needs style_image"),
        (["--style", "random", "--style_image", "a"], r"exclude each other"),
        (["--style_image2", "a"], r"give style_image and style_steps too"),
        (["--style_steps", "1"], r"style_steps 1"),
        (["--style_steps", "4", "--style_image", "a"], r"give style_image2 too"),
        (["--style_steps", "4", "--style", "mean"], r"exclude each other"),
        (["--panel"], r"did you mean --panels\?"),
        (["--crop_size", "128"], "--crop_size is an option of train.py alone: options travel"),
        (["--checkpoints_dir", "x"], "--checkpoints_dir: here it is --output, in val.py --checkpoint"),
    ],
)
def test_val_errors(argv, message):
    refuses(message, parse_val, argv)


# As programs


HELP = {
    "train.py": [*(f"{group}:" for group in options.GROUPS), "presets:", "cityscapes: ", "--preset", "(default: 256)"],
    "val.py": ["--config FILE", "--checkpoint", "(default: output/model)", "style:"],
}


@pytest.mark.parametrize("program", HELP)
def test_help(program):
    done = python(ROOT / program, "--help", COLUMNS="100")
    assert done.stderr == "" and [word for word in HELP[program] if word not in done.stdout] == []
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_program_prints_one_error_line():
    assert refused(ROOT / "train.py", "--batchSise", "3") == "unknown option --batchSise; did you mean --batchSize?"


def test_parsing_does_not_import_paddle():
    code = "import sys, model.command_line as c; c.parse_train(['--preset', 'sample']); print('paddle' in sys.modules)"
    assert python("-c", code, cwd=ROOT).stdout == "False\n"
