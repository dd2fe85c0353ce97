"""Each preset as a new user meets it: official layout -> check -> train -> resume -> validate, by command line."""

from pathlib import Path

import numpy as np
import official_layouts as made
import pytest
from common import python
from PIL import Image

import train
import val
from model.options import OPT
from model.serving.synthesizer import Synthesizer
from model.training import checkpoint
from model.vgg import VGG19
from model.weights import export_official
from model.weights.made_up import made_up_weights
from model.weights.paddle_file import read_pdparams
from tools import check_dataset, convert_weights, export

# Smaller than the recipes in everything that costs time, and in nothing else.
TINY = (
    "--crop_size 64 --load_size 68 --ngf 2 --ndf 2 --z_dim 8 --n_layers_D 2 --num_D 1 --no_vgg_loss --batchSize 2 "
    "--val_images 1 --kernels plain --nThreads 0 --device cpu"
).split()
CITY = ["--crop_size", "128", "--load_size", "128"]  # twice as wide as high, six times doubled
OWN_SIZE = {"cityscapes": CITY, "camvid": CITY}
# Picture sizes, what the networks see, and the preset's recipe, as published.
EXPECTED = {
    "coco_stuff": ((64, 64), 184, dict(use_vae=True, niter=50, niter_decay=0)),
    "ade20k": ((64, 64), 151, dict(use_vae=False, niter=100, niter_decay=100)),
    "ade20k_mindspore": ((64, 64), 151, dict(G_lr=1e-4, D_lr=4e-4, beta2=0.999, niter=100, niter_decay=100)),
    "cityscapes": ((128, 64), 36, dict(num_upsampling_layers="more", aspect_ratio=2.0, preprocess_mode="fixed")),
    "facades": ((64, 64), 13, dict(no_instance=True, contain_dontcare_label=False)),
    "camvid": ((128, 96), 12, dict(label_nc=11, ngf=2, use_vae=True, no_instance=True, contain_dontcare_label=True)),
    "custom": ((64, 64), 4, dict(label_nc=4, no_instance=True)),
}


SIMILAR = ("coco_stuff", "facades", "ade20k_mindspore")  # which differ from the others in numbers only


@pytest.mark.parametrize(
    "preset", [pytest.param(p, marks=pytest.mark.slow) if p in SIMILAR else p for p in made.MAKERS]
)
def test_from_the_official_layout_to_pictures(preset, tmp_path, monkeypatch, main):
    """The whole way; says at each station what must be seen there."""
    monkeypatch.chdir(tmp_path)
    data = made.MAKERS[preset](tmp_path / "data")
    options = [*TINY, *OWN_SIZE.get(preset, [])]
    size, channels, recipe = EXPECTED[preset]

    assert "nothing would stop a run" in main(check_dataset, preset, *data, *options, "--quiet", "--processes", "1")

    begin = ["--preset", preset, *data, *options]
    out = main(train, *begin, "--max_steps", "1")
    assert f"{size[0]}x{size[1]}" in out and "from new weights, to step 1" in out
    opt = OPT.load(tmp_path / "output" / "opt.yaml")
    assert (opt.preset, opt.semantic_nc) == (preset, channels)
    assert {name: getattr(opt, name) for name in recipe} == recipe

    out = main(train, *begin, "--max_steps", "2")
    assert "resumes output/model/step_00000001" in out and "to step 2" in out
    losses = np.load(tmp_path / "log" / "log.npy")
    assert losses.shape == (2, 7) and np.isfinite(losses).all()
    assert checkpoint.load(tmp_path / "output" / "model").step == 2

    out = main(val, "--device", "cpu", "--nThreads", "0")
    assert "wrote 2 pictures" in out
    pictures = sorted((tmp_path / "output_val" / "pics").iterdir())
    assert len(pictures) == 2
    with Image.open(pictures[0]) as picture:
        assert picture.size == size
    if preset == "camvid":
        assert "label maps 3, test split of" in main(val, "--phase", "test", "--device", "cpu", "--nThreads", "0")


def grey(path):
    """Whether a picture file shows no colour; JPEG keeps equal channels equal to 2 of 255."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return pixels.std() > 0 and np.ptp(pixels, axis=2).max() <= 2


@pytest.mark.parametrize("kernels", ["auto", "plain"])
def test_grey_pictures_from_photos_to_an_exported_model(kernels, tmp_path, monkeypatch, main):
    """output_nc 1, with encoder and VGG loss, through every program."""
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "vgg.npz", **export_official(made_up_weights(VGG19(), gain=1.4)))
    data = made.MAKERS["custom"](tmp_path / "data")
    options = [*TINY, "--kernels", kernels, "--use_vae", "true", "--no_vgg_loss", "false", "--vgg_path", "vgg.npz"]
    options += ["--output_nc", "1", "--ema", "0.5", "--display_freq", "1"]
    main(check_dataset, "custom", *data, *options, "--quiet", "--processes", "1")
    main(train, "--preset", "custom", *data, *options, "--max_steps", "2")
    assert (np.load("log/log.npy")[:, :4] != 0).all()  # GAN, feature matching, VGG, VAE

    photo = sorted((tmp_path / "data").rglob("*.jpg"))[0]
    main(val, "--device", "cpu", "--nThreads", "0", "--panels", "--style_image", str(photo), "--format", "png")
    pictures = sorted(Path("output_val/pics").iterdir())
    assert len(pictures) == 2 and all(map(grey, pictures))

    for net in ("n_g", "n_d", "n_e"):
        main(convert_weights, f"output/model/{net}.pdparams", f"{net}.pth")
        main(convert_weights, f"{net}.pth", f"{net}.pdparams")
        then, now = (read_pdparams(Path(folder, f"{net}.pdparams")) for folder in ("output/model", "."))
        assert all((then[key] == now[key]).all() for key in then)

    main(export, "output/model", "--output", "exported")
    label = tmp_path / "ids.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).repeat(64).reshape(64, 64) // 16).save(label)
    trained = Synthesizer.load("output/model", device="cpu")(label, style=photo)
    for runtime in ("onnx", "paddle"):
        exported = Synthesizer.load("exported", runtime=runtime)(label, style=photo)
        assert abs(np.asarray(exported, int) - np.asarray(trained, int)).max() <= 1
    python("exported/predict.py", label, "picture.png", "--photo", photo)
    assert abs(np.asarray(Image.open("picture.png").convert("RGB"), int) - np.asarray(trained, int)).max() <= 1
