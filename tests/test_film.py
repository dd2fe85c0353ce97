"""Films: what is written is read back; tests/test_app_browser.py plays one."""

import os

import cv2
import numpy as np
import pytest
from common import refuses

from model.errors import UserError
from model.serving.film import film

COLOURS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (240, 240, 20), (20, 20, 20)]
CODEC = 20  # of 255: what the codec may change in a plain colour


def plain(colour, size=(32, 64)):
    return np.broadcast_to(np.array(colour, np.uint8), (*size, 3))


def write(path, colours=COLOURS):
    with film(path, 5) as show:
        for colour in colours:
            show(plain(colour))


def frames(path):
    """All pictures of a film, RGB, and its pictures a second."""
    reader, found = cv2.VideoCapture(str(path)), []
    while (picture := reader.read())[0]:
        found.append(picture[1][..., ::-1])
    return found, reader.get(cv2.CAP_PROP_FPS)


def test_pictures_come_back_in_order_size_and_colour(tmp_path):
    write(tmp_path / "new" / "a.mp4")
    found, fps = frames(tmp_path / "new" / "a.mp4")
    assert fps == 5 and [picture.shape for picture in found] == [(32, 64, 3)] * 5
    for picture, colour in zip(found, COLOURS, strict=True):
        assert np.abs(picture.reshape(-1, 3).mean(0) - colour).max() < CODEC
    assert os.listdir(tmp_path / "new") == ["a.mp4"]


def test_names_as_long_as_the_system_takes(tmp_path):
    path = tmp_path / f"{'n' * 251}.mp4"
    write(path, COLOURS[:1])
    assert len(frames(path)[0]) == 1


@pytest.mark.parametrize(
    ("sizes", "failure"),
    [
        ([(33, 64)], "an even width and height"), ([(32, 65)], "an even width and height"),
        ([(32, 64), (32, 32)], "picture 2 is 32x32, the first 64x32"), ([(32, 64), None], "NoneType"),
        ([], "0 of 0 pictures"),
    ],
)  # fmt: skip
def test_an_earlier_film_stays_when_a_new_one_fails(tmp_path, sizes, failure):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises((UserError, TypeError), match=failure), film(path, 5) as show:
        for size in sizes:
            show(plain((1, 2, 3), size))
    assert path.read_bytes() == b"earlier" and os.listdir(tmp_path) == ["a.mp4"]


def test_a_film_that_lost_pictures_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2.VideoCapture, "grab", lambda self: False, raising=False)
    refuses("0 of 1 pictures arrived; check the space", write, tmp_path / "a.mp4", COLOURS[:1])
    assert not any(tmp_path.iterdir())


def test_where_nothing_can_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    refuses("cannot write .*file/a.mp4", write, tmp_path / "file" / "a.mp4")
