"""tools/check_dataset.py as its users run it: sound data sets pass, each planted fault is found and explained."""

import json
import re
import shutil

import numpy as np
import official_layouts as made
import pytest
from common import ROOT, python, refused, refuses
from PIL import Image

from model.prepare.faults import FAULTS, Finding
from tools import check_dataset as tool


def sound(root):
    """Nothing is broken, and no options are added."""


@pytest.fixture
def check(tmp_path, capsys):
    """A function that makes a data set, breaks it, checks it; returns (status, what is printed, the JSON report)."""

    def run(name, broken=sound, *options):
        root = tmp_path / "data"
        given = made.MAKERS[name](root)
        more = broken(root) or []
        quiet = ["--processes", "1", "--quiet", "--report_dir", str(tmp_path / "out")]
        status = tool.main([name, *given, *more, *quiet, *map(str, options)])
        out = capsys.readouterr().out
        return status, out, json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8"))

    return run


def codes(report):
    return {finding["code"] for finding in report["findings"]}


# Sound data sets


@pytest.mark.parametrize("name", made.MAKERS)
def test_sound_data_sets_have_no_findings(check, tmp_path, name):
    status, out, report = check(name)
    assert (status, report["findings"], report["stops"]) == (0, [], False)
    train = 8 if name == "ade20k_mindspore" else 4
    assert "nothing would stop a run\n" in out and f"{train + 2} pictures in" in out
    assert [split["pictures"] for split in report["splits"].values()] == [train, 2]
    with Image.open(tmp_path / "out" / f"{name}.jpg") as sheet:
        assert sheet.width > 400 and sheet.height > 300


def test_a_test_split_is_looked_at_when_it_is_named(check):
    status, out, report = check("camvid", sound, "--phase", "test")
    assert status == 0 and re.search(r"test +3 +3 +0 +80\.\.80 +72\.\.72 +0\.\.11 \(12\)", out)
    assert report["splits"]["test"]["classes"]["11"]["name"] == "unlabeled" and list(report["splits"]) == ["test"]
    status, out, report = check("facades", sound, "--phase", "test")
    assert status == 1 and codes(report) == {"no_labels"} and "test_label is not there" in out


def test_photos_of_the_test_split_are_looked_for_in_the_others(check):
    """Where there is one of its own; nothing else of it is examined."""
    _, out, report = check("camvid", lambda r: (r / "testannot" / "0001TP_002001.png").write_bytes(b"") and None)
    assert re.search(r"\n +test +3 photos, looked for in the others\n", out) and report["findings"] == []
    assert "looked for" not in check("camvid", sound, "--phase", "train")[1]
    _, out, report = check("custom", one_split, "--max_pictures", "2")
    assert "looked for" not in out and codes(report) == {"one_split"}


def test_the_classes_are_counted_and_named(check):
    _, out, report = check("ade20k", sound, "--classes", "2")
    classes = report["splits"]["train"]["classes"]
    assert {int(i): c["name"] for i, c in classes.items()} == {0: "other", 1: "wall", 13: "person", 150: "flag"}
    assert sum(c["pixels"] for c in classes.values()) == 4 * 80 * 72
    assert {c["pictures"] for c in classes.values()} == {4}
    assert report["splits"]["train"]["unlabelled"] == classes["0"]["pixels"] / (4 * 80 * 72)
    assert re.search(r"train +4 +4 +0 +80\.\.80 +72\.\.72 +0\.\.150 \(4\) +\d+\.\d%", out)
    assert "and 2 more" in out and "never: 147 of 151 classes (building, sky" in out


def camvid(root, table=range(12)):
    """Grey maps with the ids 0..11, or others in their places, and no palette."""
    for path in (root / "maps").rglob("*.png"):
        ids = np.kron(np.arange(12).reshape(3, 4), np.ones((24, 20), int))
        Image.fromarray(np.array(table, np.uint8)[ids]).save(path)
    return ["--palette", ""]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--label_nc", "11"], "0..11 (11 unlabelled): train with --label_nc 11 --contain_dontcare_label true, or, "
         "where 11 is a class, --label_nc 12 --contain_dontcare_label false"),
        (["--label_nc", "11", "--unknown_ids", "11"],
         "0..11 (11 unlabelled): train with --label_nc 11 --contain_dontcare_label true"),
        (["--label_nc", "12"], "0..11: train with --label_nc 12 --contain_dontcare_label false, or, where 11 means "
         "unlabelled, --label_nc 11 --contain_dontcare_label true"),
        (["--label_nc", "12", "--unknown_ids", "0,3"],
         "0..11 (0, 3 unlabelled): train with --label_nc 12 --unknown_ids 0,3"),
    ],
)  # fmt: skip
def test_what_means_unlabelled_is_counted_named_and_told(check, options, words):
    status, out, report = check("custom", camvid, *options)
    assert (status, report["findings"]) == (0, []) and f"ids found    {words}\n" in out
    unlabelled = {i for i, c in report["splits"]["train"]["classes"].items() if c["name"] == "unlabeled"}
    assert unlabelled == set(re.findall(r"\d+", words.partition(" unlabelled)")[0].partition("(")[2]))
    assert report["splits"]["train"]["unlabelled"] == pytest.approx(len(unlabelled) / 12)
    assert "never" not in out


def reword(root, before, after):
    """Change the text of the palette file."""
    path = root / "palette.txt"
    path.write_text(path.read_text().replace(before, after))


def test_a_palette_s_names_tell_what_means_unlabelled(check):
    for number in ("3", "13"):
        _, out, report = check("custom", lambda root: reword(root, "tree", "Void"), "--label_nc", number)
        assert "0..3 (3 unlabelled): train with --label_nc 3 --contain_dontcare_label true\n" in out
        assert report["splits"]["train"]["classes"]["3"]["name"] == "Void"


def test_the_contact_sheet_shows_all_unlabelled_ids_alike(check, tmp_path):
    def broken(root):
        reword(root, "0 0 0 0 nothing", "0 250 0 250 void")
        for path in (root / "maps").rglob("*.png"):
            Image.fromarray(np.tile(np.repeat([0, 255, 2], 24), (60, 1)).astype(np.uint8)).save(path)
            Image.new("RGB", (72, 60), (128, 128, 128)).save(root / "photos" / path.parent.name / f"{path.stem}.jpg")

    _, _, report = check("custom", broken, "--unknown_ids", "0,255")
    assert report["splits"]["val"]["unlabelled"] == pytest.approx(2 / 3)
    with Image.open(tmp_path / "out" / "custom.jpg") as sheet:
        row = np.asarray(sheet.convert("RGB")).astype(int)[100, 200 + 8 : 200 + 184]
    magenta, sky = (np.abs(row - colour).max(-1) < 60 for colour in ((250, 0, 250), (70, 130, 180)))
    assert magenta[:118].all() and sky[-50:].all()


# Broken ones


def pick(root, pattern):
    return sorted(root.glob(pattern))[0]


def edit(root, pattern, change):
    """Change the pixels of the files of a pattern; returns nothing, as options to add."""
    paths = sorted(root.glob(pattern))
    assert paths, pattern
    for path in paths:
        with Image.open(path) as picture:
            array = np.asarray(picture).copy()
        Image.fromarray(change(array)).save(path)


def cut(root, pattern, keep=0.5):
    path = pick(root, pattern)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


def drop(root, pattern):
    path = pick(root, pattern)
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def full_ade20k(root):
    shutil.rmtree(root / "ADEChallengeData2016")
    (root / "images" / "ADE" / "training" / "urban" / "street").mkdir(parents=True)
    (root / "index_ade20k.pkl").write_bytes(b"")


def train_ids(root):
    table = np.full(256, 255, np.uint8)
    table[[7, 11, 23, 24, 26, 33]] = [0, 2, 10, 11, 13, 18]
    edit(root, "gtFine/*/*/*_labelIds.png", lambda ids: table[ids])


def smoothed(root):
    for path in root.glob("*_label/*.png"):
        with Image.open(path) as label:
            label.resize((120, 108), Image.Resampling.BICUBIC).resize((80, 72), Image.Resampling.BILINEAR).save(path)


def jpeg_label(root):
    path = pick(root, "train_label/*.png")
    with Image.open(path) as label:
        label.save(path, "JPEG", quality=80)


def turned(root, pattern="train_img/*.jpg", orientation=6, how=Image.Transpose.ROTATE_90):
    path = pick(root, pattern)
    with Image.open(path) as photo:
        exif = photo.getexif()
        exif[0x0112] = orientation
        turned = photo.transpose(how)
    turned.save(path, exif=exif)


def transparent(root):
    path = pick(root, "train_img/*.jpg")
    with Image.open(path) as photo:
        photo.putalpha(100)
        photo.save(path.with_suffix(".png"))
    path.unlink()


def renumbered(root):
    """What an optimiser of PNG makes of a map: the colours that it uses, in another order."""
    for number, order in ((1, 1), (2, -1)):
        path = pick(root, f"train_label/*{number}.png")
        with Image.open(path) as label:
            used, place = np.unique(label, return_inverse=True)
        used, place = used[::order], place if order > 0 else len(used) - 1 - place
        picture = Image.fromarray(place.reshape(label.height, label.width).astype(np.uint8))
        picture.putpalette([part for i in used.tolist() for part in (20 * i % 256, 90 * i % 256, 255 - i)])
        picture.save(path)


def copy(root, source, target):
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(pick(root, source), root / target)


def leak(root):
    path = pick(root, "val_img/*.jpg")
    shutil.copy(pick(root, "train_img/*.jpg"), path)


def same_name(root):
    path = pick(root, "train_img/*.jpg")
    shutil.copy(path, path.with_suffix(".png"))


def renamed(root):
    for path in root.glob("*_label/*.png"):
        path.rename(path.with_name(f"{path.stem}_mask.png"))


def further_in(root):
    (root / "download").mkdir()
    for name in ("gtFine", "leftImg8bit"):
        (root / name).rename(root / "download" / name)


def deep_photo(root):
    path = pick(root, "train_img/*.jpg")
    path.unlink()
    Image.fromarray(np.full((72, 80), 40000, np.uint16)).save(path.with_suffix(".png"))


def one_split(root):
    for kind in ("maps", "photos"):
        for path in (root / kind / "train").iterdir():
            path.rename(root / kind / path.name)
        shutil.rmtree(root / kind / "train")
        shutil.rmtree(root / kind / "val")


# Preset, how it is broken, further options, code, what the printed report must say of it.
PLANTED = [
    ("coco_stuff", lambda r: drop(r, "train_img/*.jpg"), [], "label_without_photo",
     r"have no photo of the same name \(1 of 4 files\)\n  \S+train_label/000000000001\.png\n  -> Files are paired"),
    ("coco_stuff", lambda r: drop(r, "train_label/*.png"), [], "photo_without_label", r"train_img/000000000001\.jpg"),
    ("coco_stuff", renamed, [], "label_without_photo",
     r"differ alike, as 000000000001_mask and 000000000001 do: rename one kind"),
    ("coco_stuff", lambda r: drop(r, "train_inst/*.png"), [], "label_without_instance", r"make the missing ones"),
    ("coco_stuff", lambda r: drop(r, "train_inst"), [], "no_instances", r"train_inst holds none\n  -> .*--no_instance"),
    ("coco_stuff", lambda r: drop(r, "train_img"), [], "no_photos", r"train_img holds none"),
    ("coco_stuff", lambda r: drop(r, "val_img"), [], "maps_alone", r"val_img holds none"),
    ("coco_stuff", lambda r: drop(r, "train_label"), [], "no_labels", r"train_label is not there"),
    ("coco_stuff", same_name, [], "layout", r"000000000001\.png have the same name|000000000001\.jpg have the same"),
    ("coco_stuff", lambda r: edit(r, "train_label/*1.png", lambda a: a[:64]), [], "photo_size",
     r"photo 80x72, label map 80x64\n.*nearest neighbour"),
    ("coco_stuff", turned, [], "turned_size",
     r"photo 72x80, label map 80x72, EXIF orientation 6\n  -> .*turn the photo's pixels.*exiftran.*do not scale"),
    ("coco_stuff", lambda r: (r / "train_img" / "more.gif").write_bytes(b"") and None, [], "not_read",
     r"not read, for their suffix\n  1 \.gif in \S+train_img \(image\)\n  -> Photos are \.jpg"),
    ("coco_stuff", transparent, [], "transparent", r"laid on white \(1 of 4 files\)\n  \S+img/0+1\.png\n"),
    ("facades", renumbered, [], "encodings_differ",
     r"contradict each other \(3 of 4 files\)\n  \S+2\.png: palette index \d+ is #\w+ here and #\w+ in \S+1\.png\n"
     r"(.*\n)+  -> Optimisers .*--palette"),
    ("coco_stuff", lambda r: pick(r, "train_label/*.png").write_bytes(b"P4\n80 72\n" + bytes(720)) and None, [],
     "map_format", r"does not tell the ids.*\n  \S+1\.png: a PBM, where 1 is black.*\n  -> .*8-bit or 16-bit grey PNG"),
    ("coco_stuff", lambda r: edit(r, "train_inst/*1.png", lambda a: a[:, :64]), [], "instance_size",
     r"instance map 64x72, label map 80x72"),
    ("coco_stuff", lambda r: edit(r, "train_label/*1.png", lambda a: np.where(a == 17, 200, a).astype(np.uint8)), [],
     "foreign_ids",
     r"expected 0\.\.181 and 255 \(label_nc 182\); all maps hold 0, 17, 91, 156, 181, 200, 255\n  \S+1\.png: id 200"),
    ("coco_stuff", sound, ["--contain_dontcare_label", "false"], "undeclared_unknown",
     r"%.*of the pixels\n(.*\n)+  -> If 255 means unlabelled, train with --contain_dontcare_label true"),
    ("ade20k", full_ade20k, [], "layout", r"full ADE20K release; SPADE uses .*ADEChallengeData2016\.zip"),
    ("ade20k", lambda r: edit(r, "*/annotations/*/*.png", lambda a: (a - 1).astype(np.uint8)), [], "shifted_ade20k",
     r"ids lowered by 1 .*\n  the maps hold 0, 12, 149, 255\n  -> Take the maps of ADEChallengeData2016\.zip"),
    ("cityscapes", train_ids, [], "train_ids", r"Cityscapes trainIds.*\n.*0, 2, 10..11, 13, 18, 255\n.*_labelIds\.png"),
    ("custom", camvid, ["--label_nc", "11", "--contain_dontcare_label", "false"], "foreign_ids",
     r"where 11 means unlabelled, --label_nc 11 --contain_dontcare_label true\n(.*\n)+.*id 11\n(.*\n)+.*unknown_ids"),
    ("custom", lambda r: camvid(r, [*range(11), 255]), ["--label_nc", "11", "--unknown_ids", "0"], "foreign_ids",
     r"train with --label_nc 11 --unknown_ids 0,255\n(.*\n)+.*expected 0\.\.10 and 0 \(label_nc 11\)(.*\n)+.*id 255\n"),
    ("custom", lambda r: camvid(r, [0] * 12), ["--label_nc", "11", "--unknown_ids", "0"], "all_unknown", r"1\.png"),
    ("cityscapes", lambda r: edit(r, "gtFine/*/*/*_instanceIds.png", lambda a: a.astype(np.uint8)), [],
     "byte_instances", r"have 8 bits, where Cityscapes' have 16.*\n.*highest id 2\d\d"),
    ("cityscapes", lambda r: edit(r, "gtFine/train/*/*_instanceIds.png", lambda a: a[::-1].copy()), [],
     "alien_instances", r"do not belong to their label maps.*\n.*pixels disagree"),
    ("cityscapes", further_in, [], "no_labels", r"it seems to be further in: give --dataroot \S+/download"),
    ("coco_stuff", lambda r: edit(r, "*_label/*.png", lambda a: np.where(a == 255, 0, a + 1).astype(np.uint8)), [],
     "shifted_coco",
     r"182 is wood.*\n.*\n.*181 is wood.*--unknown_ids 182"),
    ("coco_stuff", lambda r: edit(r, "*_label/*.png", lambda a: np.where(a < 91, 183, a).astype(np.uint8)), [],
     "pixelmaps", r"stuff_\*_pixelmaps.*\n.*\n  -> Take those of stuffthingmaps_trainval2017\.zip"),
    ("custom", sound, ["--palette", ""], "colour_maps",
     r"hold colours in place of class ids.*\n.*\n.*\n.*\n.*\n  -> .*--palette"),
    ("custom", lambda r: reword(r, "3 107 142 35 tree\n", ""), [], "foreign_colours",
     r"colour \(107, 142, 35\) at x \d+, y \d+ is not in \S+palette\.txt"),
    ("custom", sound, ["--label_nc", "3"], "foreign_ids",
     r"id 3\n(.*\n)+ids found +0\.\.3: train with --label_nc 4|--label_nc 4 (.*\n)+.*id 3"),
    ("coco_stuff", jpeg_label, [], "jpeg_maps", r"maps are JPEG files \(1 of 4 files\)"),
    ("coco_stuff", smoothed, [], "speckled", r"scaling with smoothing.*\n(.*\n)+?.*differ from all their neighbours"),
    ("coco_stuff", lambda r: pick(r, "train_img/*.jpg").write_bytes(b"") and None, [], "unreadable",
     r"1\.jpg: cannot be read \(the file is empty\)\n  -> They are damaged"),
    ("coco_stuff", lambda r: cut(r, "train_label/*.png"), [], "unreadable", r"1\.png: cannot be read as a picture"),
    ("coco_stuff", lambda r: cut(r, "train_inst/*.png", 0.8), [], "unreadable", r"train_inst/0+1\.png: cannot be read"),
    ("facades", deep_photo, [], "photo_depth", r"more than 8 bits a channel"),
    ("facades", leak, [], "leaked",
     r"same photos are in train and val \(1 of 2 files\)\n  \S+val_img\S+ is train's \S+"),
    ("camvid", lambda r: copy(r, "train/*1.png", "test/0001TP_002002.png"), [], "leaked_to_test",
     r"photos of the test split are in train or val too \(1 of 3 files\)\n  \S+test/\S+2\.png: is train's \S+train/"),
    ("facades", lambda r: copy(r, "val_img/*1.jpg", "test_img/7.jpg"), [], "leaked_to_test",  # without any map
     r"are in train or val too \(1 file\)\n  \S+test_img/7\.jpg: is val's \S+val_img/"),
    ("facades", lambda r: copy(r, "train_img/*1.jpg", "train_img/cmp_b0002.jpg"), [], "twins",
     r"more than once \(1 of 4"),
    ("custom", one_split, [], "one_split", r"subfolders train and val"),
    ("coco_stuff", lambda r: edit(r, "train_label/*.png", lambda a: np.where(a > 17, 255, a).astype(np.uint8)), [],
     "much_unknown", r"most pixels are unlabelled\n  \d\d% of all pixels"),
    ("coco_stuff", lambda r: edit(r, "train_label/*1.png", lambda a: np.full_like(a, 255)), [], "all_unknown",
     r"1\.png"),
    ("ade20k", lambda r: edit(r, "*/annotations/training/*1.png", lambda a: a * 0), [], "all_unknown", r"1\.png"),
    ("facades", lambda r: edit(r, "train_label/*.png", lambda a: a * 0), [], "one_class", r"single id\n  id 0\n"),
    ("coco_stuff", lambda r: edit(r, "*_inst/*.png", lambda a: a * 0), [], "flat_instances",
     r"no instance map has any"),
    ("coco_stuff", lambda r: [shutil.copytree(r / f"{s}_label", r / f"{s}_inst", dirs_exist_ok=True) for s in
                              ("train", "val")] and None, [], "copied_instances", r"copies of the label maps"),
    ("coco_stuff", sound, ["--preprocess_mode", "crop", "--crop_size", "128"], "too_small", r"80x72 after scal"),
    ("coco_stuff", sound, ["--preprocess_mode", "none"], "wrong_size", r"generator makes 256x256\n.*64x64 after"),
    ("facades", sound, ["--batchSize", "8"], "too_few", r"4 pictures, batchSize 8"),
    ("facades", lambda r: edit(r, "val_label/*.png", lambda a: a * 0), [], "new_classes", r"never in train\n  unknown"),
    ("coco_stuff", lambda r: drop(r, "val_label"), [], "no_validation", r"val_label is not there"),
    ("facades", lambda r: turned(r, "val_img/*.jpg", 3, Image.Transpose.ROTATE_180), [], "turned",
     r"img/\S+: orientation 3\n(.*\n)+.*; 1 warning\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    "name, broken, options, code, words", PLANTED, ids=[f"{p[3]}-{i}" for i, p in enumerate(PLANTED)]
)
def test_planted_faults_are_found_and_explained(check, name, broken, options, code, words):
    status, out, report = check(name, broken, "--sheet_pictures", 0, *options)
    assert code in codes(report), out
    assert status == int(any(Finding(c, "").stops for c in codes(report))) == int(report["stops"])
    level = "FAULT" if Finding(code, "").stops else "warning"
    assert re.search(rf"^{level} {code} \((train|val|test|both)\): ", out, re.M) and re.search(words, out), out
    assert "Traceback" not in out


def test_every_fault_that_can_be_named_is_planted_above():
    assert set(FAULTS) - {p[3] for p in PLANTED} == {"instance_without_label"}


@pytest.mark.parametrize(("options", "found"), [([], {"shifted_coco"}), (["--unknown_ids", "182"], set())])
def test_182_is_unlabelled_where_the_options_say_so(check, options, found):
    def broken(root):
        edit(root, "*_label/*.png", lambda a: np.where(a == 255, 182, a).astype(np.uint8))

    assert codes(check("coco_stuff", broken, *options)[2]) == found


def test_no_options_are_suggested_for_ids_that_an_optimiser_renumbered(check):
    def broken(root):
        for number, path in enumerate(sorted((root / "maps").glob("*/*.png"))):
            picture = Image.new("P", (80, 72))
            picture.putpalette([number, 9, 200, 7, 7, number])
            picture.save(path)

    status, out, _ = check("custom", broken, "--palette", "")
    assert status == 1 and "FAULT encodings_differ" in out and "ids found" not in out and "--label_nc" not in out


def test_several_faults_at_once(check):
    def broken(root):
        drop(root, "train_label/*.png")
        (root / "val_inst" / "lonely.png").write_bytes(b"")
        path = pick(root, "val_label/*.png")
        with Image.open(path) as label:
            label.convert("CMYK").save(path, "TIFF")

    status, out, report = check("coco_stuff", broken)
    assert codes(report) == {"photo_without_label", "instance_without_label", "map_format"} and status == 1
    assert "FAULT instance_without_label (val)" in out and "a map of mode CMYK" in out
    assert out.count("FAULT") == 4 and "4 faults would stop or spoil a training run" in out


def test_warnings_count_as_faults_where_that_is_wished(check):
    for options, status in ((), 0), (("--strict",), 1):
        assert check("facades", lambda root: drop(root, "val_label"), *options)[0] == status


# The command line


def test_as_a_program_with_two_processes(tmp_path):
    given = made.coco_stuff(tmp_path / "data", train=12)
    cut(tmp_path / "data", "train_img/*7.jpg")
    words = [ROOT / "tools" / "check_dataset.py", "coco_stuff", *given, "--report_dir", "out"]
    reports = []
    for processes in ("1", "2"):
        done = python(*words, "--processes", processes, cwd=tmp_path, status=1)
        assert "FAULT unreadable (train)" in done.stdout
        assert "12/12" in done.stderr and "pictures/s" in done.stderr
        report = json.loads((tmp_path / "out" / "coco_stuff.json").read_text())
        reports.append({k: v for k, v in report.items() if k != "seconds"})
    assert reports[0] == reports[1]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["coco_stuff.jpg", "coco_stuff.json"]
    assert refused(*words, "--label_mc", 3, cwd=tmp_path) == "unknown option --label_mc; did you mean --label_nc?"


def test_a_part_of_the_pictures_evenly_spread(check, tmp_path):
    _, _, report = check("coco_stuff", sound, "--max_pictures", "3", "--phase", "train", "--sheet_pictures", 0)
    assert list(report["splits"]) == ["train"] and report["splits"]["train"]["pictures"] == 3
    assert not (tmp_path / "out" / "coco_stuff.jpg").exists()


def test_mistakes_on_the_command_line(check):
    refuses("--processes 0 is too small: expected at least 1", check, "coco_stuff", sound, "--processes", "0")
    refuses("palette file", check, "custom", lambda root: (root / "palette.txt").unlink())
