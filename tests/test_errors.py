"""Wording of messages."""

import os
import sys

import pytest
import yaml
from common import python, refused, refuses

from model.errors import UserError, listed, tell, utf8


def test_long_lists_are_cut():
    assert listed([]) == "" and listed(["a"]) == "a"
    assert listed(range(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert listed(iter("abcde"), 3) == "a, b, c and 2 more"


def test_messages_take_names_of_any_bytes_on_one_line():
    name = os.fsdecode("街".encode("gbk") + b"\n0.png")
    message = str(UserError(f"{name}: damaged"))
    assert message == r"\udcbd\udcd6\n0.png: damaged"
    assert message.encode() and str(UserError(message)) == message
    assert yaml.safe_load(yaml.safe_dump({"dataroot": name}, allow_unicode=True))["dataroot"] == name


def test_a_line_stays_one_line(capsys):
    tell("a\nb\x1b[31m\udcbd\u8857")
    tell("c", sys.stderr)
    assert capsys.readouterr() == ("a\\nb\\x1b[31m\\udcbd\u8857\n", "c\n")


def test_libraries_that_take_utf8_alone_are_given_nothing_else():
    assert utf8("a/\u8857", "onnxruntime") == "a/\u8857"
    refuses(r"^a/\\udcbd: onnxruntime opens no path that is not UTF-8", utf8, "a/\udcbd", "onnxruntime")


def test_names_that_the_file_system_cannot_hold_are_told():
    code = r"from pathlib import Path; from model.errors import run_cli; run_cli(lambda: Path('caf\u00e9').stat())"
    said = refused("-c", code, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert r"caf\xe9' cannot be a name" in said and "PYTHONUTF8=1" in said


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_command_lines_print_names_that_the_terminal_cannot_show(encoding):
    code = r"from model.errors import run_cli; run_cli(lambda: print('\udcbd\u8857'))"
    assert python("-c", code, PYTHONIOENCODING=encoding).stdout.startswith(r"\udcbd")
