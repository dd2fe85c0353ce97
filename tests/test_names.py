"""Names of users' files and folders, whatever their bytes, through every program: a file's name is never a pattern."""

import json
import os
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from common import ROOT, python, refuses, save
from PIL import Image
from test_presets import TINY

import train
import val
from model.data.dataset import PhotoMaps
from model.data.listing import list_items
from model.errors import printable
from model.metrics.images import partners
from model.options import OPT
from tools import check_dataset

GBK = os.fsdecode("街".encode("gbk"))
NAMES = {
    "not UTF-8": GBK,
    "a pattern": "v1 [take 0] **100%**",
    "a line break": "a\nb",
    "an escape sequence": "a\x1b[31mred",
    "a flag": "-x",
    "quotes": "'it' is \"$HOME\" `id`",
    "NFD": "u\u0308ber",
    "a dot": "a.b.c",
    "long": "n" * 200,
    "digits": "²٣Ⅳ",
}
OPTIONS = [*TINY, "--no_instance", "--label_nc", "4"]


def pictures(root, names, split, size=(64, 64)):
    """Photos and maps of these names, paths without suffix, in root/{photos,maps}/split."""
    rng = np.random.default_rng(len(split))
    for name in names:
        for kind, array in (("photos", rng.integers(0, 256, (*size, 3), np.uint8)),
                            ("maps", rng.integers(0, 4, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1))):  # fmt: skip
            save(root / kind / split / f"{name}.png", array)
    return ["--label_dir", str(root / "maps"), "--image_dir", str(root / "photos")]


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_of_this_name_trains_and_validates(name, tmp_path, monkeypatch, main):
    """In folders of the name, too; results are called as the label maps."""
    monkeypatch.chdir(tmp_path)
    each = [f"{NAMES[name]}{i}" for i in range(2)]
    folder = tmp_path / f"set {NAMES[name][:40]}"
    data = pictures(folder, [each[0], f"{NAMES[name]}/{each[1]}"], "train")
    pictures(folder, [each[0], f"{NAMES[name]}/{each[1]}"], "val")
    assert "nothing would stop" in main(check_dataset, "custom", *data, *OPTIONS, "--quiet")
    report = json.loads(next(Path("output/check").glob("*.json")).read_text())
    assert report
    options = [*OPTIONS, "--nThreads", "1", "--max_steps", "1"]
    main(train, "--preset", "custom", *data, *options)
    assert OPT.load(Path("output", "opt.yaml")).label_dir == str(folder / "maps")
    out = main(val, "--device", "cpu", "--nThreads", "0", "--panels", "--format", "png")
    assert "wrote 2 pictures" in out
    normal = [str(path.relative_to("output_val/pics")) for path in Path("output_val/pics").rglob("*.png")]
    want = [f"{each[0]}.png", f"{NAMES[name]}/{each[1]}.png"]
    assert sorted(normal) == sorted(unicodedata.normalize("NFC", path) for path in want)
    assert len(list(Path("output_val/panels").rglob("*.jpg"))) == 2


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_damaged_photo_ends_a_run_in_one_line_that_names_it(workers, tmp_path):
    """Met after some steps, whoever reads it; what was learnt is saved."""
    data = pictures(tmp_path / GBK, [f"{GBK}{i}" for i in range(8)], "train")
    damaged = tmp_path / GBK / "photos" / "train" / f"{GBK}5.png"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    options = [*OPTIONS, "--batchSize", "1", "--nThreads", workers, "--output", f"{GBK} out", "--serial_batches"]
    words = [ROOT / "train.py", "--preset", "custom", *data, *options]
    stderr = python(*words, cwd=tmp_path, status=2, PYTHONIOENCODING="ascii:strict", LC_ALL="C").stderr
    said = printable(GBK)
    (line,) = [line for line in stderr.splitlines() if line.startswith("error")]
    assert stderr.isascii() and "queue" not in stderr
    assert f"{said}/photos/train/{said}5.png: cannot be read" in line
    assert line.endswith(f"step 5 is saved in {said} out/model/step_00000005")
    assert (tmp_path / f"{GBK} out" / "model" / "step_00000005" / "meta.json").exists()


# ---- folders in folders ----


def nested(tmp_path):
    folders = dict(label_dir=str(tmp_path / "maps"), image_dir=str(tmp_path / "photos"))
    return OPT(dataset_mode="custom", no_instance=True, label_nc=4, **folders)


def test_files_of_one_name_in_several_folders_stay_apart(tmp_path):
    pictures(tmp_path, ["a/1", "b/1", "b/c/1", "1"], "train")
    items = list_items(nested(tmp_path), "train")
    assert [item.name for item in items] == ["1", "a/1", "b/1", "b/c/1"]
    for item in items:
        assert Path(item.label).relative_to(tmp_path / "maps") == Path(item.image).relative_to(tmp_path / "photos")


def test_a_photo_that_is_missing_in_a_folder_is_named_with_it(tmp_path):
    pictures(tmp_path, ["a/1", "b/1"], "train")
    (tmp_path / "photos" / "train" / "b" / "1.png").unlink()
    refuses(r"1 of 2 label maps without photo \(b/1\)", list_items, nested(tmp_path), "train")


def test_a_link_that_leads_around_is_not_followed(tmp_path):
    pictures(tmp_path, ["a/1"], "train")
    for kind in ("maps", "photos"):
        (tmp_path / kind / "train" / "a" / "again").symlink_to(tmp_path / kind / "train")
    assert [item.name for item in list_items(nested(tmp_path), "train")] == ["a/1"]


def test_folders_that_link_to_each_other_end(tmp_path):
    pictures(tmp_path, ["a/1", "b/1"], "train")
    for kind in ("maps", "photos"):
        for here, there in ("ab", "ba"):
            (tmp_path / kind / "train" / here / "other").symlink_to(tmp_path / kind / "train" / there)
    names = ["a/1", "a/other/1", "b/1", "b/other/1"]
    assert [item.name for item in list_items(nested(tmp_path), "train")] == names


def test_instance_maps_lie_in_the_same_folders(tmp_path):
    pictures(tmp_path, ["a/1", "b/1"], "train")
    shutil.copytree(tmp_path / "maps", tmp_path / "inst")
    opt = replace(nested(tmp_path), no_instance=False, instance_dir=str(tmp_path / "inst"))
    assert [Path(item.instance).parent.name for item in list_items(opt, "train")] == ["a", "b"]
    (tmp_path / "inst" / "train" / "b" / "1.png").rename(tmp_path / "inst" / "train" / "1.png")
    refuses(r"1 of 2 label maps without instance map \(b/1\) and .* \(1\)", list_items, opt, "train")


def test_maps_in_the_folder_of_photos_are_told_from_them(tmp_path):
    pictures(tmp_path, ["a/1", "2"], "")
    (tmp_path / "maps").rename(tmp_path / "photos" / "maps")
    opt = replace(nested(tmp_path), label_dir=str(tmp_path / "photos" / "maps"))
    assert [item.name for item in list_items(opt, "train")] == ["2", "a/1"]


@pytest.mark.parametrize("split", ["", "train"])
def test_photos_and_maps_in_one_folder_are_told_by_their_suffix(tmp_path, split):
    pictures(tmp_path, ["1", "a/2"], split)
    folder = tmp_path / "maps" / split
    for name in ("1", "a/2"):
        Image.open(tmp_path / "photos" / split / f"{name}.png").save(folder / f"{name}.jpg")
    opt = replace(nested(tmp_path), image_dir=f"{tmp_path}/photos/../maps")
    data = PhotoMaps(opt, "train")
    found = [(Path(item.label).suffix, Path(item.image).suffix) for item in data.items]
    assert found == [(".png", ".jpg")] * 2 and not data.not_read
    for name in ("1", "a/2"):
        (folder / f"{name}.jpg").unlink()
        shutil.copy(tmp_path / "photos" / split / f"{name}.png", folder / f"{name}_photo.png")
    refuses("given for photos and for maps, .* in folders of their own", list_items, opt, "train")


@pytest.mark.parametrize(
    "maps, photos, phase, found",  # the items, of which each split has its number and x/y, or why there are none
    [
        ("train val", "Train VAL", "train", "0 x/y"),
        ("train val", "Train VAL", "val", "1 x/y"),
        ("train2017 val2017", "training validation", "train", "0 x/y"),
        ("train2017 val2017", "training validation", "val", "1 x/y"),
        ("train val", "train valid", "val", "1 x/y"),
        ("train val test", "train val extra", "train", "0 x/y"),
        ("train val test", "train val extra", "val", "1 x/y"),
        ("train val test", "train val Testing", "test", "2 x/y"),
        ("train test", "train test2017", "test", "1 x/y"),
        ("test more", "test more", "test", "0 x/y"),  # a test split alone divides nothing but a test
        ("test more", "test more", "train", "more/1 more/x/y test/0 test/x/y"),
        ("test more", "test more", "val", "more/1 more/x/y test/0 test/x/y"),
        ("train", "train", "val", "maps/val is not a folder"),
        ("train test", "train test", "val", "maps/val is not a folder"),
        ("train val", "train val", "test", "maps/test is not a folder"),
        ("train val test", "train val extra", "test", "no subfolder test or testing, as .* but extra"),
        ("train test testing", "train test", "test", "test and testing, which both mean test"),
    ],
)
def test_splits_are_known_by_their_usual_names(tmp_path, maps, photos, phase, found):
    for kind, names in (("maps", maps), ("photos", photos)):
        for number, split in enumerate(names.split()):
            pictures(tmp_path / f"with {kind}", [f"{number}", "x/y"], split)
        (tmp_path / f"with {kind}" / kind).rename(tmp_path / kind)
    if "/y" in found:
        items = list_items(nested(tmp_path), phase)
        assert [item.name for item in items] == found.split() and all(item.image for item in items)
    else:
        refuses(found, list_items, nested(tmp_path), phase)


def test_validation_without_photos_says_so(tmp_path, monkeypatch, main):
    monkeypatch.chdir(tmp_path)
    data = pictures(tmp_path, ["1", "2"], "train")
    pictures(tmp_path, ["1"], "val")
    (tmp_path / "photos" / "val" / "1.png").unlink()
    (tmp_path / "photos" / "val").rmdir()
    main(train, "--preset", "custom", *data, *OPTIONS, "--max_steps", "1")
    out = main(val, "--device", "cpu", "--nThreads", "0")
    assert f"photos     none: {tmp_path}/photos/val is not there" in out


# ---- pairing ----


def test_folders_are_listed_once_however_many_names_differ(tmp_path, monkeypatch):
    for kind, tail in (("maps", "_label"), ("photos", "")):
        (tmp_path / kind).mkdir()
        for i in range(8000):
            (tmp_path / kind / f"frame{i}{tail}.png").touch()
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": listed.append(path) or scandir(path))
    monkeypatch.setattr(os, "listdir", lambda path=".": pytest.fail(f"listdir {path}"))
    refuses("_label", list_items, nested(tmp_path), "train")
    assert len(listed) <= 12


def test_names_pair_in_either_unicode_form(tmp_path):
    pictures(tmp_path, ["caf\u00e9"], "")
    (tmp_path / "maps" / "caf\u00e9.png").rename(tmp_path / "maps" / "cafe\u0301.png")
    (item,) = list_items(nested(tmp_path), "train")
    assert item.image.endswith("caf\u00e9.png") and item.label.endswith("cafe\u0301.png")


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_missing_partner_is_told_whatever_its_name(tmp_path, name):
    pictures(tmp_path, [name], "")
    (tmp_path / "photos" / f"{name}.png").rename(tmp_path / "photos" / "other.png")
    assert refuses("without photo", list_items, nested(tmp_path), "train").encode()


@pytest.mark.parametrize("photos, maps", [("{}", "{}_label"), ("{}", "gt_{}"), ("{}_img", "{}")])
def test_names_that_all_differ_alike_are_told(tmp_path, photos, maps):
    pictures(tmp_path, [f"frame{i}" for i in range(12)], "")
    for kind, form in (("photos", photos), ("maps", maps)):
        for path in list((tmp_path / kind).iterdir()):
            path.rename(path.with_stem(form.format(path.stem)))
    refuses("all names differ alike, as .*rename one kind", list_items, nested(tmp_path), "train")


@pytest.mark.parametrize(
    "mine, theirs, pairs",
    [
        (["1", "a/1"], ["1", "a/1"], {"1": "1", "a/1": "a/1"}),  # at several depths
        (["a/1", "a/b/1"], ["a/1", "a/b/1"], {"a/1": "a/1", "a/b/1": "a/b/1"}),
        (["a/1", "b/1"], ["a/1", "b/1"], {"a/1": "a/1", "b/1": "b/1"}),
        (["1", "2"], ["x/1", "y/2"], {"1": "x/1", "2": "y/2"}),  # by the name, which one alone has
        (["x/1", "y/2"], ["1", "2", "3"], {"x/1": "1", "y/2": "2"}),
        (["photos/1"], ["1", "photos/1"], {"photos/1": "photos/1"}),
        (["u\u0308/1"], ["\u00fc/1", "2"], {"u\u0308/1": "\u00fc/1"}),
        (["1"], ["x/1", "y/1"], "x/1.png and .*y/1.png have the same name"),
        (["1", "a/1"], ["1"], r"1 of 2 pictures \(a/1.png\) have no photo"),
        (["a/1", "b/1"], ["1"], r"2 of 2 pictures \(a/1.png, b/1.png\) have no photo"),
        (["a/1"], ["b/2"], r"\(a/1.png\) have no photo"),
    ],
)
def test_pictures_pair_by_their_path_and_else_by_their_name(tmp_path, mine, theirs, pairs):
    folders = [tmp_path / "generated", tmp_path / "photos"]
    files = [[folder / f"{name}.png" for name in names] for folder, names in zip(folders, (mine, theirs), strict=True)]
    if isinstance(pairs, str):
        refuses(pairs, partners, *files, "photo", tuple(map(str, folders)))
        return
    want = [folders[1] / f"{pairs[name]}.png" for name in mine]
    assert partners(*files, "photo", tuple(map(str, folders))) == want
    for i in range(len(mine)):  # and so do some of them
        assert partners(files[0][i:], files[1], "photo", tuple(map(str, folders))) == want[i:]
