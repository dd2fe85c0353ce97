"""Pictures: exact bytes, whole files, sheets that show what is there."""

import os
import zlib  # noqa: F401  # Paddle 2.6 breaks a zlib that is loaded after it

import numpy as np
import paddle
import pytest
from common import refuses
from PIL import Image

from model.data.palettes import palette
from model.data.visual import grid, legend, preview_sheet, save_image, tensor_to_image
from model.options import OPT

NAMES = ["sky", "grass", "a name that is much too long for the legend"]
COLOURS = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 0]], np.uint8)


def test_photo_comes_back_unchanged():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for scaled in (pixels / np.float32(127.5) - 1, (pixels / np.float32(255) - 0.5) / 0.5):
        np.testing.assert_array_equal(tensor_to_image(scaled.transpose(2, 0, 1)), pixels)


def test_tensor_values():
    image = tensor_to_image(np.array([-1, 0, 1, 5, -5, np.nan]).reshape(1, 1, 6))
    assert image.shape == (1, 6, 3) and image.dtype == np.uint8
    assert image[0, :, 0].tolist() == [0, 128, 255, 255, 0, 0]
    with pytest.raises(ValueError, match=r"shape \[2, 4, 4\]"):
        tensor_to_image(np.zeros((2, 4, 4)))


def test_paddle_tensor():
    assert (tensor_to_image(paddle.ones([3, 2, 2])) == 255).all()


@pytest.mark.parametrize("name", ["a/b.jpg", "a/b.JPEG", "a/b.png"])
def test_save(tmp_path, name):
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :15] = 200
    save_image(image, tmp_path / name)
    save_image(Image.fromarray(image), tmp_path / name)
    found = np.asarray(Image.open(tmp_path / name))
    assert found.shape == image.shape and np.abs(found.astype(int) - image).max() <= (0 if name.endswith("png") else 4)
    assert os.listdir(tmp_path / "a") == [name[2:]]


def test_save_fails_clearly(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    refuses(r"a\.gif: pictures are written as \.jpg, \.jpeg, \.png", save_image, image, tmp_path / "a.gif")
    (tmp_path / "file").write_text("")
    refuses(r"cannot write .*file/a\.png", save_image, image, tmp_path / "file" / "a.png")
    save_image(image, tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises((TypeError, ValueError)):
        save_image(np.zeros((4, 4, 7), np.uint8), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before and len(os.listdir(tmp_path)) == 2


def test_legend_shows_the_classes_present():
    label = np.zeros((10, 10), np.int64)
    label[0] = 2
    pixels = np.asarray(legend(label, NAMES, COLOURS, 60)).reshape(-1, 3).tolist()
    assert [0, 0, 255] in pixels and [255, 0, 0] in pixels and [0, 255, 0] not in pixels
    many = legend(np.arange(100).reshape(10, 10), NAMES, COLOURS, 60)  # unnamed ids, too many for the room
    assert many.size == (130, 60)


def test_grid_places_images():
    red, green = np.full((10, 20, 3), [255, 0, 0], np.uint8), np.full((30, 8, 3), [0, 255, 0], np.uint8)
    sheet = np.asarray(grid([[red, green], [green]]))
    assert sheet.shape == (4 + 30 + 4 + 30 + 4, 4 + 20 + 4 + 8 + 4, 3)
    np.testing.assert_array_equal(sheet[4:14, 4:24], red)
    np.testing.assert_array_equal(sheet[4:34, 28:36], green)
    np.testing.assert_array_equal(sheet[38:68, 4:12], green)
    assert grid([[red]], ["a title"]).height > grid([[red]]).height


OWN = dict(label_dir="a", image_dir="b", label_nc=5, no_instance=True)


@pytest.mark.parametrize("mode", ["coco_stuff", "ade20k", "cityscapes", "facades", "custom", "sample"])
def test_preview_sheet(mode):
    opt = OPT.from_preset(mode, **(OWN if mode == "custom" else {}))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, opt.semantic_nc - (not opt.no_instance), (2, 130, 140))
    fake, photos = rng.uniform(-1, 1, (2, 2, 3, 130, 140)).astype(np.float32)
    sheet = np.asarray(preview_sheet(labels, fake, photos, opt))
    first = sheet[22 : 22 + 130]
    colours = palette(mode, opt.semantic_nc)
    np.testing.assert_array_equal(first[:, 4:144], colours[labels[0]])
    np.testing.assert_array_equal(first[:, 148:288], tensor_to_image(fake[0]))
    np.testing.assert_array_equal(first[:, 292:432], tensor_to_image(photos[0]))


def test_preview_without_photos_and_of_small_images():
    opt = OPT.from_preset("sample")
    labels = np.zeros((1, 32, 64), np.int64)
    fakes = [np.zeros((1, 3, 32, 64), np.float32)] * 3
    sheet = preview_sheet(labels, fakes, None, opt, titles=("label map", "style 1"))
    assert sheet.size == (4 * (256 + 4) + 4 + 130 + 4, 18 + 4 + 128 + 4)  # enlarged four times
