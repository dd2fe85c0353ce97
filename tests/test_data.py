"""Files to batches: geometry against closed forms, every kind of file, pairing, sampling, workers."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import official_layouts as made
import pytest
from common import ROUNDING, refuses, same, save
from PIL import Image

from model.data.dataset import PhotoMaps, evenly
from model.data.loader import BatchSampler, Loader, make_loader
from model.data.preprocess import crop_and_flip, scaled_size, transform
from model.errors import UserError
from model.options import OPT, PREPROCESS_MODES

USUAL = dict(crop_size=64, load_size=72, batchSize=2, label_nc=182, modulation="dense", nThreads=0)


def make_opt(**changes):
    return OPT(**{**USUAL, **changes})


def coordinates(width, height):
    """A 16-bit map whose id at (x, y) is 256 y + x: it shows where each pixel of the result comes from."""
    assert width <= 256 and height <= 256
    return Image.fromarray((np.arange(height)[:, None] * 256 + np.arange(width)).astype(np.uint16))


def write_set(root: Path, count=5, phase="train", size=(80, 60), photos=True, instances=True):
    rng = np.random.default_rng(3)
    for i in range(count):
        shape = size[::-1]
        if photos:
            save(root / f"{phase}_img" / f"p{i}.jpg", rng.integers(0, 256, (*shape, 3), np.uint8))
        label = np.full(shape, i, np.uint8)
        label[:, : size[0] // 2] = 255
        save(root / f"{phase}_label" / f"p{i}.png", label)
        if instances:
            save(root / f"{phase}_inst" / f"p{i}.png", label // 2)
    return root


# Geometry


@pytest.mark.parametrize(
    "mode, size, scaled",
    [
        ("resize_and_crop", (200, 100), (72, 72)),
        ("crop", (200, 100), (200, 100)),
        ("scale_width", (200, 101), (72, 36)),  # int(36.36)
        ("scale_width_and_crop", (100, 199), (72, 143)),  # int(143.28)
        ("fixed", (200, 100), (64, 64)),
        ("none", (200, 100), (192, 96)),
        ("none", (80, 112), (64, 128)),  # 2.5 and 3.5 round to even
        ("none", (48, 49), (64, 64)),  # 1.5 rounds to 2
        ("scale_shortside", (200, 100), (144, 100)),  # the quirk: the short side stays as it is
        ("scale_shortside", (100, 201), (100, 144)),
        ("scale_shortside", (72, 90), (72, 90)),
        ("scale_shortside", (90, 72), (90, 72)),
        ("scale_shortside_and_crop", (100, 100), (100, 72)),
    ],
)
def test_scaled_size_follows_the_released_code(mode, size, scaled):
    assert scaled_size(size, make_opt(preprocess_mode=mode)) == scaled


def test_fixed_rounds_the_height():
    assert scaled_size((9, 9), make_opt(preprocess_mode="fixed", crop_size=512, aspect_ratio=2.0)) == (512, 256)
    assert scaled_size((9, 9), make_opt(preprocess_mode="fixed", crop_size=64, aspect_ratio=1.5)) == (64, 43)


@pytest.mark.parametrize("mode", PREPROCESS_MODES)
@pytest.mark.parametrize("flip", [False, True])
def test_maps_come_from_the_nearest_pixel(mode, flip):
    opt = make_opt(preprocess_mode=mode, label_nc=65535, contain_dontcare_label=False)
    width, height = 150, 106
    x, y = 5, 3
    image, label, instance = transform(None, coordinates(width, height), coordinates(width, height), opt, (x, y), flip)
    sw, sh = scaled_size((width, height), opt)
    columns, rows = ((np.arange(n) + 0.5) * size / n for n, size in ((sw, width), (sh, height)))
    expected = np.floor(rows)[:, None] * 256 + np.floor(columns)
    if "crop" in mode:
        expected = np.pad(expected, ((0, 64), (0, 64)))[y : y + 64, x : x + 64]
    if flip:
        expected = expected[:, ::-1]
    assert image is None
    assert label.dtype == np.int64 and instance.dtype == np.int32
    np.testing.assert_array_equal(label, expected)
    np.testing.assert_array_equal(instance, expected)


def test_photos_are_bicubic_and_normalised():
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (50, 90, 3), np.uint8))
    label = Image.new("L", photo.size)
    image, _, _ = transform(photo, label, None, make_opt(), (2, 7), True)
    by_hand = np.asarray(photo.resize((72, 72), Image.Resampling.BICUBIC))[7:71, 2:66][:, ::-1].transpose(2, 0, 1)
    assert image.dtype == np.float32 and image.flags.c_contiguous
    np.testing.assert_allclose(image, by_hand / 127.5 - 1, atol=ROUNDING / 10)
    whole = make_opt(preprocess_mode="scale_width", load_size=1)
    ends, _, _ = transform(Image.new("RGB", (1, 1), (0, 255, 0)), Image.new("L", (1, 1)), None, whole)
    assert ends.ravel().tolist() == [-1, 1, -1]


def test_crops_beyond_the_picture_are_zero():
    opt = make_opt(preprocess_mode="crop")
    photo = Image.new("RGB", (40, 30), (255, 255, 255))
    image, label, instance = transform(photo, Image.new("L", (40, 30), 9), Image.new("L", (40, 30), 8), opt, (10, 0))
    assert label.shape == (64, 64) and (label[:30, :30] == 9).all() and label[:, 30:].sum() == label[30:].sum() == 0
    assert (instance[:30, :30] == 8).all() and instance[30:].sum() == 0
    assert (image[:, :30, :30] == 1).all() and (image[:, 30:] == -1).all()


def test_without_instance_maps_edges_run_where_classes_meet(tmp_path):
    """Not between two ids that both mean unlabelled."""
    ids = np.tile(np.repeat([0, 255, 5, 12], 16), (64, 1)).astype(np.uint8)
    save(tmp_path / "val_label" / "p.png", ids)
    opt = make_opt(dataroot=str(tmp_path), preprocess_mode="none", label_nc=12, unknown_ids="0,255")
    example = PhotoMaps(opt, "val")[0]
    assert example["label"][0, ::16].tolist() == [12, 12, 5, 12]
    assert example["instance"].dtype == np.int32
    np.testing.assert_array_equal(example["instance"], example["label"])


def test_a_picture_that_vanishes_is_refused():
    opt = make_opt(preprocess_mode="none")
    refuses("10x100 becomes 0x96", transform, None, Image.new("L", (10, 100)), None, opt)


# Random choices


@pytest.mark.parametrize("mode", ["resize_and_crop", "crop", "scale_width_and_crop", "scale_shortside_and_crop"])
def test_random_crops_stay_inside(mode):
    opt = make_opt(preprocess_mode=mode)
    size = (130, 95)
    drawn = [crop_and_flip(opt, size, 1 + i // 100, i) for i in range(400)]
    width, height = scaled_size(size, opt)
    xs, ys = np.array([pos for pos, _ in drawn]).T
    assert xs.min() == 0 and xs.max() == max(0, width - 64)
    assert ys.min() == 0 and ys.max() == max(0, height - 64)
    assert 150 < sum(flip for _, flip in drawn) < 250
    assert not any(crop_and_flip(replace(opt, no_flip=True), size, 1, i)[1] for i in range(50))


def test_random_choices_depend_on_seed_epoch_and_index_alone():
    opt = make_opt(preprocess_mode="crop")
    size = (4000, 4000)
    first = crop_and_flip(opt, size, 2, 7)
    np.random.seed(5)
    assert crop_and_flip(opt, size, 2, 7) == first
    for other in ((replace(opt, seed=1), size, 2, 7), (opt, size, 3, 7), (opt, size, 2, 8)):
        assert crop_and_flip(*other)[0] != first[0]


# Kinds of files


@pytest.mark.parametrize("mode, suffix", [("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("1", "png")])
def test_photos_of_every_mode_become_rgb(tmp_path, mode, suffix):
    write_set(tmp_path, 1, instances=False)
    (tmp_path / "train_img" / "p0.jpg").unlink()
    photo = Image.new("RGB", (80, 60), (255, 255, 255)).convert(mode)
    photo.save(tmp_path / "train_img" / f"p0.{suffix}")
    image = PhotoMaps(make_opt(dataroot=str(tmp_path), no_instance=True))[0]["image"]
    assert image.shape == (3, 64, 64) and image.min() > 0.97


def test_16_bit_and_colour_coded_instances_stay_distinct(tmp_path):
    write_set(tmp_path, 1)
    opt = make_opt(dataroot=str(tmp_path), preprocess_mode="none")
    ids = np.tile(np.array([24000, 24001, 26255, 7], np.int32), (60, 20))
    Image.fromarray(ids.astype(np.uint16)).save(tmp_path / "train_inst" / "p0.png")
    assert set(np.unique(PhotoMaps(opt)[0]["instance"])) == {7, 24000, 24001, 26255}
    coded = np.stack([ids % 256, ids // 256, ids * 0], -1).astype(np.uint8)
    Image.fromarray(coded).save(tmp_path / "train_inst" / "p0.png")
    assert set(np.unique(PhotoMaps(opt)[0]["instance"])) == {7, 24000, 24001, 26255}


@pytest.mark.parametrize("folder, name", [("img", "p1.jpg"), ("label", "p1.png"), ("inst", "p1.png")])
@pytest.mark.parametrize("keep", [0, 20, 0.6])
def test_damaged_files_are_named(tmp_path, folder, name, keep):
    write_set(tmp_path, 2)
    path = tmp_path / f"train_{folder}" / name
    if folder != "img":  # a map with some content, so that a part of it is less than the whole
        noise = np.random.default_rng(0).integers(0, 100, (60, 80), np.uint8)
        Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    opt = make_opt(dataroot=str(tmp_path))
    refuses(rf"train_{folder}/{name}: cannot be read", lambda: PhotoMaps(opt)[1])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("most, words", [(80 * 60 - 1, "80x60 pixels"), (1000, "refused")])
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, most, words):
    data = PhotoMaps(make_opt(dataroot=str(write_set(tmp_path, 1))))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    refuses(rf"p0\.png: {words}", lambda: data[0])


def test_ids_out_of_range_are_told_with_their_file(tmp_path):
    data = PhotoMaps(make_opt(dataroot=str(write_set(tmp_path, 5)), label_nc=3))
    refuses(r"p4\.png: label id 4 is outside 0\.\.2 and 255 .*label_nc.*at least 5", lambda: data[4])
    assert data[3]["label"].max() == 3  # the channel of 'unknown' itself


def test_different_sizes_are_told(tmp_path):
    data = PhotoMaps(make_opt(dataroot=str(write_set(tmp_path, 1))))
    Image.new("RGB", (60, 80)).save(tmp_path / "train_img" / "p0.jpg")
    refuses(r"photo \S+p0\.jpg 60x80, label \S+p0\.png 80x60, instance \S+p0\.png 80x60", lambda: data[0])


# Layouts and pairing


def test_coco_stuff_pairs_by_stem_and_adds_portraits(tmp_path):
    write_set(tmp_path, 12)
    write_set(tmp_path / "x", 2)
    for folder in ("img", "label", "inst"):
        os.rename(tmp_path / "x" / f"train_{folder}", tmp_path / f"train_{folder}_portrait")
    dataset = PhotoMaps(make_opt(dataroot=str(tmp_path)))
    assert len(dataset) == 14
    names = dataset.names(range(14))
    assert names == [f"p{i}" for i in range(12)] + ["p0", "p1"]
    portraits = [["portrait" in path for path in (i.label, i.image, i.instance)] for i in dataset.items]
    assert portraits == [[False] * 3] * 12 + [[True] * 3] * 2
    assert len(PhotoMaps(make_opt(dataroot=str(tmp_path), max_dataset_size=3))) == 3


def test_missing_partners_are_listed_in_both_directions(tmp_path):
    opt = make_opt(dataroot=str(write_set(tmp_path, 9)))
    for i in range(7):
        (tmp_path / "train_img" / f"p{i}.jpg").rename(tmp_path / "train_img" / f"q{i}.jpg")
    said = refuses(r"7 of 9 label maps without photo \(p0, p1, p2, p3, p4, p5, p6\) and ", PhotoMaps, opt)
    assert "and 7 of 9 photos without label map (q0, q1" in said and " whole list" in said
    (tmp_path / "train_inst" / "p8.png").unlink()
    (tmp_path / "train_img").rename(tmp_path / "val_img")
    refuses("9 of 9 label maps without photo .*p7 and 1 more.*; .*1 of 9 label maps without i", PhotoMaps, opt)


def test_a_label_map_saved_as_jpeg_is_named(tmp_path):
    write_set(tmp_path, 2)
    folder = tmp_path / "train_label"
    Image.open(folder / "p1.png").save(folder / "p1.jpg")
    (folder / "p1.png").unlink()
    with pytest.raises(
        UserError, match=r"without label map \(p1; .*train_label holds it as JPEG, which cannot hold ids"
    ):
        PhotoMaps(make_opt(dataroot=str(tmp_path)))


@pytest.mark.parametrize("mode", ["none", "scale_shortside"])
def test_training_pictures_of_another_size_than_the_generator_s(tmp_path, mode):
    write_set(tmp_path, 1, size=(96, 64))
    opt = make_opt(dataroot=str(tmp_path), load_size=64, preprocess_mode=mode)
    data = PhotoMaps(opt)
    refuses(rf"p0\.png: preprocess_mode {mode} makes it 96x64 .*generator's .* 64x64", lambda: data[0])
    assert PhotoMaps(opt, "train", "val")[0]["label"].shape == (64, 96)


def test_missing_instance_maps_are_told_with_the_option_to_do_without(tmp_path):
    write_set(tmp_path, 3, instances=False)
    refuses("3 of 3 label maps without instance map .*--no_instance", PhotoMaps, make_opt(dataroot=str(tmp_path)))
    assert "instance" not in PhotoMaps(make_opt(dataroot=str(tmp_path), no_instance=True))[0]


@pytest.mark.parametrize(
    "phase, words",
    [
        ("val", "val_label is not a folder"),
        ("test", "test_label is not a folder"),
        ("tset", "phase 'tset' is unknown: expected one of train, val, test"),
    ],
)
def test_a_phase_without_a_folder_is_told(tmp_path, phase, words):
    refuses(words, PhotoMaps, make_opt(dataroot=str(write_set(tmp_path, 1))), phase)


def test_validation_needs_no_photos_and_chooses_nothing_at_random(tmp_path):
    write_set(tmp_path, 2, phase="val", photos=False)
    opt = make_opt(dataroot=str(tmp_path))
    dataset = PhotoMaps(opt, "val")
    assert sorted(dataset[0]) == ["index", "instance", "label", "name"]
    assert dataset.opt.load_size == 64 and opt.load_size == 72
    for index in range(2):
        np.testing.assert_array_equal(dataset[1, index]["label"], dataset[9, index]["label"])
    label = dataset[1]["label"]
    assert (label[:, :32] == 182).all() and (label[:, 32:] == 1).all()  # squashed whole, not mirrored
    central = PhotoMaps(replace(opt, preprocess_mode="crop", crop_size=32), "val")[1]["label"]
    assert (central[:, :16] == 182).all() and (central[:, 16:] == 1).all()
    write_set(tmp_path, 2, phase="test", photos=False)  # read as the split for validation is
    np.testing.assert_array_equal(PhotoMaps(opt, "test")[9, 1]["label"], label)


def save_pair(label: Path, photo: Path, value):
    save(label, np.full((60, 80), value, np.uint8))
    save(photo, np.zeros((60, 80, 3), np.uint8))


def test_ade20k_keeps_its_ids(tmp_path):
    made.ade20k(tmp_path)
    for dataroot in (tmp_path, tmp_path / "ADEChallengeData2016"):
        opt = OPT.from_preset("ade20k", dataroot=str(dataroot), preprocess_mode="none")
        assert set(np.unique(PhotoMaps(opt, "train", "val")[0]["label"])) == {0, 1, 13, 150}
    refuses("ade20k has no instance maps.*no_instance", PhotoMaps, replace(opt, no_instance=False))


def test_custom_folders_with_and_without_splits(tmp_path):
    save_pair(tmp_path / "maps" / "a.png", tmp_path / "photos" / "a.jpg", 1)
    opt = make_opt(
        dataset_mode="custom", label_dir=str(tmp_path / "maps"), image_dir=str(tmp_path / "photos"), no_instance=True
    )
    assert PhotoMaps(opt).names([0]) == PhotoMaps(opt, "val").names([0]) == ["a"]
    save(tmp_path / "maps" / "val" / "b.png", np.full((60, 80), 2, np.uint8))
    assert PhotoMaps(replace(opt, image_dir=""), "val").names([0]) == ["b"]
    refuses("image_dir", PhotoMaps, replace(opt, image_dir=""))


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P", "ids"])
def test_coloured_label_maps_are_read_by_their_palette(tmp_path, kind):
    write_set(tmp_path, 1, size=(64, 64), instances=False)
    (tmp_path / "palette.txt").write_text("0 0 0 0\n5 128 64 128\n255 9 9 9\n")
    ids = np.tile(np.array([0, 5, 255, 5], np.uint8), (64, 16))
    colours = np.array([[0, 0, 0], [128, 64, 128], [9, 9, 9]], np.uint8)[np.select([ids == 0, ids == 5], [0, 1], 2)]
    coloured = Image.fromarray(colours)
    stored = {"RGB": coloured, "RGBA": coloured.convert("RGBA"), "P": coloured.quantize(5), "ids": Image.fromarray(ids)}
    stored[kind].save(tmp_path / "train_label" / "p0.png")
    opt = make_opt(dataroot=str(tmp_path), no_instance=True, preprocess_mode="none", label_nc=6)
    label = PhotoMaps(replace(opt, palette=str(tmp_path / "palette.txt")))[0]["label"]
    np.testing.assert_array_equal(label[:, 1::2], 5)
    assert set(np.unique(label)) == {0, 5, 6}  # mirrored or not


def test_ids_of_a_data_set_of_one_s_own_are_looked_at_first(tmp_path):
    for i, value in enumerate((0, 1, 255, 9)):
        save_pair(tmp_path / "maps" / f"{i}.png", tmp_path / "photos" / f"{i}.jpg", value)
    folders = dict(label_dir=str(tmp_path / "maps"), image_dir=str(tmp_path / "photos"), no_instance=True)
    opt = make_opt(dataset_mode="custom", label_nc=7, **folders)
    message = r"maps: 4 of 4 label maps looked at hold the ids 0\.\.1, 9, 255, and label_nc 7 does not fit them: "
    refuses(message + "give --label_nc 10 --contain_dontcare_label true ", PhotoMaps, opt)
    assert len(PhotoMaps(replace(opt, label_nc=10))) == 4
    assert len(PhotoMaps(opt, "val")) == 4  # a checkpoint's options are not questioned, but each map when it is read


# Order and batches


def batches(size, opt, train=True, count=None, **where):
    sampler = BatchSampler(size, opt, train, **where)
    stream = iter(sampler)
    return [next(stream) for _ in range(count or len(sampler))]


def test_every_epoch_is_another_permutation_and_drops_the_tail():
    opt = make_opt(batchSize=3)
    first = batches(11, opt)
    assert len(first) == 3 and len({i for b in first for _, i in b}) == 9
    assert batches(11, opt) == first
    assert [i for _, i in batches(11, opt, epoch=2)[0]] != [i for _, i in first[0]]
    assert batches(11, replace(opt, seed=1)) != first
    assert batches(11, opt, count=6)[3:] == batches(11, opt, epoch=2)  # goes on by itself
    assert batches(6, replace(opt, serial_batches=True)) == [[(1, 0), (1, 1), (1, 2)], [(1, 3), (1, 4), (1, 5)]]
    refuses(r"2 training examples are fewer than one batch of 3 .*batchSize", BatchSampler, 2, opt, train=True)


def test_processes_share_the_global_batches():
    one = batches(29, make_opt(batchSize=6))
    ranks = [batches(29, make_opt(batchSize=2), rank=r, world=3) for r in range(3)]
    assert [a + b + c for a, b, c in zip(*ranks, strict=True)] == one


@pytest.mark.parametrize("size", [1, 5, 6, 8, 12, 13])
def test_validation_sees_every_index_once(size):
    opt = make_opt(batchSize=2)
    assert [i for b in batches(size, opt, train=False) for _, i in b] == list(range(size))
    ranks = [batches(size, opt, train=False, count=None, rank=r, world=3) for r in range(3)]
    assert sorted(i for rank in ranks for b in rank for _, i in b) == list(range(size))


def content(loader):
    return [{k: np.asarray(v) for k, v in batch.items()} for batch in loader]


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """Options of a data set of 7 pictures, and the 6 batches of its first two epochs."""
    opt = make_opt(dataroot=str(write_set(tmp_path_factory.mktemp("seven"), 7)), batchSize=2)
    with make_loader(opt, "train") as loader:
        return opt, content(loader) + content(loader)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_workers(seven, workers):
    opt, batches = seven
    state = np.random.get_state()[1].copy()
    with make_loader(replace(opt, nThreads=workers), "train") as loader:
        assert len(loader) == 3
        same(content(loader) + content(loader), batches)
        assert (loader.epoch, loader.position) == (3, 0)
    np.testing.assert_array_equal(state, np.random.get_state()[1])


def test_batches_have_the_documented_shapes_and_types(seven):
    found = {name: (array.shape, str(array.dtype)) for name, array in seven[1][0].items()}
    assert found["image"] == ((2, 3, 64, 64), "float32") and found["label"] == ((2, 64, 64), "uint8")
    assert found["instance"] == ((2, 64, 64), "int32") and found["index"] == ((2,), "int64")


@pytest.mark.parametrize("batch", [2, 3], ids=["in an epoch", "at its very end"])
def test_batches_go_on_where_a_checkpoint_was(seven, batch):
    opt, batches = seven
    with make_loader(opt, "train", epoch=1, start=batch) as loader:
        same((content(loader) + content(loader))[: 6 - batch], batches[batch:])


def test_an_epoch_that_was_left_goes_on(seven):
    opt, batches = seven
    with make_loader(opt, "train", epoch=2) as loader:
        for _ in loader:
            break
        assert (loader.epoch, loader.position) == (2, 1)
        same(content(loader), batches[4:])


@pytest.mark.parametrize("workers", [0, 2])
def test_validation_loader_is_one_ragged_pass_each_time(tmp_path, workers):
    write_set(tmp_path, 5, phase="val", photos=False)
    loader = make_loader(make_opt(dataroot=str(tmp_path), nThreads=workers), "val")
    for _ in loader:
        break
    for _ in range(2):
        passes = content(loader)
        assert [b["index"].tolist() for b in passes] == [[0, 1], [2, 3], [4]]
    assert len(loader) == 3 and loader.names(passes[2]) == ["p4"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_workers_error_is_one_line_and_stops_the_workers(tmp_path, workers):
    import multiprocessing

    write_set(tmp_path, 4)
    (tmp_path / "train_img" / "p2.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"^\S+p2\.jpg: cannot be read[^\n]*$"):
        content(make_loader(make_opt(dataroot=str(tmp_path), nThreads=workers), "train"))
    assert not multiprocessing.active_children()


def test_a_batch_of_different_sizes_is_told(tmp_path):
    write_set(tmp_path, 1)
    write_set(tmp_path / "x", 2, size=(90, 60))
    for path in (tmp_path / "x").rglob("p1.*"):
        path.rename(tmp_path / path.relative_to(tmp_path / "x"))
    opt = make_opt(dataroot=str(tmp_path), preprocess_mode="none")
    with pytest.raises(UserError, match=r"different sizes .*p\d \d+x64, p\d \d+x64.*batchSize 1"):
        content(Loader(PhotoMaps(opt, "train", "val"), opt))


@pytest.mark.parametrize(
    ("total", "count", "places"),
    [(101, 5, [0, 20, 40, 60, 80]), (3, 2, [0, 1]), (4, 4, [0, 1, 2, 3]), (2, 9, [0, 1]), (7, 1, [0])],
)
def test_maps_are_spread_evenly(total, count, places):
    assert evenly(range(total), count) == places
