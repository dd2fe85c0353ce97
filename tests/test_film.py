"""Films: what is written is read back, and plays in a browser."""

import base64
import os

import cv2
import numpy as np
import pytest

from model.errors import UserError
from model.serving.film import film

COLOURS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (240, 240, 20), (20, 20, 20)]
CODEC = 20  # of 255: what the codec may change in a plain colour


def plain(colour, size=(32, 64)):
    return np.broadcast_to(np.array(colour, np.uint8), (*size, 3))


def frames(path):
    """All pictures of a film, RGB, and its pictures a second."""
    reader, found = cv2.VideoCapture(str(path)), []
    while (picture := reader.read())[0]:
        found.append(picture[1][..., ::-1])
    return found, reader.get(cv2.CAP_PROP_FPS)


def test_pictures_come_back_in_order_size_and_colour(tmp_path):
    with film(tmp_path / "new" / "a.mp4", 5) as show:
        for colour in COLOURS:
            show(plain(colour))
    found, fps = frames(tmp_path / "new" / "a.mp4")
    assert fps == 5 and [picture.shape for picture in found] == [(32, 64, 3)] * 5
    for picture, colour in zip(found, COLOURS, strict=True):
        assert np.abs(picture.reshape(-1, 3).mean(0) - colour).max() < CODEC
    assert os.listdir(tmp_path / "new") == ["a.mp4"]


@pytest.mark.parametrize("size", [(33, 64), (32, 65)])
def test_sizes_that_the_codec_would_cut_are_refused(tmp_path, size):
    with pytest.raises(UserError, match="an even width and height"), film(tmp_path / "a.mp4", 5) as show:
        show(plain((1, 2, 3), size))
    assert not any(tmp_path.iterdir())


def test_names_as_long_as_the_system_takes(tmp_path):
    path = tmp_path / f"{'n' * 251}.mp4"
    with film(path, 5) as show:
        show(plain((1, 2, 3)))
    assert len(frames(path)[0]) == 1


@pytest.mark.parametrize("failure", ["size", "error", "nothing"])
def test_an_earlier_film_stays_when_a_new_one_fails(tmp_path, failure):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(
        (UserError, ZeroDivisionError), match="picture 2 is 32x32, the first 64x32|zero|0 of 0 pictures"
    ):
        with film(path, 5) as show:
            if failure != "nothing":
                show(plain((1, 2, 3)))
                show(plain((1, 2, 3), (32, 32)) if failure == "size" else 1 / 0)
    assert path.read_bytes() == b"earlier" and os.listdir(tmp_path) == ["a.mp4"]


def test_a_film_that_lost_pictures_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2.VideoCapture, "grab", lambda self: False, raising=False)
    with (
        pytest.raises(UserError, match="0 of 2 pictures arrived; check the space"),
        film(tmp_path / "a.mp4", 5) as show,
    ):
        show(plain((1, 2, 3)))
        show(plain((1, 2, 3)))
    assert not any(tmp_path.iterdir())


def test_where_nothing_can_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/a.mp4"), film(tmp_path / "file" / "a.mp4", 5) as show:
        show(plain((1, 2, 3)))


@pytest.mark.slow
def test_a_browser_plays_it(tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from test_app_browser import CHROMIUM, FLAGS

    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the PATH")
    with film(tmp_path / "a.mp4", 5) as show:
        for colour in COLOURS:
            show(plain(colour))
    source = base64.b64encode((tmp_path / "a.mp4").read_bytes()).decode()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = browser.new_page()
        page.set_content(f'<video muted src="data:video/mp4;base64,{source}"></video>')
        size = page.evaluate(
            "async () => { const v = document.querySelector('video'); const ended = new Promise(r => v.onended = r);"
            " await v.play(); await ended; return [v.videoWidth, v.videoHeight, v.duration]; }"
        )
        browser.close()
    assert size == [64, 32, pytest.approx(1, abs=0.05)]
