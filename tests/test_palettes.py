"""Class names and colours against facts of the data sets."""

import hashlib

import numpy as np
import pytest
from common import refuses
from PIL import Image

from model.data.palettes import Palette, class_names, colorize, names_and_colours, palette, read_palette
from model.options import OPT

BLACK = [0, 0, 0]
# Of each data set: label_nc, the number of ids, and names and colours of some; COCO-Stuff's are official ids minus one.
FACTS = {
    "coco_stuff": (
        182, 183,
        {0: "person", 2: "car", 8: "boat", 11: "street sign", 12: "stop sign", 78: "oven", 90: "hair brush",
         91: "banner", 123: "grass", 127: "house", 134: "mountain", 148: "road", 153: "sand", 154: "sea",
         156: "sky-other", 168: "tree", 181: "wood", 182: "unlabeled"},
        {156: [95, 219, 255], 182: BLACK}),
    "ade20k": (150, 151, {0: "other", 1: "wall", 13: "person", 21: "car", 150: "flag"},
               {0: BLACK, 3: [6, 230, 230], 150: [92, 0, 255]}),
    "cityscapes": (35, 35, {0: "unlabeled", 7: "road", 26: "car", 34: "license plate"},
                   {7: [128, 64, 128], 23: [70, 130, 180], 33: [119, 11, 32]}),
    "facades": (13, 13, {2: "facade", 12: "shop"}, {3: [0, 85, 255]}),
    "camvid": (11, 12, {0: "Sky", 3: "Road", 10: "Bicyclist", 11: "unlabeled"},
               {0: [128, 128, 128], 4: [60, 40, 222], 10: [0, 128, 192], 11: BLACK}),
}  # fmt: skip


@pytest.mark.parametrize("mode", [*FACTS, "sample"])
def test_names_and_colours_are_the_data_sets(mode):
    label_nc, count, names, colours = FACTS["coco_stuff" if mode == "sample" else mode]
    found, table = class_names(mode, label_nc), palette(mode, count)
    assert len(found) == count and {i: found[i] for i in names} == names
    assert table.shape == (count, 3) and {i: table[i].tolist() for i in colours} == colours
    if mode in ("coco_stuff", "ade20k", "camvid"):
        assert len(set(found)) == count
    if mode in ("coco_stuff", "camvid"):
        assert len(np.unique(table, axis=0)) == count


def test_other_numbers_of_classes_are_cut_or_filled():
    assert class_names("custom", 2) == ["class 0", "class 1", "unlabeled"]
    assert class_names("coco_stuff", 2) == ["person", "bicycle", "unlabeled"]
    assert class_names("coco_stuff", 184)[181:] == ["wood", "class 182", "class 183", "unlabeled"]
    assert palette("cityscapes", 40).shape == (40, 3) and palette("ade20k", 5).shape == (5, 3)


def test_bit_spread_colours_in_closed_form():
    assert palette("custom", 8).tolist() == [
        [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128], [128, 128, 128], [64, 0, 0]
    ]  # fmt: skip
    colours = palette("custom", 300)
    assert colours.dtype == np.uint8 and len(np.unique(colours, axis=0)) == 300


@pytest.mark.parametrize(
    "mode, label_nc, names, colours",
    [
        ("coco_stuff", 182, "2912bf4c2a46d304", None),
        ("ade20k", 150, "313a37f39375d6e3", "7ebd74a64a5606f0"),
        ("cityscapes", 35, "352e39ec430a946d", "612334aa5fe46e8c"),
    ],
)
def test_the_whole_lists_are_the_published_ones(mode, label_nc, names, colours):
    """Fingerprints taken after each name and colour was compared with labels.txt, objectInfo150.txt, labels.py."""
    found = class_names(mode, label_nc)
    assert hashlib.sha256("\n".join(found).encode()).hexdigest()[:16] == names
    assert not colours or hashlib.sha256(palette(mode, len(found)).tobytes()).hexdigest()[:16] == colours


def test_ids_outside_the_palette_are_black():
    own = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert colorize(np.array([[1, 0, -1, 2]]), own).tolist() == [[[4, 5, 6], [1, 2, 3], [0, 0, 0], [0, 0, 0]]]


def test_unknown_data_set_is_a_user_error():
    for call in (class_names, palette):
        refuses("expected one of coco_stuff", call, "coco", 3)


# Palette files


TEXT = "id r g b name\n# streets\n0 0 0 0 nothing\n7, 128, 64, 128, road\n8 #f423e8 side walk\n8 1 2 3\n255;9;9;9\n"


def write(path, content):
    path.write_text(content, encoding="utf-8") if isinstance(content, str) else content.save(path)
    return path


def test_a_text_palette_turns_colours_into_ids(tmp_path):
    own = read_palette(write(tmp_path / "p.txt", TEXT))
    assert (len(own), own.names) == (5, {0: "nothing", 7: "road", 8: "side walk"})
    rgb = np.array([[[0, 0, 0], [128, 64, 128]], [[1, 2, 3], [9, 9, 9]]], np.uint8)
    ids = own.to_ids(rgb)
    assert ids.dtype == np.uint8 and ids.tolist() == [[0, 7], [8, 255]]
    assert own.shown == {0: (0, 0, 0), 7: (128, 64, 128), 8: (244, 35, 232), 255: (9, 9, 9)}
    rgb[1, 0] = 200
    refuses(r"colour \(200, 200, 200\) at x 0, y 1 is not in \S+p\.txt, nor are 25 %", own.to_ids, rgb)


@pytest.mark.parametrize(
    "name, content, ids, names",
    [
        ("p.csv", "64 128 64\tAnimal\n#0a0b0c Sky\n", [0, 1], {0: "Animal", 1: "Sky"}),  # no ids: the line's place
        ("p.json", "[[1, 2, 3], [4, 5, 6]]", [0, 1], {}),
        ("p.json", '{"labels": [{"name": "a", "color": [1, 2, 3]}, {"color": [4, 5, 6]}]}', [0, 1], {0: "a"}),
        ("p.json", '{"categories": [{"id": 70000, "color": [0, 0, 1]}]}', "id 70000 is out of range", None),
        ("p.json", '[{"id": 300, "rgb": [0, 0, 1], "name": "x"}]', [300], {300: "x"}),
        ("p.json", '[{"name": "x"}]', r"entry 0 is .*expected \[red, green, blue\]", None),
        ("p.json", '{"a": 1}', "expected a list of colours", None),
        ("p.json", "[1,", "not JSON", None),
        ("p.txt", "0 1 2 3 a\n1 2\n", r"line 2: '1 2': expected ID RED GREEN BLUE NAME", None),
        ("p.txt", "0 1 2 300\n", "expected red, green, blue of 0..255", None),
        ("p.txt", "0 1 2 3\n4 1 2 3\n", r"colour \(1, 2, 3\) stands for id 0 and id 4", None),
        ("p.txt", "only words\n", "no colours in it", None),
        ("p.png", Image.new("RGB", (2, 2)), "without a palette", None),
        ("p.png", "no picture", "not a palette file", None),
        ("gone.txt", None, "not a palette file .No such file", None),
    ],
)
def test_palette_files_of_every_kind(tmp_path, name, content, ids, names):
    path = write(tmp_path / name, content) if content is not None else tmp_path / name
    if isinstance(ids, str):
        assert name in refuses(ids, read_palette, path)
    else:
        own = read_palette(path)
        assert (list(own.shown), own.names) == (ids, names)


def test_a_picture_s_palette_has_its_indices_as_ids(tmp_path):
    picture = Image.new("P", (4, 4), 2)
    picture.putpalette([9, 9, 9, 1, 2, 3, 4, 5, 6, 9, 9, 9])  # the last place repeats the first: filling
    picture.save(tmp_path / "p.png")
    own = read_palette(tmp_path / "p.png")
    assert own.to_ids(np.array([[[4, 5, 6], [9, 9, 9]]], np.uint8)).tolist() == [[2, 0]]


def test_many_classes_need_more_than_a_byte():
    own = Palette([(i, (i % 256, i // 256, 0), "") for i in range(700)])
    ids = own.to_ids(np.array([[[187, 2, 0]]], np.uint8))
    assert ids.tolist() == [[699]] and ids.dtype == np.int32


def test_names_and_colours_of_a_run(tmp_path):
    path = str(write(tmp_path / "p.txt", TEXT))
    folders = dict(dataset_mode="custom", label_dir="l", no_instance=True, label_nc=8)
    names, colours = names_and_colours(OPT(**folders, palette=path))
    assert names == ["nothing", *(f"class {i}" for i in range(1, 7)), "road", "side walk"]
    assert colours[7].tolist() == [128, 64, 128] and colours[1].tolist() == palette("custom", 9)[1].tolist()
    names, colours = names_and_colours(OPT())
    assert names == class_names("coco_stuff", 182) and (colours == palette("coco_stuff", 183)).all()


def test_ids_that_mean_unlabelled_are_called_so_and_shown_as_the_palette_says(tmp_path):
    city = OPT.from_preset("cityscapes", unknown_ids="1,2,255")
    names, colours = names_and_colours(city)
    assert len(names) == len(colours) == 36 and names[-1] == names[1] == names[2] == "unlabeled" and names[7] == "road"
    path = tmp_path / "p.txt"
    opt = OPT(dataset_mode="custom", label_dir="maps", label_nc=4, unknown_ids="0,255", palette=str(path))
    for text, name, colour in (
        ("0 9 8 7 void\n2 1 1 1 road\n", "void", (9, 8, 7)),
        ("2 1 1 1 road\n255 200 0 0\n", "unlabeled", (200, 0, 0)),
        ("0 9 8 7 void\n4 5 5 5 nothing\n", "nothing", (5, 5, 5)),
    ):
        path.write_text(text)
        names, colours = names_and_colours(opt)
        assert (names[4], tuple(colours[4])) == (name, colour) and len(names) == 5
    path.write_text("2 1 1 1 road\n")
    assert names_and_colours(opt)[0] == ["unlabeled", "class 1", "road", "class 3", "unlabeled"]
