"""Synthesizer: what it accepts as drawings and styles, and how it refuses the rest."""

import dataclasses
import shutil

import numpy as np
import pytest
from common import refuses
from PIL import Image
from reference_cases import write_model

from model import Synthesizer
from model.options import OPT

STYLED = OPT(ngf=4, ndf=4, label_nc=6, crop_size=64, load_size=64, z_dim=8, no_vgg_loss=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """6 classes and unknown, 64x64, z_dim 8."""
    return write_model(tmp_path_factory.mktemp("trained"), STYLED)


@pytest.fixture(scope="module")
def paint(trained):
    return Synthesizer.load(trained, device="cpu")


@pytest.fixture(scope="module")
def ids():
    """A map of 128x96 with every id in blocks."""
    blocks = np.arange(48).reshape(6, 8) % 7
    return blocks.repeat(16, 0).repeat(16, 1).astype(np.uint8)


def pixels(picture):
    return np.asarray(picture).astype(int)


def test_tells_what_it_is(paint, trained):
    assert paint.size == (64, 64) and paint.z_dim == 8 and paint.label_nc == 6 and paint.unknown == 6
    assert paint.uses_instances and paint.has_encoder
    assert len(paint.names) == 7 == len(paint.palette) and paint.names[-1] == "unlabeled"
    assert paint.palette.dtype == np.uint8 and paint.info["parameters"] > 1e6
    assert paint.info["file"] == str(trained / "n_g.pdparams") and paint.info["step"] is None


def test_every_way_to_give_a_map_is_the_same_picture(paint, ids):
    """Ids as array or picture, scaled or not, 255 for unknown, the palette's colours, palette PNGs in both meanings."""
    picture = paint(ids)
    assert picture.size == (64, 64) and picture.mode == "RGB"
    colours = paint.palette[ids]
    indexed = Image.fromarray(ids, "P")
    indexed.putpalette(paint.palette.tobytes())
    grey_indexed = Image.fromarray(ids, "P")
    grey_indexed.putpalette([value for i in range(256) for value in (i, i, i)])
    other_order = Image.fromarray(6 - ids, "P")  # its indices are no ids, its colours are
    other_order.putpalette(paint.palette[::-1].tobytes())
    with_alpha = np.dstack([colours, np.full(ids.shape, 255, np.uint8)])
    given = [
        Image.fromarray(ids), ids.astype(np.int64), np.where(ids == 6, 255, ids), colours, Image.fromarray(colours),
        with_alpha, Image.fromarray(with_alpha), indexed, grey_indexed, other_order,
        Image.fromarray(ids.astype(np.int32)), Image.fromarray(np.dstack([ids] * 3)),
        Image.fromarray(ids).resize((64, 64), Image.Resampling.NEAREST),
    ]  # fmt: skip
    for label in given:
        assert (pixels(paint(label)) == pixels(picture)).all()
    assert (pixels(paint((ids + 1) % 7)) != pixels(picture)).any()


def test_instances_draw_edges(paint, ids):
    """Edges run where classes meet unless an instance map says otherwise."""
    own = paint(ids)
    assert (pixels(paint(ids, ids + 100)) == pixels(own)).all()
    one = np.zeros(ids.shape, np.uint16)
    assert (pixels(paint(ids, one)) != pixels(own)).any()
    refuses("instance map is 128x95 and the label map 128x96", paint, ids, ids[1:])


def test_styles(paint, ids):
    mean, seven = paint(ids), paint(ids, seed=7)
    assert (pixels(seven) != pixels(mean)).any()
    assert (pixels(paint(ids, style=paint.noise(7))) == pixels(seven)).all()
    assert (pixels(paint(ids, style=np.zeros(8))) == pixels(mean)).all()
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    z = paint.encode(photo)
    assert z.shape == (8,) and z.dtype == np.float32
    assert (pixels(paint(ids, style=photo)) == pixels(paint(ids, style=z))).all()
    assert (pixels(paint(ids, style=photo, seed=7)) == pixels(paint(ids, style=z))).all()
    refuses("a style of type list: expected numbers, a photo or its path", paint, ids, style=["a", "b"])


def test_refuses_other_styles(paint, ids):
    for style in (np.zeros(7), np.zeros((1, 8)), np.full(8, np.nan)):
        refuses("expected 8 finite numbers", paint, ids, style=style)
    for seed in (-1, 2**63):
        refuses(r"expected 0 .. 2\*\*63 - 1", paint, ids, seed=seed)


def test_refuses_strange_ids(paint, ids):
    strange = np.where(ids == 3, 7, np.where(ids == 4, 254, ids))
    refuses("ids 7, 254: expected 0..6 and 255 for unlabelled", paint, strange)
    refuses("ids -1:", paint, ids.astype(int) - 1)
    refuses("beyond 32 bits", paint, np.full((4, 4), 2**40))
    refuses("array float64", paint, ids.astype(float))


def test_other_ids_that_mean_unlabelled(trained, tmp_path, ids):
    """0 and 9 unlabelled, as ids, as the colour of 0 and in a palette PNG: the pictures of the unknown class's id."""
    for name in ("n_g.pdparams", "n_e.pdparams"):
        shutil.copy(trained / name, tmp_path)
    dataclasses.replace(STYLED, unknown_ids="0,9").save(tmp_path / "opt.yaml")
    paint = Synthesizer.load(tmp_path, device="cpu")
    assert paint.unknown == 6 and paint.names[0] == paint.names[6] == "unlabeled" != paint.names[1]
    want = np.where(ids == 0, 6, ids)
    indexed = Image.fromarray(ids)
    indexed.putpalette(paint.palette.tobytes())
    for given in (ids, np.where(ids == 0, 9, ids), paint.palette[ids], Image.fromarray(ids), indexed):
        assert (paint.ids(given) == paint.ids(want)).all()
        assert (pixels(paint(given, seed=1)) == pixels(paint(want, seed=1))).all()
    refuses("ids 255: expected 0..6 and 0, 9 for unlabelled", paint, np.where(ids == 0, 255, ids))


def test_refuses_strange_colours(paint, ids):
    """A quarter of the pixels a little off the colour of one class: told with share and the nearest class."""
    colours = paint.palette[ids]
    colours[:48, :64] = paint.palette[2] + np.array([1, 0, 0], np.uint8)
    off = bytes(colours[0, 0]).hex()
    near = bytes(paint.palette[2]).hex()
    refuses(f"^25 % of .* #{off} \\(25 %, nearest {paint.names[2]} #{near}\\)", paint, Image.fromarray(colours))


def test_without_styles_or_encoder(trained, tmp_path, ids):
    """The generator's file alone has no encoder; a generator without VAE has no styles."""
    for name in ("n_g.pdparams", "opt.yaml"):
        shutil.copy(trained / name, tmp_path)
    alone = Synthesizer.load(tmp_path / "n_g.pdparams")
    assert not alone.has_encoder and alone.z_dim == 8
    refuses("encoder \\(n_e.pdparams\\) is not beside it", alone.encode, Image.new("RGB", (4, 4)))
    facades = dict(dataset_mode="facades", use_vae=False, label_nc=7, no_instance=True, contain_dontcare_label=False)
    write_model(tmp_path, dataclasses.replace(STYLED, **facades))
    plain = Synthesizer.load(tmp_path / "n_g.pdparams")
    assert plain.z_dim == 0 and plain.unknown is None and not plain.uses_instances and len(plain.names) == 7
    assert (pixels(plain(ids, seed=1)) == pixels(plain(ids, ids + 1))).all()
    refuses("without --use_vae and knows one style", plain, ids, style=Image.new("RGB", (4, 4)))
    refuses("expected 0..6, the model's classes", plain, np.full((8, 8), 255))


def test_refuses_what_is_not_there(tmp_path):
    refuses("train first", Synthesizer.load, tmp_path)
    refuses("expected latest, best or the number", Synthesizer.load, tmp_path, which="newest")
