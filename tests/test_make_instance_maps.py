"""tools/make_instance_maps.py: the released form against maps worked out by hand, and the run as a user meets it."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import instance_maps as benchmark
from model.errors import UserError
from model.prepare import instance_maps
from model.prepare.instance_maps import fill_polygon, index_annotations, instance_map, make_instance_maps
from tools import make_instance_maps as tool

ROOT = Path(__file__).resolve().parent.parent


def grid(text):
    """A map from rows of characters: digits are values, '.' is 9."""
    return np.array([[9 if c == "." else int(c) for c in row] for row in text.split()])


def box(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def drawn(text, *segmentations):
    """Compare with a drawing over a label map of nines of its size."""
    want = grid(text)
    got = instance_map(np.full(want.shape, 9, np.uint8), segmentations)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, want)


# ---------------------------------------------------------------------------------------------------------------------
# By hand


def test_a_box_covers_its_edges_one_pixel_up_and_left():
    # x 2..5 and y 2..4 less one are columns 1..4 and rows 1..3, edges included
    drawn("...... .0000. .0000. .0000. ......", [box(2, 2, 5, 4)])


def test_a_box_between_pixels_covers_those_inside():
    # columns 0.5..3.5, rows 0.5..2.5
    drawn("...... .000.. .000.. ...... ......", [box(1.5, 1.5, 4.5, 3.5)])


def test_at_the_border_nothing_wraps_around_and_what_leaves_is_cut_off():
    # columns -1..1 and rows -1..0: in NumPy -1 would be the last; columns 4..8 of 6
    drawn("00.... ...... ....11 ....11 ......", [box(0, 0, 2, 1)], [box(5, 3, 9, 4)])


def test_a_triangle():
    # corners (0,0), (4,0), (0,4): the pixels with x + y <= 4
    drawn("00000 0000. 000.. 00... 0....", [[1, 1, 5, 1, 1, 5]])


def test_a_line_and_a_point_leave_their_corners():
    # the two edges of two corners fall together, which is an even number; corners always count
    drawn("0.... ..... ....1 ..... ....0", [[1, 1, 5, 5]], [[5, 3]])


def test_later_ones_overwrite_earlier_ones():
    drawn("000.. 0111. 0111. .111.", [box(1, 1, 3, 3)], [box(2, 2, 4, 4)])


def test_an_object_in_two_parts_has_one_number():
    drawn("00.00 00.00 ..... 11...", [box(1, 1, 2, 2), box(4, 1, 5, 2)], [box(1, 4, 2, 4)])


def test_an_annotation_without_any_polygon_still_counts():
    drawn("00.22 00.22", [box(1, 1, 2, 2)], [], [box(4, 1, 5, 2)])


def test_a_polygon_within_another_makes_no_hole():
    drawn("00000 00000 00000 00000 00000", [box(1, 1, 5, 5), box(2, 2, 4, 4)])


def test_an_outline_that_goes_in_and_back_leaves_a_hole():
    # around 0..6, by a cut to the square 2..4, around it and back: its border counts, the pixel in it does not
    keyhole = [1, 1, 7, 1, 7, 7, 1, 7, 1, 1, 3, 3, 3, 5, 5, 5, 5, 3, 3, 3, 1, 1]
    drawn("0000000 0000000 0000000 000.000 0000000 0000000 0000000", [keyhole])


def test_an_outline_that_crosses_itself_is_filled_by_parity():
    # a bow tie: its two triangles and the crossing
    drawn("0...0 00.00 00000 00.00 0...0", [[1, 1, 1, 5, 5, 1, 5, 5]])


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
        with pytest.raises(UserError, match=f"annotation 1 .*{reason}"):
            instance_map(np.zeros((2, 2), np.uint8), [[], [polygon]])


# ---------------------------------------------------------------------------------------------------------------------
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


# ---------------------------------------------------------------------------------------------------------------------
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
    (tmp_path / "label").mkdir()
    for value, name in enumerate(NAMES):
        pixels = np.full((6, 8), 60 + value, np.uint8)
        pixels[5] = 255
        Image.fromarray(pixels).save(tmp_path / "label" / f"{name}.png")
    return tmp_path


def arguments(folder, *more, out="inst"):
    paths = ("--annotation_file", "instances.json", "--input_label_dir", "label", "--output_instance_dir", out)
    return [a if a.startswith("--") else str(folder / a) for a in paths] + ["--processes", "1", *more]


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


def test_makes_every_map_in_the_released_form(coco, capsys):
    assert tool.main(arguments(coco)) == 0
    made = maps(coco / "inst")
    assert set(made) == set(NAMES) and {m.dtype for m in made.values()} == {np.dtype(np.uint8)}
    # the crowd between the two objects does not count and changes nothing
    np.testing.assert_array_equal(made[NAMES[0]], FIRST)
    np.testing.assert_array_equal(made[NAMES[1]], np.zeros((6, 8)))
    np.testing.assert_array_equal(made[NAMES[2]], maps(coco / "label")[NAMES[2]])  # no annotations: a copy
    assert made[NAMES[3]][5, 7] == 0 and (made[NAMES[3]] == 63).sum() == 40
    said = capsys.readouterr().out
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


def test_a_stopped_run_goes_on_and_keeps_what_is_there(coco, capsys, monkeypatch):
    real, calls = Image.Image.save, []

    def stopped(picture, file, *args, **options):
        calls.append(file)
        if len(calls) == 3:
            Path(file).write_bytes(b"half a pict")
            raise KeyboardInterrupt
        real(picture, file, *args, **options)

    monkeypatch.setattr(Image.Image, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        tool.main(arguments(coco))
    monkeypatch.undo()
    assert len(os.listdir(coco / "inst")) == 2  # whole ones; no half, no temporary file
    times = {path: path.stat().st_mtime_ns for path in (coco / "inst").iterdir()}
    (coco / "inst" / f"{NAMES[2]}.png").write_bytes(b"")  # another program's damage is mended
    leftover = coco / "inst" / ".x.png.1.tmp"
    leftover.touch()
    os.utime(leftover, (1, 1))
    tool.main(arguments(coco))
    assert "2 made, 2 were there" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    np.testing.assert_array_equal(maps(coco / "inst")[NAMES[0]], FIRST)
    assert not leftover.exists()
    tool.main(arguments(coco, "--force"))
    assert "4 made, 0 were there" in capsys.readouterr().out


def test_maps_of_the_other_form_are_not_mixed_in(coco, capsys):
    tool.main(arguments(coco))
    with pytest.raises(UserError, match="4 of 4 maps could not be made"):
        tool.main(arguments(coco, "--distinct"))
    assert "is there in the released (8-bit) form" in capsys.readouterr().err
    tool.main(arguments(coco, "--distinct", "--force"))
    with pytest.raises(UserError, match="4 of 4"):
        tool.main(arguments(coco))
    assert "is there in the distinct (16-bit) form" in capsys.readouterr().err


def test_files_that_cannot_be_used_are_named_and_the_others_made(coco, capsys):
    (coco / "label" / f"{NAMES[0]}.png").write_bytes(b"no picture")
    Image.new("L", (4, 3)).save(coco / "label" / f"{NAMES[1]}.png")
    with pytest.raises(UserError, match="2 of 4 maps could not be made"):
        tool.main(arguments(coco))
    said = capsys.readouterr().err
    assert f"{NAMES[0]}.png: cannot be read" in said and f"{NAMES[1]}.png is 4x3, its picture 8x6" in said
    assert set(maps(coco / "inst")) == set(NAMES[2:])


def test_label_maps_that_the_annotations_do_not_name(coco, capsys):
    Image.new("L", (8, 6), 5).save(coco / "label" / "extra.png")
    tool.main(arguments(coco))
    assert "1 label maps are not named in the annotation file and were copied (such as extra.png)" in (
        capsys.readouterr().out
    )
    assert (maps(coco / "inst")["extra"] == 5).all()
    for name in NAMES:
        (coco / "label" / f"{name}.png").unlink()
    with pytest.raises(UserError, match="names none of the 1 label maps .*same split"):
        tool.main(arguments(coco))


def test_label_maps_in_folders_make_maps_in_folders(coco, capsys):
    tool.main(arguments(coco))
    flat = maps(coco / "inst")
    for i, name in enumerate(NAMES):
        (coco / "label" / f"f{i}").mkdir()
        (coco / "label" / f"{name}.png").rename(coco / "label" / f"f{i}" / f"{name}.png")
    output = coco / "label" / "instances"  # which is not read, though it lies there
    tool.main([*arguments(coco), "--output_instance_dir", str(output)])
    tool.main([*arguments(coco), "--output_instance_dir", str(output)])
    assert "0 made, 4 were there" in capsys.readouterr().out
    for i, name in enumerate(NAMES):
        np.testing.assert_array_equal(maps(output / f"f{i}")[name], flat[name])
    shutil.copytree(coco / "label" / "f0", coco / "label" / "again")
    with pytest.raises(UserError, match=f"again/{NAMES[0]}.png and f0/{NAMES[0]}.png have one name"):
        tool.main(arguments(coco))


def test_many_instances_are_told(coco, capsys):
    content = json.loads((coco / "instances.json").read_text(encoding="utf-8"))
    content["annotations"] += [{"image_id": 30, "segmentation": [[n % 8 + 1, n // 8 % 6 + 1]]} for n in range(300)]
    (coco / "instances.json").write_text(json.dumps(content))
    for expected in ("4 made", "0 made"):  # the second run keeps the wide map
        tool.main(arguments(coco))
        said = capsys.readouterr().out
        assert expected in said
        assert ("1 maps have numbers above 255 and 16 bits (such as 000000000030.png)" in said) == (
            expected != "0 made"
        )
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
    with pytest.raises(UserError, match=reason):
        index_annotations(tmp_path / "x.json")


def test_folders_and_options_that_cannot_be_used(coco):
    with pytest.raises(UserError, match="label maps' own folder"):
        tool.main(arguments(coco, out="label"))
    with pytest.raises(UserError, match="--processes 0"):
        tool.main([*arguments(coco), "--processes", "0"])
    for missing, reason in (("label", "is not a folder"), ("instances.json", "annotation file is not there")):
        (coco / missing).rename(coco / "away")
        with pytest.raises(UserError, match=reason):
            tool.main(arguments(coco))
        (coco / "away").rename(coco / missing)
    (coco / "empty").mkdir()
    with pytest.raises(UserError, match="holds no label maps"):
        make_instance_maps(coco / "instances.json", coco / "empty", coco / "inst")


def test_reads_through_a_window_of_any_size(coco, monkeypatch):
    path = coco / "instances.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    raw = path.read_bytes()
    for chunk in (*range(1, 40), 1 << 20):
        monkeypatch.setattr(instance_maps, "_CHUNK", chunk)
        index = index_annotations(path)
        assert (index.polygons, index.others) == (4, 1)
        assert [picture.size for picture in index.pictures.values()] == [(8, 6)] * 4
        found = {name: [json.loads(raw[a:b])["id"] for a, b in p.spans] for name, p in index.pictures.items()}
        assert found == dict(zip(NAMES, ([7, 2], [1], [], [3]), strict=True))


def test_several_processes_make_the_same_maps(coco):
    tool.main(arguments(coco))
    command = [sys.executable, str(ROOT / "tools" / "make_instance_maps.py"), *arguments(coco, out="two")]
    done = subprocess.run([*command, "--processes", "2"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    one, two = maps(coco / "inst"), maps(coco / "two")
    assert one.keys() == two.keys() and all((one[name] == two[name]).all() for name in one)
    done = subprocess.run([*command, "--distinct"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: 4 of 4 maps")


# ---------------------------------------------------------------------------------------------------------------------
# The measurements


def test_the_benchmark_measures_speed_and_agreement(tmp_path, capsys):
    pytest.importorskip("skimage.measure")
    benchmark.speed(argparse.Namespace(pictures=2, processes=[1], index_only=False))
    said = capsys.readouterr().out
    assert "MB, 14 annotations" in said and said.count("maps a second") == 2
    label = np.full((40, 40), 150, np.uint8)
    label[10:21, 10:21] = 60
    (tmp_path / "label").mkdir()
    Image.fromarray(label).save(tmp_path / "label" / "a.png")
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
