"""tools/make_instance_maps.py: the released form against maps worked out by hand, and the run as a user meets it."""

import argparse
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from common import python, refuses, save
from PIL import Image, PngImagePlugin

from benchmarks import instance_maps as benchmark
from model.data.dataset import PhotoMaps
from model.data.label_ids import things
from model.data.palettes import class_names
from model.errors import UserError
from model.options import OPT
from model.prepare import annotations
from model.prepare.annotations import index_annotations
from model.prepare.instance_maps import make_instance_maps
from model.prepare.instances import Components, component_map, fill_polygon, instance_map
from tools import make_instance_maps as tool


def grid(text):
    """A map from rows of characters: digits are values, '.' is 9."""
    return np.array([[9 if c == "." else int(c) for c in row] for row in text.split()])


def box(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


# By hand

# The map that annotations, each some polygons, leave on a label map of nines.
DRAWN = {
    # x 2..5 and y 2..4 less one are columns 1..4 and rows 1..3, edges included
    "a box covers its edges, one pixel up and left": ("...... .0000. .0000. .0000. ......", [[box(2, 2, 5, 4)]]),
    # columns 0.5..3.5, rows 0.5..2.5
    "a box between pixels": ("...... .000.. .000.. ...... ......", [[box(1.5, 1.5, 4.5, 3.5)]]),
    # columns -1..1 and rows -1..0: in NumPy -1 would be the last; columns 4..8 of 6
    "at the border nothing wraps around": (
        "00.... ...... ....11 ....11 ......", [[box(0, 0, 2, 1)], [box(5, 3, 9, 4)]]
    ),
    # corners (0,0), (4,0), (0,4): the pixels with x + y <= 4
    "a triangle": ("00000 0000. 000.. 00... 0....", [[[1, 1, 5, 1, 1, 5]]]),
    # the two edges of two corners fall together, which is an even number; corners always count
    "a line and a point leave their corners": ("0.... ..... ....1 ..... ....0", [[[1, 1, 5, 5]], [[5, 3]]]),
    "later ones overwrite earlier ones": ("000.. 0111. 0111. .111.", [[box(1, 1, 3, 3)], [box(2, 2, 4, 4)]]),
    "two parts have one number": (
        "00.00 00.00 ..... 11...", [[box(1, 1, 2, 2), box(4, 1, 5, 2)], [box(1, 4, 2, 4)]]
    ),
    "one without any polygon still counts": ("00.22 00.22", [[box(1, 1, 2, 2)], [], [box(4, 1, 5, 2)]]),
    "a polygon within another makes no hole": (
        "00000 00000 00000 00000 00000", [[box(1, 1, 5, 5), box(2, 2, 4, 4)]]
    ),
    # around 0..6, by a cut to the square 2..4, around it and back: its border counts, the pixel in it does not
    "an outline that goes in and back leaves a hole": (
        "0000000 0000000 0000000 000.000 0000000 0000000 0000000",
        [[[1, 1, 7, 1, 7, 7, 1, 7, 1, 1, 3, 3, 3, 5, 5, 5, 5, 3, 3, 3, 1, 1]]],
    ),
    # a bow tie: its two triangles and the crossing
    "an outline that crosses itself is filled by parity": (
        "0...0 00.00 00000 00.00 0...0", [[[1, 1, 1, 5, 5, 1, 5, 5]]]
    ),
}  # fmt: skip


@pytest.mark.parametrize("text, segmentations", DRAWN.values(), ids=DRAWN)
def test_drawn_by_hand(text, segmentations):
    want = grid(text)
    got = instance_map(np.full(want.shape, 9, np.uint8), segmentations)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, want)


def test_numbers_and_class_ids_collide_in_the_released_form_only():
    label = grid("000000 000000")
    segmentations = [[box(1, 1, 3, 2)], [box(4, 1, 5, 2)]]
    # instance 0 on class 0 has no border; instance 1 has
    np.testing.assert_array_equal(instance_map(label, segmentations), grid("000110 000110"))
    distinct = instance_map(label, segmentations, distinct=True)
    assert distinct.dtype == np.uint16
    np.testing.assert_array_equal(distinct, [[256, 256, 256, 257, 257, 0]] * 2)


def test_distinct_counts_from_above_the_highest_label():
    label = np.array([[300, 65535, 7]])  # 65535 is unlabelled
    np.testing.assert_array_equal(instance_map(label, [[[3, 1]]], distinct=True), [[300, 65535, 301]])


def test_numbers_above_255_widen_the_map_instead_of_wrapping():
    label = np.full((2, 300), 9, np.uint8)
    pixels = [[[x + 1, 1]] for x in range(257)]
    narrow, wide = instance_map(label, pixels[:256]), instance_map(label, pixels)
    assert (narrow.dtype, wide.dtype) == (np.uint8, np.uint16)
    np.testing.assert_array_equal(wide[0], [*range(257), *[9] * 43])
    np.testing.assert_array_equal(narrow[0, :256], range(256))
    for label_id, count in ((9, 65536), (65536, 1)):
        with pytest.raises(UserError, match=f"instance number {count - 1} or label {label_id} is too high"):
            instance_map(np.array([[label_id]]), [[]] * count)


def test_polygons_that_are_none_are_refused():
    for polygon, reason in (([1, 2, 3], "x, y pairs"), (["a", 1], "x, y pairs"), ([1, float("nan")], "finite")):
        refuses(f"annotation 1 .*{reason}", instance_map, np.zeros((2, 2), np.uint8), [[], [polygon]])


# Against scikit-image


def test_fills_what_scikit_image_fills():
    draw = pytest.importorskip("skimage.draw")
    rng = np.random.default_rng(0)
    for case in range(600):
        points = rng.uniform(-1, 24, (rng.integers(1, 12), 2))
        points = (points, np.round(points), np.round(points * 2) / 2, np.round(points, 2))[case % 4]
        want, got = np.zeros((2, 26, 26), np.int32)
        want[draw.polygon(points[:, 1], points[:, 0])] = 1
        fill_polygon(got, points[:, 0].copy(), points[:, 1].copy(), 1)
        np.testing.assert_array_equal(got, want, err_msg=f"case {case}: {points.tolist()}")


# The command line

NAMES = ["000000000009", "000000000025", "000000000030", "\u56fe1"]
CROWD = {"counts": [5, 3, 40], "size": [6, 8]}


@pytest.fixture
def coco(tmp_path):
    """Four pictures of 8x6: with objects and a crowd, with one object, without any, with a name that is not ASCII."""
    annotations = [
        {"id": 7, "image_id": 9, "segmentation": [box(1, 1, 3, 3)], "iscrowd": 0},
        {"id": 1, "image_id": 25, "segmentation": [box(1, 1, 8, 6)], "iscrowd": 0},
        {"id": 900, "image_id": 9, "segmentation": CROWD, "iscrowd": 1},
        {"id": 2, "image_id": 9, "segmentation": [box(2, 2, 4, 4)], "iscrowd": 0},
        {"id": 3, "image_id": 31, "segmentation": [box(8, 6, 8, 6)], "iscrowd": 0},
    ]
    ids = (9, 25, 30, 31)
    images = [{"id": i, "file_name": f"{n}.jpg", "width": 8, "height": 6} for i, n in zip(ids, NAMES, strict=True)]
    content = {"info": {"year": 2017, "n": 1.5}, "images": images, "licenses": [], "annotations": annotations}
    (tmp_path / "instances.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    for value, name in enumerate(NAMES):
        pixels = np.full((6, 8), 60 + value, np.uint8)
        pixels[5] = 255
        save(tmp_path / "label" / f"{name}.png", pixels)
    return tmp_path


def arguments(folder, *more, out="inst"):
    paths = ("--annotation_file", "instances.json", "--input_label_dir", "label", "--output_instance_dir", out)
    return [a if a.startswith("--") else str(folder / a) for a in paths] + ["--processes", "1", *more]


@pytest.fixture
def make(main):
    """A function that runs the tool with words; returns what it printed."""
    return lambda words: main(tool, *words)


def maps(folder):
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


FIRST = np.array(
    [
        [0, 0, 0, 60, 60, 60, 60, 60],
        [0, 1, 1, 1, 60, 60, 60, 60],
        [0, 1, 1, 1, 60, 60, 60, 60],
        [60, 1, 1, 1, 60, 60, 60, 60],
        [60, 60, 60, 60, 60, 60, 60, 60],
        [255] * 8,
    ]
)


def test_makes_every_map_in_the_released_form(coco, make):
    said = make(arguments(coco))
    made = maps(coco / "inst")
    assert set(made) == set(NAMES) and {m.dtype for m in made.values()} == {np.dtype(np.uint8)}
    # the crowd between the two objects does not count and changes nothing
    np.testing.assert_array_equal(made[NAMES[0]], FIRST)
    np.testing.assert_array_equal(made[NAMES[1]], np.zeros((6, 8)))
    np.testing.assert_array_equal(made[NAMES[2]], maps(coco / "label")[NAMES[2]])  # no annotations: a copy
    assert made[NAMES[3]][5, 7] == 0 and (made[NAMES[3]] == 63).sum() == 40
    assert "4 instance maps: 4 made, 0 were there" in said and "1 of them without polygons" in said
    assert "4 with polygons, 1 without" in said
    assert sorted(os.listdir(coco / "inst")) == sorted(f"{name}.png" for name in NAMES)


def test_distinct_maps_have_16_bits_and_all_the_borders(coco):
    tool.main(arguments(coco))
    tool.main(arguments(coco, "--distinct", out="distinct"))
    plain, distinct = maps(coco / "inst"), maps(coco / "distinct")
    for name in NAMES:
        assert distinct[name].dtype == np.uint16
        for axis in (0, 1):
            there = np.diff(plain[name].astype(int), axis=axis) != 0
            assert not (there & (np.diff(distinct[name].astype(int), axis=axis) == 0)).any()
    label = maps(coco / "label")[NAMES[0]]
    np.testing.assert_array_equal(distinct[NAMES[0]], np.where(FIRST < 2, FIRST + 256, label))


def stopped(monkeypatch, count, words):
    """Run the tool, which Ctrl-C ends in the middle of its map number `count`."""
    real, calls = Image.Image.save, []

    def save(picture, file, *args, **options):
        calls.append(file)
        if len(calls) == count:
            Path(file).write_bytes(b"half a pict")
            raise KeyboardInterrupt
        real(picture, file, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Image.Image, "save", save)
        tool.main(words)


def test_leftovers_of_a_killed_run_go_and_maps_are_made_anew_by_force(coco, make):
    make(arguments(coco))
    leftover = coco / "inst" / ".x.png.1.tmp"
    leftover.touch()
    os.utime(leftover, (1, 1))
    assert "0 made, 4 were there" in make(arguments(coco)) and not leftover.exists()
    assert "4 made, 0 were there" in make(arguments(coco, "--force"))


def test_files_that_cannot_be_used_are_named_and_the_others_made(coco, capsys):
    (coco / "label" / f"{NAMES[0]}.png").write_bytes(b"no picture")
    Image.new("L", (4, 3)).save(coco / "label" / f"{NAMES[1]}.png")
    refuses("2 of 4 maps could not be made", tool.main, arguments(coco))
    said = capsys.readouterr().err
    assert f"{NAMES[0]}.png: cannot be read" in said and f"{NAMES[1]}.png is 4x3, its picture 8x6" in said
    assert set(maps(coco / "inst")) == set(NAMES[2:])


def test_label_maps_that_the_annotations_do_not_name_are_copied(coco, make):
    Image.new("L", (8, 6), 5).save(coco / "label" / "extra.png")
    assert "1 label maps are not named in the annotation file and were copied (such as extra.png)" in (
        make(arguments(coco))
    )
    assert (maps(coco / "inst")["extra"] == 5).all()


def test_annotations_that_name_no_label_map_are_told(coco):
    for name in NAMES:
        (coco / "label" / f"{name}.png").rename(coco / "label" / f"other_{name}.png")
    refuses("names none of the 4 label maps .*same split", tool.main, arguments(coco))


def test_label_maps_in_folders_make_maps_in_folders(coco, make):
    make(arguments(coco))
    flat = maps(coco / "inst")
    for i, name in enumerate(NAMES):
        (coco / "label" / f"f{i}").mkdir()
        (coco / "label" / f"{name}.png").rename(coco / "label" / f"f{i}" / f"{name}.png")
    output = "label/instances"  # which is not read, though it lies there
    for said in ("4 made, 0 were there", "0 made, 4 were there"):
        assert said in make(arguments(coco, out=output))
    for i, name in enumerate(NAMES):
        np.testing.assert_array_equal(maps(coco / output / f"f{i}")[name], flat[name])
    shutil.copytree(coco / "label" / "f0", coco / "label" / "again")
    refuses(f"again/{NAMES[0]}.png and f0/{NAMES[0]}.png have one name", tool.main, arguments(coco))


def test_many_instances_are_told(coco, make):
    content = json.loads((coco / "instances.json").read_text(encoding="utf-8"))
    content["annotations"] += [{"image_id": 30, "segmentation": [[n % 8 + 1, n // 8 % 6 + 1]]} for n in range(300)]
    (coco / "instances.json").write_text(json.dumps(content))
    assert "1 maps have numbers above 255 and 16 bits (such as 000000000030.png)" in make(arguments(coco))
    assert "0 made" in make(arguments(coco))  # the wide map is kept
    np.testing.assert_array_equal(maps(coco / "inst")[NAMES[2]].flat[:12], range(288, 300))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"images": [], "annot', "not a whole JSON file"),
        ("", "not a whole JSON file"),
        ("[1, 2]", "not a whole JSON file .* expected at byte 0"),
        ('{"images": [{"id": 1}], "annotations": []}', "not made as COCO's"),
        ('{"annotations": [3], "images": []}', "not made as COCO's"),
        ('{"images": []}', "has no annotations"),
        ('{"images": [{"id": 1, "file_name": "a/x.jpg"}, {"id": 2, "file_name": "b\\\\x.jpg"}], "annotations": []}',
         "two pictures are called x"),
    ],
)  # fmt: skip
def test_annotation_files_that_cannot_be_used(tmp_path, content, reason):
    (tmp_path / "x.json").write_text(content)
    refuses(reason, index_annotations, tmp_path / "x.json")


def test_folders_and_annotations_that_are_not_there(coco):
    (coco / "empty").mkdir()
    refuses("holds no label maps", make_instance_maps, coco / "instances.json", coco / "empty", coco / "inst")
    (coco / "instances.json").unlink()
    refuses("annotation file is not there", tool.main, arguments(coco))


def test_reads_through_a_window_of_any_size(coco, monkeypatch):
    path = coco / "instances.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    raw = path.read_bytes()
    for chunk in (*range(1, 40), 1 << 20):
        monkeypatch.setattr(annotations, "_CHUNK", chunk)
        index = index_annotations(path)
        assert (index.polygons, index.others) == (4, 1)
        assert [picture.size for picture in index.pictures.values()] == [(8, 6)] * 4
        found = {name: [json.loads(raw[a:b])["id"] for a, b in p.spans] for name, p in index.pictures.items()}
        assert found == dict(zip(NAMES, ([7, 2], [1], [], [3]), strict=True))


# From label maps alone


def numbered(text, connectivity=8, min_area=1, ids=(1, 2)):
    """The component map of a drawing, in which . is 9, as a drawing: instances are a, b, c ..."""
    found, count, small = component_map(grid(text).astype(np.uint8), Components(ids, min_area, connectivity))
    assert found.dtype == np.uint16 and count == len(np.unique(found[found >= 256]))
    letters = {256 + i: chr(ord("a") + i) for i in range(26)} | {9: "."}
    return " ".join("".join(letters.get(int(v), str(v)) for v in row) for row in found), small


@pytest.mark.parametrize(
    "label, four, eight",
    [
        ("..... .1.1. .....", "..... .a.b. .....", None),
        ("1.. .1. ..1", "a.. .b. ..c", "a.. .a. ..a"),  # corner to corner
        ("..1 .1. 1..", "..a .b. c..", "..a .a. a.."),
        ("1.1 1.1 111", "a.a a.a aaa", None),  # a U is known to be one at its last row alone
        ("1.1.1 1.1.1 11111", "a.a.a a.a.a aaaaa", None),
        ("111 1.1 111", "aaa a.a aaa", None),  # a hole
        ("11111 1...1 1.1.1 1...1 11111", "aaaaa a...a a.b.a a...a aaaaa", None),  # one within another's hole
        ("1112 1122", "aaab aabb", None),  # neighbours of different classes
        ("121", "abc", None),
        ("212 121 212", "abc def ghi", "aba bab aba"),
        ("3121 3333", "3abc 3333", None),  # 3 is stuff
        ("111111 .....1 1111.1 1..1.1 1.11.1 1....1 111111", "aaaaaa .....a aaaa.a a..a.a a.aa.a a....a aaaaaa", None),
    ],
)
def test_components_counted_by_hand(label, four, eight):
    assert numbered(label, 4) == (four, 0)
    assert numbered(label, 8) == (eight or four, 0)


def test_small_components_keep_their_class_id():
    label = "11.1.22 11.1..2 .....2."
    assert numbered(label, min_area=3) == ("aa.1.bb aa.1..b .....b.", 1)
    assert numbered(label, 4, min_area=3) == ("aa.1.bb aa.1..b .....2.", 2)
    assert numbered(label, min_area=5) == (label, 3)
    assert numbered(label, ids=(3,)) == (label, 0)


def test_components_number_above_all_classes_and_beyond_a_byte():
    label = np.full((40, 40), 65535)  # unlabelled
    label[::2, ::2] = 300
    found, count, _ = component_map(label, Components((300,)))
    assert count == 400 and (found[::2, ::2].ravel() == np.arange(301, 701)).all() and (found[1::2] == 65535).all()
    label = np.zeros((512, 510), np.uint8)
    label[::2, ::2] = 1
    refuses("65280 instances, and 16 bits can number 65279 .*raise --min_area", component_map, label, Components((1,)))
    label[0, 0] = 0
    found, count, _ = component_map(label, Components((1,)))
    assert (count, found[0, 2], found[-2, -2]) == (65279, 256, 65534)
    refuses("label 65536 is too high", component_map, np.array([[65536]]), Components((1,)))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_components_are_those_of_scikit_image(connectivity):
    measure = pytest.importorskip("skimage.measure")
    rng = np.random.default_rng(connectivity)
    for case in range(30):
        label = rng.choice(4, (rng.integers(1, 30), rng.integers(1, 30)), p=[0.4, 0.4, 0.1, 0.1])
        regions = measure.label(np.where(label < 2, label + 1, 0), connectivity=connectivity // 4)
        found, count, _ = component_map(label, Components((0, 1), 1, connectivity))
        np.testing.assert_array_equal(found, np.where(regions, regions + 255, label), err_msg=f"case {case}")
        assert count == regions.max()


def test_the_things_of_each_data_set():
    named = {mode: [class_names(mode, OPT.from_preset(mode).label_nc)[i] for i in things(mode)] for mode in (
        "coco_stuff", "ade20k", "cityscapes", "camvid")}  # fmt: skip
    assert {mode: len(names) for mode, names in named.items()} == {
        "coco_stuff": 91, "ade20k": 100, "cityscapes": 10, "camvid": 5
    }  # fmt: skip
    assert named["camvid"] == ["Pole", "SignSymbol", "Car", "Pedestrian", "Bicyclist"]
    assert named["cityscapes"][::9] == ["person", "bicycle"] and "banner" not in named["coco_stuff"]
    assert {"bed", "person", "flag", "pole"} < set(named["ade20k"])
    assert not {"other", "wall", "sky", "tree", "rug", "skyscraper", "shower"} & set(named["ade20k"])
    assert things("sample") == things("coco_stuff") == tuple(range(91))


@pytest.fixture
def street(tmp_path):
    """CamVid's maps of 12x8: two cars and a part of one, in a folder; one without things; one with many signs."""
    maps = np.full((3, 8, 12), 3, np.uint8)
    maps[0, 2:5, 1:4] = maps[0, 3:6, 6:9] = maps[0, 0, 11] = 8
    maps[0, 7] = 11
    maps[2] = 0
    maps[2, ::2, ::2] = 6
    for name, pixels in zip(("day/a.png", "b.png", "c.png"), maps, strict=True):
        save(tmp_path / "label" / name, pixels)
    return tmp_path


def from_labels(folder, *more, out="inst"):
    given = ["--dataset_mode", "camvid"] if not {"--things", "--dataset_mode"} & set(more) else []
    paths = ["--input_label_dir", str(folder / "label"), "--output_instance_dir", str(folder / out)]
    return ["--from_labels", *paths, "--processes", "1", *given, *more]


def test_makes_every_map_from_its_labels(street, make):
    said = make(from_labels(street, "--min_area", "2"))
    assert "3 instance maps: 3 made, 0 were there" in said and "2 instances; 2 of the maps made have none" in said
    assert "25 regions below 2 pixels keep their class id" in said
    made = np.asarray(Image.open(street / "inst" / "day" / "a.png"))
    assert (made[2:5, 1:4] == 256).all() and (made[3:6, 6:9] == 257).all()
    assert made[0, 11] == 8 and (made[7] == 11).all() and (made == 3).sum() == 12 * 7 - 19
    tool.main(from_labels(street, out="all"))
    assert len(np.unique(maps(street / "all")["c"])) == 25
    assert np.asarray(Image.open(street / "inst" / "b.png")).dtype == np.uint16


def test_training_reads_maps_that_were_made_from_labels(street):
    """Where CamVid's tutorial would have them, if it had any."""
    tool.main(from_labels(street, out="traininst"))
    (street / "label").rename(street / "trainannot")
    for name in "bc":
        save(street / "train" / f"{name}.jpg", np.zeros((8, 12, 3), np.uint8))
    data = PhotoMaps(OPT.from_preset("camvid", dataroot=str(street), no_instance=False), "train", "val")
    assert [data[i]["instance"].max() for i in range(2)] == [3, 279] and data.opt.semantic_nc == 13


@pytest.mark.parametrize("damage", ["empty", "half", "bomb"])
def test_a_damaged_map_is_made_anew(street, make, damage):
    make(from_labels(street))
    path = street / "inst" / "b.png"
    whole = path.read_bytes()
    if damage == "bomb":  # a text that unpacks to 10 MB, at which Pillow raises a ValueError
        text = PngImagePlugin.PngInfo()
        text.add_text("instances", "a" * 10**7, zip=True)
        Image.new("L", (12, 8)).save(path, pnginfo=text)
    else:
        path.write_bytes(whole[:20] if damage == "half" else b"")
    assert "1 made, 2 were there" in make(from_labels(street)) and path.read_bytes() == whole


def written(folder):
    """{path: when it was written and what} of the instance maps."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (folder / "inst").rglob("*.*")}


def test_the_same_things_in_other_words_are_the_same_maps(street, make):
    make(from_labels(street))
    assert "0 made, 3 were there" in make(from_labels(street, "--things", "2,6,8-10"))


@pytest.fixture(params=["annotations", "labels"])
def source(request):
    """A folder with sources of either kind, a function that gives the tool's words for them, and how many maps."""
    if request.param == "labels":
        return request.getfixturevalue("street"), from_labels, 3
    return request.getfixturevalue("coco"), arguments, 4


def test_a_stopped_run_goes_on_and_keeps_what_is_there(source, make, monkeypatch):
    folder, words, count = source
    stopped(monkeypatch, 2, words(folder))
    ((kept, before),) = written(folder).items()  # a whole one; no half, no temporary file
    assert f"{count - 1} made, 1 were there" in make(words(folder))
    assert written(folder)[kept] == before
    assert f"0 made, {count} were there" in make(words(folder))


def test_several_processes_make_the_same_files(source, make):
    folder, words, count = source
    make(words(folder))
    program = [tool.__file__, *words(folder), "--processes", 2]
    one = {path: content for path, (_, content) in written(folder).items()}
    python(*program, "--force")
    assert {path: content for path, (_, content) in written(folder).items()} == one
    label = max((folder / "label").rglob("*.png"))
    label.write_bytes(label.read_bytes()[:45])
    said = python(*program, "--force", status=2).stderr
    assert said.splitlines()[-1].startswith(f"error: 1 of {count} maps could not be made")
    assert f"{label.name}: cannot be read" in said


DISTINCT, THINGS = (arguments, "--distinct"), (from_labels, "--things", "60-63")


@pytest.mark.parametrize(
    "data, first, then, reason",
    [
        ("coco", (arguments,), DISTINCT, "is there in the released (8-bit) form"),
        ("coco", DISTINCT, (arguments,), "is there in the distinct (16-bit) form"),
        ("coco", DISTINCT, THINGS, "is there, made from annotations, or by another program"),
        ("coco", THINGS, DISTINCT, "is there, made from label maps with other options"),
        *(
            (
                "street",
                (from_labels,),
                (from_labels, *other),
                "is there, made from label maps with other options: choose",
            )
            for other in (["--min_area", "2"], ["--connectivity", "4"], ["--things", "8"])
        ),
    ],
)
def test_maps_of_other_options_are_not_mixed_in(request, make, capsys, data, first, then, reason):
    folder, ((one, *before), (other, *now)) = request.getfixturevalue(data), (first, then)
    make(one(folder, *before))
    there = written(folder)
    refuses(f"{len(there)} of {len(there)} maps could not be made", tool.main, other(folder, *now))
    assert reason in capsys.readouterr().err
    assert written(folder) == there
    assert f"{len(there)} made, 0 were there" in make(other(folder, *now, "--force"))


def test_things_that_no_map_holds_are_told(street, make):
    assert "note: no map holds an instance of the things 1" in make(from_labels(street, "--things", "1"))


def test_label_maps_in_colours_and_of_any_format(street, make):
    ids = np.kron(np.array([[0, 1, 0, 1]]), np.ones((2, 2), int))
    shutil.rmtree(street / "label")
    save(street / "label" / "x.tif", np.array([[9, 9, 9], [200, 0, 0]], np.uint8)[ids])
    (street / "p.txt").write_text("0 9 9 9 road\n1 200 0 0 car\n")
    words = from_labels(street, "--things", "1", "--palette", str(street / "p.txt"))
    make(words)
    assert maps(street / "inst")["x"][0].tolist() == [0, 0, 256, 256, 0, 0, 257, 257]
    shutil.copy(street / "label" / "x.tif", street / "label" / "x.tiff")
    refuses(r"x\.tiff? and .*x\.tiff? have the same name", tool.main, words)


@pytest.mark.parametrize(
    "options, reason",
    [
        (["--things", "8,car"], "--things '8,car': 'car' is no id and no range: expected whole numbers 0..65535"),
        (["--things", ""], "names no ids"),
        (["--things", "8-12", "--dataset_mode", "camvid"], "11..12 is no class of camvid, whose classes are 0..10"),
        (["--dataset_mode", "facades"], "dataset_mode facades: its things are not known: give their ids"),
        (["--dataset_mode", "custom"], "dataset_mode custom: its things are not known: give their ids"),
        (["--dataset_mode", "camvit"], "'camvit' is unknown: .*did you mean camvid"),
        (["--min_area", "0"], "--min_area 0 is below 1"),
        (["--input_label_dir", "nowhere"], "nowhere is not a folder"),
        (["--output_instance_dir", "label"], "label maps' own folder"),
        (["--palette", "nowhere.txt"], "nowhere.txt: not a palette file"),
        (["--processes", "0"], "--processes 0 is below 1"),
    ],
)
def test_options_from_labels_that_cannot_be_used(street, monkeypatch, options, reason):
    monkeypatch.chdir(street)
    named = {"--things", "--dataset_mode"} & set(options)
    given = ["--dataset_mode=camvid", *(f"{a}={b}" for a, b in zip(options[::2], options[1::2], strict=True))]
    paths = ["--input_label_dir", "label", "--output_instance_dir", "inst"]
    refuses(reason, tool.main, ["--from_labels", *paths, *(given[1:] if named else given)])
    assert not (street / "inst").exists()


def test_from_labels_says_which_options_go_together(street):
    paths = from_labels(street, "--things", "8")[1:-2]
    refuses("--from_labels needs --dataset_mode NAME or --things IDS", tool.main, ["--from_labels", *paths])
    for source in ([], ["--from_labels", "--annotation_file", "x.json"]):
        with pytest.raises(SystemExit):
            tool.main([*source, *paths])
    with pytest.raises(SystemExit):
        tool.main(from_labels(street, "--connectivity", "6"))
    for option, value in (("--things", 8), ("--min_area", 2), ("--connectivity", 4), ("--dataset_mode", "camvid")):
        refuses(f"{option} goes with --from_labels", tool.main, arguments(street, option, str(value)))


def test_ids_of_another_data_set_are_told(street, capsys):
    Image.fromarray(np.array([[3, 77], [200, 8]], np.uint8)).save(street / "label" / "b.png")
    refuses("1 of 3 maps could not be made", tool.main, from_labels(street))
    assert "b.png: label id 77, 200 is none of camvid's, whose classes are 0..10: name" in capsys.readouterr().err
    tool.main(from_labels(street, "--things", "8", out="any"))
    assert maps(street / "any")["b"].tolist() == [[3, 77], [200, 256]]


# The measurements


def test_the_benchmark_measures_speed_and_agreement(tmp_path, capsys):
    pytest.importorskip("skimage.measure")
    benchmark.speed(argparse.Namespace(pictures=2, processes=[1], index_only=False))
    said = capsys.readouterr().out
    assert "MB, 14 annotations" in said and said.count("maps a second") == 2
    label = np.full((40, 40), 150, np.uint8)
    label[10:21, 10:21] = 60
    save(tmp_path / "label" / "a.png", label)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "segmentation": [box(10, 10, 21, 21)]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    make_instance_maps(tmp_path / "a.json", tmp_path / "label", tmp_path / "inst", quiet=True)
    benchmark.agreement(argparse.Namespace(labels=tmp_path / "label", instances=tmp_path / "inst"))
    said = capsys.readouterr().out
    differ = [int(n) for n in re.findall(r"minus \d: \d+ pixels are fixed by the label map, (\d+) of them", said)]
    assert differ[1] == 0 and differ[0] > 0 and differ[2] > 0
    assert "1 of 1 files agree in every pixel" in said and "1 objects, 121 pixels" in said and "), 0 of them" in said
