"""The painting page: drawings and uploads as text, styles, and the server with bad uploads and many users."""

import base64
import gc
import io
import json
import re
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from common import ROOT, refuses
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from reference_cases import write_model
from test_reading import png

import app
from model.data.palettes import class_names
from model.data.sample import make_scene
from model.options import OPT
from model.serving.page import MAX_BODY, build_page, launch_page
from model.serving.painting import MAX_UPLOAD, SAMPLE_CLASSES, SCENES, Studio, decode_drawing, encode_drawing
from model.serving.synthesizer import Synthesizer

MODEL = OPT(ngf=4, crop_size=64, load_size=64, z_dim=8)  # of COCO-Stuff's classes, with an encoder
CLASSES = 183


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), MODEL)


@pytest.fixture(scope="module")
def studio(model_folder):
    return Studio(Synthesizer.load(model_folder, device="cpu"))


@pytest.fixture(scope="module")
def address(studio):
    """A server of the page in this process."""
    page = build_page(studio)
    url = launch_page(page, "127.0.0.1", None, prevent_thread_lock=True)
    yield url
    page.close(verbose=False)


def file_of(picture, form="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def text_of(data):
    return base64.b64encode(data).decode()


def picture_of(url):
    assert url.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def drawing(seed=0, classes=CLASSES):
    rng = np.random.default_rng(seed)
    ids = np.kron(rng.integers(0, classes, (8, 8)), np.ones((8, 8), int))
    return ids, np.kron(rng.integers(0, 3, (8, 8)), np.ones((8, 8), int))


DRAWING = encode_drawing(*drawing())


# --- drawings


def test_drawing_round_trip():
    planes = drawing(3)
    assert (np.stack(decode_drawing(encode_drawing(*planes), (64, 64), CLASSES)) == np.stack(planes)).all()


def test_label_map_comes_back_after_saving(studio):
    ids, objects = drawing(1)
    saved = studio.write_map(encode_drawing(ids, objects))["map"]
    assert (picture_of(saved) == ids).all()  # the values in the file are the ids
    again = studio.read_map(saved.partition(",")[2])["drawing"]
    back, no_objects = decode_drawing(again, (64, 64), CLASSES)
    assert (back == ids).all() and not no_objects.any()


def test_uploaded_maps_of_ids_and_colours_agree(studio):
    ids, _ = drawing(2)
    large = np.kron(ids, np.ones((3, 2), int)).astype(np.uint8)
    colours = studio._synthesizer.palette[large]
    maps = [Image.fromarray(large), Image.fromarray(large.astype(np.uint16)), Image.fromarray(colours)]
    few = np.kron(np.array([[0, 1], [2, 3]]), np.ones((32, 32), int))
    files = [(ids, file_of(picture)) for picture in maps] + [(ids, file_of(maps[2], "BMP")), (few, png(few, 2))]
    for want, file in files:
        answer = studio.read_map(text_of(file))["drawing"]
        assert (decode_drawing(answer, (64, 64), CLASSES)[0] == want).all()


# --- pictures and styles


def test_picture_is_the_synthesizers(studio):
    ids, objects = drawing()
    answer = studio.paint(DRAWING, {"first": {"seed": 5}})
    numbers = np.where(objects > 0, objects + CLASSES, ids)
    expected = studio._synthesizer(ids, numbers, seed=5)
    assert (picture_of(answer["picture"]) == np.asarray(expected)).all() and answer["seconds"] > 0


def test_objects_change_the_picture(studio):
    ids, objects = drawing()
    alone = studio.paint(encode_drawing(ids, 0 * objects), {})["picture"]
    assert studio.paint(DRAWING, {})["picture"] != alone


def test_slider_goes_from_one_style_to_the_other(studio):
    def at(mix):
        return studio.paint(DRAWING, {"first": {"seed": 1}, "second": {"seed": 2}, "mix": mix})["picture"]

    one, two = (studio.paint(DRAWING, {"first": {"seed": seed}})["picture"] for seed in (1, 2))
    assert at(0) == one and (np.abs(picture_of(at(100)).astype(int) - picture_of(two)) <= 1).all()
    assert at(50) not in (one, two)


def test_photo_gives_the_style(studio):
    photo = Image.fromarray(make_scene(np.random.default_rng(5), (90, 130))[0])
    turned, exif = photo.transpose(Image.Transpose.ROTATE_90), Image.Exif()  # a camera held upright writes so
    exif[0x0112] = 6
    jpeg = file_of(photo, "JPEG")
    files = [file_of(photo), file_of(photo, "BMP"), file_of(photo, "WEBP", lossless=True), file_of(turned, exif=exif)]
    for file, same in (*((file, photo) for file in files), (jpeg, Image.open(io.BytesIO(jpeg)))):
        answer = studio.read_photo(text_of(file))
        assert np.allclose(answer["vector"], studio._synthesizer.encode(same), atol=1e-4)
        assert answer["photo"].startswith("data:image/jpeg;base64,")


def test_description_fits_the_model(studio):
    told = studio.describe()
    assert (told["height"], told["width"], len(told["names"]), len(told["colours"])) == (64, 64, 183, 183)
    assert [told["names"][i] for i in told["first"]] == list(SAMPLE_CLASSES)
    assert len(told["scenes"]) == len(told["gallery"]) == len(SCENES)
    assert all(len(entry["vector"]) == MODEL.z_dim for entry in told["gallery"])
    seen = set()
    for text in told["scenes"]:
        seen |= {told["names"][i] for i in np.unique(decode_drawing(text, (64, 64), CLASSES)[0])}
    assert {"sky-other", "tree"} <= seen <= {*SAMPLE_CLASSES, "unlabeled"}


def test_sample_classes_are_those_of_the_sample_scenes():
    names = class_names("coco_stuff", 182)
    seen = set()
    for seed in range(24):
        seen |= set(np.unique(make_scene(np.random.default_rng(seed), (128, 128))[1]).tolist())
    assert {names[i] for i in seen - {255}} <= set(SAMPLE_CLASSES) <= set(names)


def test_other_data_sets_and_models_without_styles(tmp_path):
    opt = OPT.from_preset("ade20k", ngf=4, crop_size=64, load_size=64, use_vae=False)
    studio = Studio(Synthesizer.load(write_model(tmp_path, opt), device="cpu"))
    told = studio.describe()
    assert not told["styles"] and not told["photos"] and not told["gallery"] and not told["instances"]
    ids, _ = decode_drawing(told["scenes"][0], (64, 64), 151)
    assert {"sky", "tree"} <= {told["names"][i] for i in np.unique(ids)}
    assert picture_of(studio.paint(told["scenes"][0], {"first": {"seed": 3}})["picture"]).shape == (64, 64, 3)
    refuses("no style from photos", studio.read_photo, "")


# --- fifty bad uploads


def png_of(width, height):
    """A PNG that says it has these sides."""
    data = b"IHDR" + struct.pack(">II", width, height)
    whole = file_of(Image.new("RGB", (9, 9)))
    return whole[:12] + data + whole[24:29] + struct.pack(">I", zlib.crc32(data + whole[24:29])) + whole[33:]


def bad_uploads():
    """(endpoint, arguments, what the message says) of everything that must be refused."""
    scene = Image.fromarray(make_scene(np.random.default_rng(0), (64, 96))[0])
    grey = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1)))
    bomb = file_of(Image.new("1", (12000, 4000)))  # 6 KB, 144 MB as RGB
    foreign = {
        "text": b"hello, this is a label map", "html": b"<html><script>alert(1)</script></html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "pdf": b"%PDF-1.7\n" + bytes(500),
        "zip": b"PK\x03\x04" + bytes(500), "program": b"\x7fELF" + bytes(500), "gif": file_of(grey, "GIF"),
        "tiff": file_of(grey, "TIFF"), "ico": file_of(grey, "ICO"), "pcx": file_of(grey, "PCX"), "empty": b"",
        "noise": np.random.default_rng(1).bytes(3000),
    }  # fmt: skip
    for data in foreign.values():
        for endpoint in ("read_map", "read_photo"):
            yield endpoint, [text_of(data)], "not a picture of a kind"
    for form, endpoint in (("JPEG", "read_photo"), ("WEBP", "read_photo"), ("PNG", "read_map"), ("BMP", "read_map")):
        whole = file_of(scene, form)
        if endpoint == "read_photo":
            yield "read_map", [text_of(whole)], "expected PNG or BMP"
        for part in (0.1, 0.5, 0.9):
            yield endpoint, [text_of(whole[: int(part * len(whole))])], "cannot be read|not a picture"
    broken = bytearray(file_of(scene))
    broken[len(broken) // 2] ^= 255
    yield "read_photo", [text_of(bytes(broken))], "cannot be read"
    for endpoint in ("read_map", "read_photo"):
        yield endpoint, [text_of(png_of(65000, 65000))], "million pixels"
        yield endpoint, [text_of(png_of(0, 0))], "cannot be read|not a picture"
        yield endpoint, [text_of(bomb)], "million pixels"
        yield endpoint, ["?" * 100], "not base64"
        yield endpoint, [17], "expected a file's bytes"
        yield endpoint, [{"path": "/etc/passwd"}], "expected a file's bytes"
        yield endpoint, ["A" * (MAX_UPLOAD * 4 // 3 + 40)], "at most 10 MB"
    ids, deep = (Image.fromarray(np.full((64, 64), *value)) for value in ((200, np.uint8), (40000, np.uint16)))
    yield "read_map", [text_of(file_of(ids))], "holds ids 200: expected"
    yield "read_map", [text_of(file_of(deep))], "holds ids 40000"
    yield "read_map", [text_of(file_of(scene))], "colours that are not the model's"
    yield "read_photo", [text_of(file_of(deep))], "8 bits a channel"
    style = {"first": {"seed": 1}}
    for text in ("no drawing", "%%%", None, "AAAA", DRAWING[:100]):
        yield "paint", [text, style], "cannot be read|cut off"
    for size in (100, 2**26, 2**27):
        yield "paint", [text_of(zlib.compress(bytes(size))), style], "cut off or of another model: expected 64x64"
    foreign = encode_drawing(*drawing(classes=900))
    for endpoint, arguments in (("paint", [foreign, style]), ("write_map", [foreign])):
        yield endpoint, arguments, r"holds class \d+: expected 0..182"
    for bad in (*({"seed": seed} for seed in (-1, 2**40, "x", True)), {"vector": [0] * 7}, {"vector": ["a"] * 8}, 5):
        yield "paint", [DRAWING, {"first": bad}], "seed|style"
    yield "paint", [DRAWING, {"first": {"vector": [1e39] * MODEL.z_dim}}], "numbers within"
    yield "paint", [DRAWING, {**style, "second": {"seed": 2}, "mix": 200}], "0..100"
    yield "paint", [DRAWING, "blue"], "style"


def test_bad_uploads_get_a_message_and_the_server_goes_on(address):
    cases = list(bad_uploads())
    assert len(cases) >= 50
    with httpx.Client(base_url=address, timeout=60) as web:
        for endpoint, arguments, message in cases:
            told = ask(web, endpoint, *arguments)
            assert isinstance(told, str) and re.search(message, told), f"{endpoint} {str(arguments)[:80]}: {told}"
            assert "\n" not in told and len(told) < 400
    client = Client(address, verbose=False)  # Gradio's own, which speaks to the server in another way
    for endpoint, arguments, message in cases[::10]:
        with pytest.raises(AppError, match=message):
            client.predict(*arguments, api_name=f"/{endpoint}")
    answer = client.predict(DRAWING, {"first": {"seed": 1}}, api_name="/paint")
    assert picture_of(answer["picture"]).shape == (64, 64, 3)


def test_server_answers_the_page_alone(address):
    with httpx.Client(base_url=address) as web:
        assert web.get("/").status_code == 200 and "SPADE painter" in web.get("/").text
        for path in ("file=/etc/passwd", f"file={ROOT / 'app.py'}", "file/app.py", "proxy=http://example.com", "runs"):
            assert web.get(f"/gradio_api/{path}").status_code == 404, path
        for path in ("//gradio_api/file=/etc/passwd", "/monitoring", "/login", "/static/../../../../etc/passwd"):
            assert web.get(path).status_code in (403, 404), path
        sent = web.post("/gradio_api/upload", files={"files": ("a.png", b"abc")})
        assert sent.status_code == 404
        body = b'{"data": ["' + b"A" * MAX_BODY + b'"]}'
        assert web.post("/gradio_api/call/read_map", content=body).status_code == 413


# --- many users


def ask(web, name, *data):
    """One call over plain HTTP, as the page makes it; the answer, or the error's text."""
    event = web.post(f"/gradio_api/call/{name}", json={"data": data}).raise_for_status().json()["event_id"]
    lines = web.get(f"/gradio_api/call/{name}/{event}").raise_for_status().text.splitlines()
    kind = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")][-1]
    answer = json.loads([line.removeprefix("data: ") for line in lines if line.startswith("data: ")][-1])
    return answer[0] if kind == "complete" else answer["error"]


def crowd(address, users, seconds):
    """The pictures that each user got, painting one after the other for so long; the last answers are awaited."""

    def user(number):
        got, end = [], time.monotonic() + seconds
        with httpx.Client(base_url=address, timeout=120) as web:
            while not got or time.monotonic() < end:
                text = encode_drawing(*drawing(100 * number + len(got)))
                got.append(ask(web, "paint", text, {"first": {"seed": number}})["picture"])
        return got

    with ThreadPoolExecutor(users) as pool:
        return list(pool.map(user, range(users)))


def test_twenty_users_at_once_get_each_the_own_picture(address, studio):
    for number, answers in enumerate(crowd(address, 20, 0)):
        drawn = encode_drawing(*drawing(100 * number))
        assert answers == [studio.paint(drawn, {"first": {"seed": number}})["picture"]]


@pytest.mark.slow
def test_twenty_users_for_a_minute(address):
    got = [len(answers) for answers in crowd(address, 20, 60)]
    assert min(got) >= 2 and max(got) <= 2 * min(got) + 2  # nobody is left out


# --- the command line


def test_model_that_is_opened(tmp_path, monkeypatch, model_folder):
    monkeypatch.chdir(tmp_path)
    refuses("^nothing.* does not exist", app.main, ["--checkpoint", "nothing"])
    assert gc.isenabled()
    monkeypatch.setattr(app, "SAMPLE", tmp_path / "sample")
    refuses("train one", app.find_model, None)
    for folder in (tmp_path / "sample", tmp_path / "output" / "model"):  # the second is preferred
        folder.mkdir(parents=True)
        (folder / "n_g.pdparams").touch()
        assert app.find_model(None).resolve() == folder
    assert app.find_model(str(model_folder)) == model_folder


def test_taken_port_is_told(address, studio):
    refuses("cannot serve", launch_page, build_page(studio), "127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))
    refuses("port 78150: .* 0-65535", launch_page, build_page(studio), "127.0.0.1", 78150)
