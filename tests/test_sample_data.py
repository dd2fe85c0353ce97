"""The procedural data set: its conventions, its repeatability, and what is left after an interruption."""

import os
import time

import numpy as np
import pytest
from common import refuses
from PIL import Image

from model.data import sample
from model.data.palettes import class_names
from model.data.sample import ensure_sample, make_scene

THINGS = {"person": 0, "car": 2, "boat": 8, "sheep": 19}
STUFF = {
    "bush": 96, "clouds": 105, "door-stuff": 111, "fence": 112, "grass": 123, "hill": 126, "house": 127,
    "mountain": 134, "pavement": 139, "road": 148, "rock": 149, "roof": 150, "sand": 153, "sea": 154, "sky-other": 156,
    "tree": 168, "window-other": 180,
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(np.random.default_rng(i), size) for i, size in enumerate([(96, 128), (128, 96), (128, 128)] * 6)]


def test_ids_are_coco_stuffs(scenes):
    names = class_names("coco_stuff", 182)
    for name, i in (THINGS | STUFF).items():
        assert names[i] == name
    seen = set(np.unique(np.concatenate([label.ravel() for _, label, _ in scenes])).tolist())
    assert seen <= {*THINGS.values(), *STUFF.values(), 255}
    assert {0, 2, 8, 255} <= seen and len(seen) > 15


def test_shapes_and_types(scenes):
    for (photo, label, instance), size in zip(scenes, [(96, 128), (128, 96), (128, 128)] * 6, strict=True):
        assert photo.shape == (*size, 3) and label.shape == instance.shape == size
        assert photo.dtype == label.dtype == instance.dtype == np.uint8
        assert photo.std() > 15
        assert (label == 255).mean() < 0.1


def test_instance_map_starts_as_the_label_and_numbers_things_from_0(scenes):
    for _, label, instance in scenes:
        changed = instance != label
        assert set(np.unique(label[changed]).tolist()) <= {*THINGS.values(), 255}
        stuff = (label > 90) & (label < 255)
        assert (instance[stuff] == label[stuff]).all()
        numbers = np.unique(instance[np.isin(label, list(THINGS.values())) | changed])
        assert numbers.tolist() == list(range(len(numbers)))


def test_touching_persons_have_different_numbers():
    for seed in range(60):
        _, label, instance = make_scene(np.random.default_rng(seed), (128, 128))
        both = (label[:, 1:] == 0) & (label[:, :-1] == 0)
        if (instance[:, 1:] != instance[:, :-1])[both].any():
            return
    pytest.fail("no two touching persons with different instance numbers in 60 scenes")


def test_too_small_a_scene_is_a_user_error():
    refuses("at least 64x64", make_scene, np.random.default_rng(0), (32, 128))


def _files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def small(monkeypatch):
    """Smaller pictures, for speed: these tests are about files."""
    monkeypatch.setattr(sample, "_SIZES", ((64, 80), (80, 64)))


def test_files_pair_up_and_repeat(tmp_path, small):
    root = ensure_sample(tmp_path / "deep" / "a", seed=3, train=3, val=2)
    files = _files(root)
    assert len(files) == 3 * 5 + 1
    for split, n in (("train", 3), ("val", 2)):
        for i in range(n):
            photo = Image.open(root / f"{split}_img" / f"{split}_{i:05d}.jpg")
            label = Image.open(root / f"{split}_label" / f"{split}_{i:05d}.png")
            instance = Image.open(root / f"{split}_inst" / f"{split}_{i:05d}.png")
            assert (photo.mode, label.mode, instance.mode) == ("RGB", "L", "L")
            assert photo.size == label.size == instance.size
    assert files == _files(ensure_sample(tmp_path / "b", seed=3, train=3, val=2))
    assert files != _files(ensure_sample(tmp_path / "c", seed=4, train=3, val=2))
    assert files["train_label/train_00000.png"] != files["val_label/val_00000.png"]


def test_a_whole_set_is_not_written_again_and_a_damaged_or_other_one_is(tmp_path, small, monkeypatch):
    root = ensure_sample(tmp_path / "s", train=2, val=1)
    before = _files(root)
    made = []
    real = sample.make_scene
    monkeypatch.setattr(sample, "make_scene", lambda *args: made.append(1) or real(*args))
    ensure_sample(root, train=2, val=1)
    assert not made
    (root / "val_inst" / "val_00000.png").unlink()
    ensure_sample(root, train=2, val=1)
    assert len(made) == 3 and _files(root) == before
    ensure_sample(root, train=1, val=1)
    assert len(made) == 5 and len(_files(root)) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_an_interrupted_write_leaves_no_half_set(tmp_path, small, monkeypatch):
    real, calls = sample.make_scene, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(sample, "make_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_sample(tmp_path / "s", train=4, val=1)
    assert list(tmp_path.iterdir()) == []
    ensure_sample(tmp_path / "s", train=4, val=1)
    assert len(_files(tmp_path / "s")) == 16


def test_two_processes_at_once_end_with_one_whole_set(tmp_path, small, monkeypatch):
    real = sample._write_pictures

    def overtaken(root, folder, wanted):
        real(root, folder, wanted)
        monkeypatch.setattr(sample, "_write_pictures", real)
        ensure_sample(root, train=2, val=1)

    monkeypatch.setattr(sample, "_write_pictures", overtaken)
    root = ensure_sample(tmp_path / "s", train=2, val=1)
    assert len(_files(root)) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_what_a_killed_process_left_is_cleared_once_it_is_old(tmp_path, small):
    fresh, stale = tmp_path / ".s-unfinished-1", tmp_path / ".s-unfinished-2"
    for folder in (fresh, stale):
        (folder / "new" / "train_img").mkdir(parents=True)
    os.utime(stale, (time.time() - 4000,) * 2)
    ensure_sample(tmp_path / "s", train=1, val=1)
    assert fresh.exists() and not stale.exists()


def test_foreign_folders_are_user_errors(tmp_path, small):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"x")
    refuses("not the sample data set", ensure_sample, tmp_path / "mine", train=1, val=1)
    refuses("cannot be written", ensure_sample, tmp_path / "mine" / "photo.jpg" / "s", train=1, val=1)
