"""Wording of messages."""

from model.errors import listed


def test_long_lists_are_cut():
    assert listed([]) == "" and listed(["a"]) == "a"
    assert listed(range(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert listed(iter("abcde"), 3) == "a, b, c and 2 more"
