"""What ids mean: which become the unknown class, which are refused, and what is advised, as closed forms."""

import dataclasses

import numpy as np
import pytest
from common import refuses, save

from model.command_line import parse_train
from model.data.label_ids import (
    as_channels,
    check_ids,
    expected_ids,
    foreign_ids,
    id_ranges,
    reading,
    unknown_ids,
)
from model.errors import UserError
from model.options import OPT

# Options, ids of a map, the network's classes of them, and those of the ids that are foreign.
MEANINGS = {
    "255": (dict(label_nc=11), [0, 10, 255], [0, 10, 11], []),
    "behind the classes, CamVid": (dict(label_nc=11), [0, 10, 11], [0, 10, 11], []),
    "both": (dict(label_nc=11), [11, 255, 12, 254], [11, 11, 12, 254], [12, 254]),
    "0": (dict(label_nc=12, unknown_ids="0"), [0, 1, 11, 12, 255], [12, 1, 11, 12, 255], [255]),
    "0 and 255": (dict(label_nc=12, unknown_ids="0,255"), [0, 1, 11, 255], [12, 1, 11, 12], []),
    "amid the classes": (dict(label_nc=12, unknown_ids="7,3"), [2, 3, 7, 8], [2, 12, 12, 8], []),
    "label_nc, said outright": (dict(label_nc=11, unknown_ids="11"), [10, 11, 255], [10, 11, 255], [255]),
    "16 bits": (dict(label_nc=11, unknown_ids="40000"), [0, 40000, 255], [0, 11, 255], [255]),
    "256 classes": (dict(label_nc=256), [0, 255, 256, 65535], [0, 255, 256, 256], []),
    "255 classes": (dict(label_nc=255), [0, 254, 255], [0, 254, 255], []),
    "300 classes": (dict(label_nc=300, unknown_ids="255"), [255, 299, 300, 65535], [300, 299, 300, 65535], [65535]),
    "no such class": (dict(label_nc=11, contain_dontcare_label=False), [0, 10, 11, 255], [0, 10, 11, 255], [11, 255]),
    "ade20k": (dict(dataset_mode="ade20k", label_nc=150), [0, 1, 150, 151, 255], [0, 1, 150, 151, 0], [151]),
    "ade20k and more": (
        dict(dataset_mode="ade20k", label_nc=150, unknown_ids="9,150"), [0, 9, 150, 149], [0, 0, 0, 149], []
    ),
    "negative": (dict(label_nc=11), [-1, 0], [-1, 0], [-1]),
}  # fmt: skip


@pytest.mark.parametrize(("options", "ids", "classes", "foreign"), MEANINGS.values(), ids=MEANINGS)
def test_ids_become_the_unknown_class_or_stay(options, ids, classes, foreign):
    opt = OPT(**options)
    assert foreign_ids(ids, opt) == foreign
    for kind in (np.uint8, np.int32, np.int64):
        fitting = [(i, c) for i, c in zip(ids, classes, strict=True) if np.iinfo(kind).min <= i <= np.iinfo(kind).max]
        got = as_channels(np.array([[i for i, _ in fitting]], kind), opt)
        assert got.dtype == np.int64 and got.tolist() == [[c for _, c in fitting]]


def test_the_ids_come_with_the_class_s_own_first():
    assert unknown_ids(OPT(label_nc=11)) == (11, 255)
    assert unknown_ids(OPT(label_nc=300)) == (300, 65535)
    assert unknown_ids(OPT(label_nc=11, unknown_ids="0, 11,0")) == (11, 0)
    assert unknown_ids(OPT(label_nc=11, contain_dontcare_label=False)) == ()
    assert unknown_ids(OPT.from_preset("ade20k")) == (0, 255)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(label_nc=182), "0..181 and 255"),
        (dict(label_nc=11, contain_dontcare_label=False), "0..10"),
        (dict(label_nc=12, unknown_ids="0,255"), "0..11 and 0, 255"),
        (dict(label_nc=11, unknown_ids="11"), "0..10 and 11"),
        (dict(dataset_mode="ade20k", label_nc=150), "0..150 and 255"),
    ],
)
def test_expected_ids_in_words(options, words):
    assert expected_ids(OPT(**options)) == words


@pytest.mark.parametrize(
    ("options", "ids", "message"),
    [
        (dict(label_nc=11, contain_dontcare_label=False), [0, 255],
         "label id 255 is outside 0..10 (label_nc 11): give --contain_dontcare_label true if it means unlabelled"),
        (dict(label_nc=11, contain_dontcare_label=False), [0, 11],
         "label id 11 is outside 0..10 (label_nc 11): correct the map or set --label_nc (at least 12), or give "
         "--contain_dontcare_label true if it means unlabelled"),
        (dict(label_nc=11), [0, 13],
         "label id 13 is outside 0..10 and 255 for unlabelled (label_nc 11): correct the map or set --label_nc "
         "(at least 14), or give --unknown_ids 13,255 if it means unlabelled"),
        (dict(label_nc=12, unknown_ids="0"), [0, 255],
         "label id 255 is outside 0..11 and 0 for unlabelled (label_nc 12): give --unknown_ids 0,255 if it means "
         "unlabelled"),
        (dict(label_nc=11), [0, 13, 14, 15],
         "label id 13, 14, 15 is outside 0..10 and 255 for unlabelled (label_nc 11): correct the map or set --label_nc "
         "(at least 16)"),
        (dict(label_nc=11), [-1, 0],
         "label id -1 is outside 0..10 and 255 for unlabelled (label_nc 11): correct the map"),
    ],
)  # fmt: skip
def test_foreign_ids_are_told_with_a_way_out_that_works(options, ids, message):
    assert refuses("^map.png: ", check_ids, ids, OPT(**options), "map.png") == f"map.png: {message}"


CAMVID = range(12)
NAMED = {0: "Sky", 10: "Bicyclist", 11: "Unlabelled"}
FALSE, TRUE = "--contain_dontcare_label false", "--contain_dontcare_label true"


@pytest.mark.parametrize(
    ("ids", "names", "options", "first", "second"),
    [
        (CAMVID, {}, None, f"--label_nc 12 {FALSE}", f", or, where 11 means unlabelled, --label_nc 11 {TRUE}"),
        (CAMVID, {11: "Bicyclist"}, None, f"--label_nc 12 {FALSE}", ""),
        (CAMVID, NAMED, None, f"--label_nc 11 {TRUE}", ""),
        (CAMVID, {}, dict(label_nc=11), f"--label_nc 11 {TRUE}", f", or, where 11 is a class, --label_nc 12 {FALSE}"),
        (CAMVID, NAMED, dict(label_nc=11), f"--label_nc 11 {TRUE}", ""),
        (CAMVID, {}, dict(label_nc=11, unknown_ids="11"), f"--label_nc 11 {TRUE}", ""),
        # of the ids that do not fit, none is taken for the unknown class's own
        (CAMVID, {}, dict(label_nc=9), f"--label_nc 12 {FALSE}",
         f", or, where 11 means unlabelled, --label_nc 11 {TRUE}"),
        (CAMVID, {0: "void"}, None, "--label_nc 12 --unknown_ids 0", ""),
        (CAMVID, {}, dict(label_nc=12, unknown_ids="0"), "--label_nc 12 --unknown_ids 0", ""),
        # classes that happen not to occur are left their channels
        ([0, 8, 11], {}, dict(label_nc=11, unknown_ids="11"), f"--label_nc 11 {TRUE}", ""),
        ([0, 8, 255], {}, None, f"--label_nc 9 {TRUE}", ""),
        ([0, 8, 255], {0: "don't care"}, None, "--label_nc 9 --unknown_ids 0,255", ""),
        ([0, 8, 9, 255], {}, dict(label_nc=9), f"--label_nc 9 {TRUE}",
         f", or, where 9 is a class, --label_nc 10 {TRUE}"),
        ([0, 8, 65535], {}, None, "--label_nc 9 --unknown_ids 65535", ""),
        ([0, 300, 65535], {}, None, f"--label_nc 301 {TRUE}", ""),
        ([0], {}, None, f"--label_nc 1 {FALSE}", ""),
        ([255], {}, None, f"--label_nc 1 {TRUE}", ""),
        ([0, 254, 255], {}, None, f"--label_nc 256 {FALSE}",
         f", or, where 255 means unlabelled, --label_nc 255 {TRUE}"),
        ([0, 1], {0: "void", 1: "ignore"}, None, "--label_nc 3 --unknown_ids 0,1", ""),
    ],
)  # fmt: skip
def test_options_that_fit_and_what_ids_cannot_tell(ids, names, options, first, second):
    opt = OPT(label_nc=13, contain_dontcare_label=False) if options is None else OPT(**options)
    assert reading(ids, names, opt).options == first + second
    # what is advised is accepted and leaves no id foreign
    folders = ["--preset", "custom", "--label_dir", "maps", "--image_dir", "photos", "--no_instance"]
    for advice in filter(None, (first, second.rpartition(", ")[2])):
        assert not foreign_ids(ids, parse_train([*folders, *advice.split()]))


@pytest.mark.parametrize("name", ["Void", "unlabelled", "Unlabeled", "ignore", "IGNORED", "Don't care", "no data"])
def test_names_of_what_is_no_class(name):
    assert reading([0, 1, 2], {0: name}).unlabelled == {0}
    assert reading([0, 1, 2], {0: f"{name} road"}).unlabelled == set()


def test_maps_of_ids_are_not_written_into():
    ids = np.array([[0, 255]], np.uint8)
    as_channels(ids, OPT(label_nc=11))
    assert ids.tolist() == [[0, 255]]


def test_ids_in_words():
    assert id_ranges([0, 1, 2, 9, 11, 12]) == "0..2, 9, 11..12"
    assert id_ranges(range(0, 40, 2)).endswith(", 22 and 8 more")


# The option


@pytest.mark.parametrize("text", ["x", "0,x", "0,,1", "-1", "1.5", "65536", "0 1", "99999999999999999999", "٣", ","])
def test_what_is_no_list_of_ids_is_refused(text):
    refuses("^unknown_ids .*: expected whole numbers 0..65535 with commas between$", OPT, label_nc=11, unknown_ids=text)


def test_the_option_and_its_opposite_exclude_each_other():
    with pytest.raises(UserError, match="^unknown_ids 0,255 and contain_dontcare_label false exclude each other"):
        OPT(label_nc=11, unknown_ids="0,255", contain_dontcare_label=False)
    refuses("^unknown_ids 1,0 leave no class, for label_nc is 2$", OPT, label_nc=2, unknown_ids="1,0")


def test_the_option_turns_the_class_on_whatever_the_preset_says():
    folders = ["--label_dir", "maps", "--image_dir", "photos", "--no_instance"]
    assert parse_train(["--preset", "custom", *folders, "--unknown_ids", "0"]).contain_dontcare_label
    opt = OPT.from_preset("cityscapes", unknown_ids="0,1,2,3")
    assert (opt.contain_dontcare_label, opt.semantic_nc) == (True, 37)
    with pytest.raises(UserError, match="exclude each other"):
        parse_train(["--preset", "custom", *folders, "--unknown_ids", "0", "--contain_dontcare_label", "false"])


def test_it_travels_in_the_options_file_and_older_files_do_without(tmp_path):
    opt = OPT(label_nc=11, unknown_ids=" 255, 0,0")
    assert opt.unknown_ids == "255,0"
    opt.save(tmp_path / "opt.yaml")
    assert OPT.load(tmp_path / "opt.yaml") == opt
    text = (tmp_path / "opt.yaml").read_text()
    assert "unknown_ids: 255,0\n" in text
    (tmp_path / "opt.yaml").write_text(text.replace("unknown_ids: 255,0\n", ""))
    assert OPT.load(tmp_path / "opt.yaml") == dataclasses.replace(opt, unknown_ids="")
    assert not opt.incompatible(dataclasses.replace(opt, unknown_ids="7"))
    single = dataclasses.replace(opt, unknown_ids="255")
    single.save(tmp_path / "opt.yaml")
    assert OPT.load(tmp_path / "opt.yaml") == single


# A user's own data, of which nobody says whether they have the class


@pytest.fixture
def parsed(tmp_path):
    """A function that writes a label map for each of some ids and reads a command line about them."""

    def parse(ids, *options):
        for i in ids:
            save(tmp_path / "maps" / f"{i}.png", np.full((8, 8), i, np.uint8))
        folders = ["--label_dir", str(tmp_path / "maps"), "--image_dir", str(tmp_path / "photos"), "--no_instance"]
        return parse_train(["--preset", "custom", *folders, *options])

    return parse


@pytest.mark.parametrize(
    ("ids", "options", "on"),
    [
        (CAMVID, ["--label_nc", "11"], True),
        ([0, 8, 255], ["--label_nc", "9"], True),
        (CAMVID, ["--label_nc", "12"], False),
        (CAMVID, ["--label_nc", "10"], False),  # 11 does not fit all the same, and the loader says so
        ([0, 8, 9, 255], ["--label_nc", "9"], False),  # 9 may be a class that was not counted
        (CAMVID, ["--label_nc", "11", "--contain_dontcare_label", "false"], False),
        ([], ["--label_nc", "11"], False),
    ],
)
def test_the_class_is_on_where_maps_need_it(parsed, ids, options, on):
    assert parsed(ids, *options).contain_dontcare_label == on


def test_a_palette_s_name_says_whether_it_is_a_class(parsed, tmp_path):
    for name, on in (("tree", False), ("Unlabelled", True), ("", True)):
        (tmp_path / "palette.txt").write_text(f"0 1 2 3 sky\n3 9 9 9 {name}\n")
        options = ["--label_nc", "3", "--palette", str(tmp_path / "palette.txt")]
        assert parsed([0, 1, 2, 3], *options).contain_dontcare_label == on


def test_a_config_file_s_word_counts_and_damaged_maps_are_left_to_the_loader(parsed, tmp_path):
    (tmp_path / "opt.yaml").write_text("contain_dontcare_label: false\nlabel_nc: 11\n")
    assert not parsed(CAMVID, "--config", str(tmp_path / "opt.yaml")).contain_dontcare_label
    (tmp_path / "maps" / "3.png").write_bytes(b"broken")
    assert not parsed([], "--label_nc", "11").contain_dontcare_label
