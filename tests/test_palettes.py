"""Class names and colours against facts of the data sets."""

import numpy as np
import pytest

from model.errors import UserError
from model.palettes import class_names, colorize, palette


@pytest.mark.parametrize("mode", ["coco_stuff", "sample"])
def test_coco_stuff_names_are_official_ids_minus_one(mode):
    names = class_names(mode, 182)
    assert len(names) == len(set(names)) == 183
    facts = {0: "person", 2: "car", 8: "boat", 11: "street sign", 78: "oven", 90: "hair brush", 91: "banner",
             123: "grass", 127: "house", 134: "mountain", 148: "road", 153: "sand", 154: "sea", 156: "sky-other",
             168: "tree", 181: "wood", 182: "unlabeled"}  # fmt: skip
    assert {i: names[i] for i in facts} == facts


def test_ade20k_cityscapes_and_facades_names():
    ade = class_names("ade20k", 150)
    assert len(ade) == len(set(ade)) == 151
    assert (ade[0], ade[1], ade[13], ade[21], ade[150]) == ("other", "wall", "person", "car", "flag")
    city = class_names("cityscapes", 35)
    assert (len(city), city[0], city[7], city[26], city[34]) == (35, "unlabeled", "road", "car", "license plate")
    facades = class_names("facades", 13)
    assert (len(facades), facades[2], facades[12]) == (13, "facade", "shop")


def test_other_numbers_of_classes_are_cut_or_filled():
    assert class_names("custom", 2) == ["class 0", "class 1", "unlabeled"]
    assert class_names("coco_stuff", 2) == ["person", "bicycle", "unlabeled"]
    assert class_names("coco_stuff", 184)[181:] == ["wood", "class 182", "class 183", "unlabeled"]


def test_bit_spread_colours_in_closed_form():
    assert palette("custom", 8).tolist() == [
        [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128], [128, 128, 128], [64, 0, 0]
    ]  # fmt: skip
    colours = palette("custom", 300)
    assert colours.dtype == np.uint8 and len(np.unique(colours, axis=0)) == 300


def test_official_colours():
    coco = palette("coco_stuff", 183)
    assert len(np.unique(coco, axis=0)) == 183
    assert coco[156].tolist() == [95, 219, 255] and coco[182].tolist() == [0, 0, 0]
    ade = palette("ade20k", 151)
    assert ade[0].tolist() == [0, 0, 0] and ade[3].tolist() == [6, 230, 230] and ade[150].tolist() == [92, 0, 255]
    city = palette("cityscapes", 35)
    assert city[7].tolist() == [128, 64, 128] and city[23].tolist() == [70, 130, 180]
    assert city[33].tolist() == [119, 11, 32]
    assert palette("facades", 13)[3].tolist() == [0, 85, 255]
    assert palette("cityscapes", 40).shape == (40, 3) and palette("ade20k", 5).shape == (5, 3)


def test_colorize_accepts_modes_palettes_and_foreign_ids():
    label = np.array([[156, 255], [182, 123]], np.uint8)
    rgb = colorize(label, "coco_stuff")
    assert rgb.dtype == np.uint8 and rgb.shape == (2, 2, 3)
    assert rgb[0, 0].tolist() == [95, 219, 255] and not rgb[0, 1].any() and not rgb[1, 0].any()
    own = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert colorize(np.array([[1, 0, -1, 2]]), own).tolist() == [[[4, 5, 6], [1, 2, 3], [0, 0, 0], [0, 0, 0]]]


def test_unknown_data_set_is_a_user_error():
    label = np.zeros((1, 1), int)
    for call in (lambda: class_names("coco", 3), lambda: palette("coco", 3), lambda: colorize(label, "x")):
        with pytest.raises(UserError, match="expected one of coco_stuff"):
            call()
    with pytest.raises(UserError, match="at least 1"):
        palette("custom", 0)
