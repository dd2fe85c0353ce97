"""Files are written whole or not at all, with the permissions and messages that users expect."""

import os
import stat

import pytest
from common import files_up_to, refuses

from model import files
from model.errors import UserError
from model.files import remove_leftovers, replacing, told_size


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_takes_its_place_at_the_end(tmp_path, sync):
    path = tmp_path / "new" / "file.txt"
    umask = os.umask(0o027)
    try:
        with replacing(path, sync) as temporary:
            temporary.write_text("whole")
            assert temporary.parent == path.parent and not path.exists()
    finally:
        os.umask(umask)
    assert path.read_text() == "whole" and os.listdir(path.parent) == ["file.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_what_the_system_refuses_is_told_with_the_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    refuses(r"cannot write .*/file.txt/a: .*; check the space and the permissions", replacing(path / "a").__enter__)
    with files_up_to(1), pytest.raises(UserError, match=r"cannot write .*/file.txt: File too large"):
        with replacing(path, sync=True) as temporary:
            temporary.write_text("new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("name", ["n" * 255, "\u8857" * 85, "\udcbd" * 255])
def test_names_may_be_as_long_as_the_system_allows(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("new")
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(UserError, match="name too long; check"), replacing(tmp_path / f"{name}ab") as temporary:
        temporary.write_text("new")
    assert os.listdir(tmp_path) == [name]


def test_links_are_followed_but_never_around(tmp_path):
    for folder in ("set/a/b", "elsewhere/c", "twice"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").touch()
    for link, target in (
        ("set/up", "set"), ("set/a/b/above", "."), ("set/out", "elsewhere"), ("elsewhere/c/back", "set/a"),
        ("set/t1", "twice"), ("set/t2", "twice"), ("set/.hidden", "twice"), ("set/lost", "nowhere"),
        ("set/self", "set/self"),
    ):  # fmt: skip
        (tmp_path / link).symlink_to(tmp_path / target)
    found = [os.path.join(inside, name) for inside, _, names in files.walk(tmp_path / "set") for name in names]
    assert sorted(name for name in found if name.endswith(".png")) == [
        "a/b/1.png", "out/c/1.png", "out/c/back/b/1.png", "t1/1.png", "t2/1.png",
    ]  # fmt: skip
    assert list(files.walk(tmp_path / "missing")) == []


def test_the_caller_of_walk_leaves_folders_out(tmp_path):
    for folder in ("a/b", "c"):
        (tmp_path / folder).mkdir(parents=True)
    seen = []
    for inside, folders, _ in files.walk(tmp_path):
        seen.append(inside)
        folders[:] = [name for name in folders if name != "a"]
    assert seen == ["", "c"]


def test_only_old_leftovers_are_removed(tmp_path):
    for name in (".a.png.1.tmp", ".b.png.2.tmp", "c.tmp", ".d"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / ".b.png.2.tmp").touch()
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".b.png.2.tmp", ".d", "c.tmp"]
    remove_leftovers(tmp_path / "missing")


def test_sizes_for_people():
    told = [told_size(size) for size in (0, 999, 1000, 1.25e6, 21.3e9)]
    assert told == ["0 bytes", "999 bytes", "1.0 kB", "1.2 MB", "21.3 GB"]
