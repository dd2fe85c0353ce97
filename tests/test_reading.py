"""The reader of ids and photos: every encoding as stored or refused by name, palettes, orientation, transparency."""

import io
import struct
import zlib

import numpy as np
import pytest
from common import refuses
from PIL import Image, TiffImagePlugin

from model.data.agreement import Agreement
from model.data.dataset import PhotoMaps
from model.data.palettes import palette, read_palette
from model.data.pictures import PictureError, read_photo, style_photo
from model.data.reading import class_map, read_ids
from model.errors import UserError
from model.metrics.images import list_pictures, read_labels, read_rgb
from model.options import OPT

H, W = 4, 8
GREYS = [5, 90, 7, 3]  # a palette as optimisers leave it: the ids, in any order


def ids(count):
    return np.arange(H * W).reshape(H, W) * 3 % count


def grey(values):
    return [(int(value),) * 3 for value in values]


def colours(count):
    return [(i * 37 % 256, (i * 91 + 5) % 256, i * 13 % 256) for i in range(count)]


def packed(array, bits):
    """Rows of samples of 1 to 16 bits, the highest bit first."""
    flat = np.asarray(array).reshape(len(array), -1, 1) >> np.arange(bits - 1, -1, -1) & 1
    return [row.tobytes() for row in np.packbits(flat.reshape(len(array), -1).astype(np.uint8), axis=1)]


def png(array, bits, kind=0, table=(), transparency=b""):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    parts = [(b"IHDR", struct.pack(">IIBBBBB", array.shape[1], len(array), bits, kind, 0, 0, 0))]
    parts += [(b"PLTE", bytes(np.ravel(table).tolist()))] if len(table) else []
    parts += [(b"tRNS", transparency)] if transparency else []
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in packed(array, bits)))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(array, bits, photometric=1, order="<", table=None, data=None, **more):
    """An uncompressed TIFF; `more` are format (of samples), extra (samples), orientation, fill (order of bits)."""
    samples = array.shape[2] if array.ndim == 3 else 1
    data = data or (b"".join(packed(array, bits)) if bits <= 8 else array.tobytes())
    tags = {256: array.shape[1], 257: len(array), 258: (bits,) * samples, 259: 1, 262: photometric, 273: 0,
            277: samples, 278: len(array), 279: len(data)}  # fmt: skip
    names = {"fill": 266, "orientation": 274, "extra": 338, "format": 339}
    tags |= {names[name]: (value,) * samples if name == "format" else value for name, value in more.items()}
    if table is not None:
        tags[320] = tuple((np.array(table).T * 257).ravel().tolist())
    directory = TiffImagePlugin.ImageFileDirectory_v2((b"II*\0" if order == "<" else b"MM\0*") + b"\0\0\0\0")
    for tag, value in tags.items():
        directory[tag] = value
    out = io.BytesIO()
    directory.save(out)  # and where the pixels are, behind it
    return out.getvalue() + data


def bmp(array, bits, table=(), compression=0, data=None):
    if data is None:
        data = b"".join(row + b"\0" * (-len(row) % 4) for row in packed(array[::-1], bits))
    entries = b"".join(bytes((*colour[::-1], 0)) for colour in table)
    start = 54 + len(entries)
    header = struct.pack("<IiiHHIIiiII", 40, W, len(array), 1, bits, compression, len(data), 0, 0, len(table), 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + entries + data


def run_length(array, shift):
    rows = (b"".join(bytes((1, int(value) << shift)) for value in row) + b"\0\0" for row in array[::-1])
    return b"".join(rows) + b"\0\1"


def pnm(kind, array, highest=None):
    numbers = f"# a remark\n{W} {H}\n" + ("" if highest is None else f"{highest}\n")
    if kind in ("P1", "P2", "P3"):
        data = "\n".join(map(str, np.ravel(array).tolist())).encode() + b"\n"
    else:
        data = array.astype(np.uint8 if highest < 256 else ">u2").tobytes()
    return f"{kind}\n{numbers}".encode() + data


def saved(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def picture(array, table=None):
    made = Image.fromarray(np.asarray(array).astype(np.uint8))
    if table is not None:
        made.putpalette([int(part) for colour in table for part in colour])
    return made


SOME, RGB = picture(ids(9)), np.repeat(ids(9)[..., None], 3, axis=2)
LA = np.stack([ids(9), np.full((H, W), 255)], -1)
RGBA = np.concatenate([RGB, LA[..., 1:]], -1)
SHOWN = np.array(GREYS)[ids(4)]
READ = {
    "png 16": (png(ids(9) * 1000, 16), ids(9) * 1000),
    "png 8, one value transparent": (png(ids(9), 8, transparency=b"\0\3"), ids(9)),
    "png 4, one value transparent": (png(ids(9), 4, transparency=b"\0\3"), ids(9)),
    "png rgb": (png(RGB, 8, 2), ids(9)),
    "png grey and alpha": (png(LA, 8, 4), ids(9)),
    "png rgb and alpha": (png(RGBA, 8, 6), ids(9)),
    "png grey palette with transparency": (png(ids(4), 8, 3, grey(GREYS), b"\xff\0\x80"), SHOWN),
    "png grey palette of one": (png(ids(1), 1, 3, grey([7])), ids(1) + 7),
    "png palette filled up": (png(ids(4), 8, 3, grey([*GREYS, *[0] * 252])), SHOWN),
    "png colours among greys": (png(ids(4) // 2, 8, 3, [(0, 0, 0), (128,) * 3, (9, 0, 0)]), ids(4) // 2),
    "pgm over its highest value": (pnm("P5", ids(33), 10), ids(33)),
    "ppm": (pnm("P6", RGB, 255), ids(9)),
    "ppm, highest value 8": (pnm("P6", RGB, 8), ids(9)),
    "plain ppm, highest value 8": (pnm("P3", RGB, 8), ids(9)),
    "bmp 1": (bmp(ids(2), 1, grey([0, 255])), ids(2)),
    "bmp 4": (bmp(ids(16), 4, grey(np.arange(16) * 17)), ids(16)),
    "bmp 4, greys are indices": (bmp(ids(16), 4, grey(range(16))), ids(16)),
    "bmp 8": (saved(SOME, "BMP"), ids(9)),
    "bmp 24": (saved(SOME.convert("RGB"), "BMP"), ids(9)),
    "bmp grey palette": (bmp(ids(4), 4, grey(GREYS)), SHOWN),
    "bmp rle8": (bmp(ids(9), 8, colours(9), 1, run_length(ids(9), 0)), ids(9)),
    "bmp rle8, greys are indices": (bmp(ids(9), 8, grey(range(9)), 1, run_length(ids(9), 0)), ids(9)),
    "bmp rle4": (bmp(ids(9), 4, colours(9), 2, run_length(ids(9), 4)), ids(9)),
    "gif grey": (saved(SOME, "GIF"), ids(9)),
    "gif grey palette": (saved(picture(ids(4), grey(GREYS)), "GIF"), SHOWN),
    "gif palette": (saved(picture(ids(4), colours(4)), "GIF"), ids(4)),
    "tiff 12": (tiff(ids(30) * 100, 12, data=b"".join(packed(ids(30) * 100, 12))), ids(30) * 100),
    "tiff fax": (saved(picture(ids(2)).point(lambda i: 255 * i, "1"), "TIFF", compression="group4"), ids(2)),
    **{f"tiff {kind}": (saved(SOME, "TIFF", compression=kind), ids(9)) for kind in ("tiff_lzw", "packbits", "lzma")},
    "tiff 16, packed": (saved(Image.fromarray((ids(9) * 1000).astype(np.uint16)), "TIFF", compression="tiff_lzw"),
                        ids(9) * 1000),
    "tiff turned, packed": (saved(SOME, "TIFF", compression="tiff_lzw", tiffinfo={274: 6}), ids(9)),
    **{f"png {bits}": (png(ids(2**bits), bits), ids(2**bits)) for bits in (1, 2, 4, 8)},
    **{f"png palette {bits}": (png(ids(2**bits), bits, 3, colours(2**bits)), ids(2**bits)) for bits in (1, 2, 4, 8)},
    **{f"png grey palette {bits}": (png(ids(4), bits, 3, grey(GREYS)), SHOWN) for bits in (2, 4, 8)},
    **{f"bmp palette {bits}": (bmp(ids(2**bits), bits, colours(2**bits)), ids(2**bits)) for bits in (1, 4, 8)},
    **{f"pgm {kind}, highest value {most}": (pnm(kind, np.minimum(ids(33), most), most), np.minimum(ids(33), most))
       for kind in ("P5", "P2") for most in (1, 8, 127, 200, 255, 256, 4000, 65534, 65535)},
    **{f"tiff turned {way}": (tiff(ids(9), 8, orientation=way), ids(9)) for way in range(1, 9)},
}  # fmt: skip
REFUSED = {
    "png rgb 16": (png(RGB, 16, 2), "16 bits a channel"),
    "png grey and alpha 16": (png(LA, 16, 4), "16 bits a channel"),
    "png rgb and alpha 16": (png(RGBA, 16, 6), "16 bits a channel"),
    "png animation": (saved(SOME, "PNG", save_all=True, append_images=[picture(ids(5))]), "several pictures"),
    "png palette black and white": (png(ids(2), 1, 3, grey([0, 255])), "even greys .*--palette"),
    "png palette white and black": (png(ids(2), 1, 3, grey([255, 0])), "even greys .*--palette"),
    "png palette of a ramp": (png(ids(16), 4, 3, grey(np.arange(16) * 17)), "even greys .*--palette"),
    "png colours": (png(np.stack([ids(9), ids(5), ids(3)], -1), 8, 2), "colours .*--palette"),
    "gif animation": (saved(SOME, "GIF", save_all=True, append_images=[picture(ids(5))]), "several pictures"),
    "pbm": (b"P4\n8 4\n" + b"".join(packed(ids(2), 1)), "PBM"),
    "plain pbm": (pnm("P1", ids(2)), "PBM"),
    "ppm 16": (pnm("P6", RGB, 1000), "PPM with 16 bits"),
    "ppm 16, whole range": (pnm("P6", RGB, 65535), "PPM with 16 bits"),
    "plain ppm 16": (pnm("P3", RGB, 1000), "PPM with 16 bits"),
    "pfm": (b"Pf\n8 4\n-1.0\n" + ids(9).astype("<f4").tobytes(), "floating point"),
    "pam": (b"P7\nWIDTH 8\nHEIGHT 4\nDEPTH 1\nMAXVAL 255\nENDHDR\n" + ids(9).astype(np.uint8).tobytes(), "PAM"),
    "bmp 16": (bmp(ids(9), 16, data=(ids(9)[::-1] * 1057).astype("<u2").tobytes()), "BMP with 16 bits"),
    "bmp 8 of two": (bmp(ids(2), 8, grey([0, 255])), "BMP with 8 bits"),
    "bmp 4 of two": (bmp(ids(2), 4, grey([0, 255])), "BMP with 4 bits"),
    "bmp white and black": (bmp(ids(2), 1, grey([255, 0])), "even greys"),
    "tiff pages": (saved(SOME, "TIFF", save_all=True, append_images=[picture(ids(5))]), "several pictures"),
    "tiff jpeg": (saved(SOME, "TIFF", compression="jpeg"), "TIFF with jpeg compression"),
    "jpeg": (saved(SOME, "JPEG"), "JPEG cannot hold ids"),
    "two jpegs": (saved(SOME, "MPO", save_all=True, append_images=[SOME]), "JPEG cannot hold ids"),
    "webp": (saved(SOME.convert("RGB"), "WEBP", lossless=True), "WEBP"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40, "JPEG 2000"),
    "heic": (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC"),
    "eps": (saved(SOME, "EPS"), "EPS"),
    "tga": (saved(SOME, "TGA"), "none of PNG"),
    "text": (b"a label map", "none of PNG"),
    "nothing": (b"", "empty"),
}  # fmt: skip
for name, order in (("tiff little-endian", "<"), ("tiff big-endian", ">")):
    reverse = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
    for bits in (1, 2, 4, 8):
        count = 2**bits
        turned = b"".join(packed(ids(count), bits)).translate(reverse)
        shades = np.random.default_rng(bits).integers(0, 200, count)
        READ |= {
            f"{name} {bits}": (tiff(ids(count), bits, order=order), ids(count)),
            f"{name} {bits}, bits reversed": (tiff(ids(count), bits, order=order, fill=2, data=turned), ids(count)),
            f"{name} palette {bits}": (tiff(ids(count), bits, 3, order, colours(count)), ids(count)),
            f"{name} grey palette {bits}": (tiff(ids(count), bits, 3, order, grey(shades)), shades[ids(count)]),
        }
        REFUSED[f"{name} white is 0, {bits}"] = tiff(ids(count), bits, 0, order), "MinIsWhite"
    READ |= {
        f"{name} 16": (tiff((ids(9) * 1000).astype(order + "u2"), 16, order=order), ids(9) * 1000),
        f"{name} signed 8": (tiff(ids(9) - 5, 8, order=order, format=2), ids(9) - 5),
        f"{name} signed 16": (tiff((ids(9) - 5).astype(order + "i2"), 16, order=order, format=2), ids(9) - 5),
        f"{name} signed 32": (tiff((ids(9) * 10**6 - 5).astype(order + "i4"), 32, order=order, format=2),
                              ids(9) * 10**6 - 5),
        f"{name} rgb": (tiff(RGB, 8, 2, order), ids(9)),
        f"{name} grey and alpha": (tiff(LA, 8, 1, order, extra=2), ids(9)),
        f"{name} rgb and alpha": (tiff(RGBA, 8, 2, order, extra=2), ids(9)),
    }  # fmt: skip
    REFUSED |= {
        f"{name} float": (tiff(ids(9).astype(order + "f4"), 32, order=order, format=3), "floating point"),
        f"{name} double": (tiff(ids(9).astype(order + "f8"), 64, order=order, format=3), "64-bit floating point"),
        f"{name} 64": (tiff(ids(9).astype(order + "u8"), 64, order=order), "64-bit unsigned"),
        f"{name} rgb 16": (tiff(RGB.astype(order + "u2"), 16, 2, order), "16 bits a channel"),
        f"{name} premultiplied": (tiff(RGBA, 8, 2, order, extra=1), "premultiplied"),
        f"{name} cmyk": (tiff(RGBA, 8, 5, order), "CMYK"),
        f"{name} ycbcr": (tiff(RGB, 8, 6, order), "YCbCr"),
        f"{name} lab": (tiff(RGB, 8, 8, order), "CIELab"),
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("name", READ)
def test_ids_come_out_as_they_are_stored(tmp_path, name, suffix):
    """By path; of a picture that is opened only; of one that is read already as well, or it is refused."""
    content, want = READ[name]
    path = tmp_path / f"map{suffix}"
    path.write_bytes(content)
    np.testing.assert_array_equal(np.asarray(read_ids(path)), want)
    opened = Image.open(path)
    np.testing.assert_array_equal(np.asarray(read_ids(opened)), want)
    if "turned" not in name and "greys are indices" not in name:  # Pillow turns these, and misreads those
        opened.load()  # nothing of it was spent
        try:
            np.testing.assert_array_equal(np.asarray(read_ids(opened)), want)
        except UserError as error:
            assert "give its path" in str(error)


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_ids_is_refused_by_name(tmp_path, name):
    content, words = REFUSED[name]
    path = tmp_path / "map.png"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=words) as caught:
        read_ids(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: ") and "\n" not in told and "label_nc" not in told and told.count(": ") >= 2


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_of_any_kind_is_one_line(tmp_path):
    """Every encoding, cut off and with bytes changed: ids or a message."""
    rng = np.random.default_rng(0)
    path = tmp_path / "map.png"
    for content, _ in [*READ.values(), *REFUSED.values()]:
        for _ in range(4):
            broken = bytearray(content[: rng.integers(1, len(content) + 1)] if content else b"")
            for place in rng.integers(0, max(len(broken), 1), 3):
                broken[place : place + 1] = bytes([rng.integers(256)])
            path.write_bytes(broken)
            for read in (read_ids, read_photo, style_photo):
                try:
                    read(path)
                except UserError as error:
                    assert str(path) in str(error)


def add(root, name, content, size=(W, H)):
    for kind in ("maps", "photos"):
        (root / kind).mkdir(exist_ok=True)
    (root / "maps" / f"{name}.png").write_bytes(content)
    Image.new("RGB", size).save(root / "photos" / f"{name}.jpg")


def dataset(root):
    folders = dict(label_dir=str(root / "maps"), image_dir=str(root / "photos"))
    fields = dict(no_instance=True, label_nc=91, crop_size=64, load_size=64, preprocess_mode="resize_and_crop")
    return PhotoMaps(OPT.from_preset("custom", **fields, **folders))


TABLE = colours(9)
# Maps of a set that agree, one that does not, and what is said of it; GREY is looked up in a palette file.
CONTRADICTIONS = {
    "colours renumbered": (
        [png(ids(9), 8, 3, TABLE), png(ids(4), 2, 3, TABLE[:4]), png(ids(9), 8)],  # one palette, cut off or not, agrees
        png(ids(4), 2, 3, TABLE[3::-1]), r"palette index 0 is #\w+ here and #\w+ in \S+0\.png.*--palette"),
    "greys among colours": ([png(ids(9), 8, 3, TABLE)], png(ids(4), 2, 3, grey(GREYS)), r"grey here and in colours in"),
    "colours among greys": ([png(ids(4), 2, 3, grey(GREYS))], png(ids(9), 8, 3, TABLE), r"in colours here and grey in"),
    # an optimiser stores 0 and 255 as 1-bit samples 0 and 1; where no map holds 255, 1 is an id
    "255 after few bits": ([png(ids(2), 1), png(ids(9), 8), png(ids(16), 4), png(ids(9), 8)], png(ids(2) * 255, 8),
                           r"it holds the id 255, a grey that few bits show in \S+0\.png"),
    "few bits after 255": ([png(ids(2) * 255, 8), png(ids(16), 4)], png(ids(2), 1),
                           r"its few bits show the grey 255, an id in \S+0\.png"),
}  # fmt: skip
# The same where colours are looked up: an optimiser stores as grey a map whose colours all are; greys alone are ids,
# and so are those that the palette's greys do not name.
GREY, RED = png(ids(2) * 70, 8), png(np.array([[[0, 0, 0], [200, 10, 10]]]), 8, 2)
LOOKED_UP = {
    "colours after greys": ([png(ids(4), 8), GREY, png(ids(4), 8)], RED, r"looked up here, greys are ids in \S+1\.png"),
    "greys after colours": ([RED, png(ids(4), 8)], GREY, r"greys that are colours of .* in \S+0\.png"),
}


@pytest.mark.parametrize("name", [*CONTRADICTIONS, *LOOKED_UP])
def test_encodings_that_contradict_each_other_are_refused(tmp_path, name):
    (tmp_path / "p.txt").write_text("3 0 0 0\n1 70 70 70\n2 200 10 10\n")
    table, seen = read_palette(tmp_path / "p.txt") if name in LOOKED_UP else None, Agreement()
    agree, other, words = (CONTRADICTIONS | LOOKED_UP)[name]
    for i, content in enumerate([*agree, other]):
        (tmp_path / f"{i}.png").write_bytes(content)
        if i < len(agree):
            read_labels(tmp_path / f"{i}.png", None, table, seen)
    refuses(rf"{len(agree)}\.png: .*{words}", read_labels, tmp_path / f"{len(agree)}.png", None, table, seen)


def test_a_set_of_renumbered_palettes_does_not_train_but_with_a_file_of_its_colours(tmp_path):
    add(tmp_path, "a", png(ids(9), 8, 3, TABLE))
    assert len(dataset(tmp_path)) == 1
    add(tmp_path, "d", png(3 - ids(4), 2, 3, TABLE[3::-1]))
    refuses(r"d\.png: .* in \S+a\.png.*--palette", dataset, tmp_path)
    known = read_palette(tmp_path / "maps" / "a.png")
    np.testing.assert_array_equal(np.asarray(read_ids(tmp_path / "maps" / "d.png", palette=known)), ids(4))


def test_optimised_grey_maps_train_as_the_ids(tmp_path):
    """A set of which each file has another palette of greys, as `convert x.png PNG8:` and pngquant write them."""
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(9)
        add(tmp_path, f"s{seed}", png(np.argsort(order)[ids(9)], 4, 3, grey(order)))
    data = dataset(tmp_path)
    want = np.kron(ids(9), np.ones((16, 8), int))
    for i in range(3):
        np.testing.assert_array_equal(np.asarray(read_ids(data.items[i].label)), ids(9))
        example = data[1, i]["label"]
        assert (example == want).all() or (example[:, ::-1] == want).all()


def test_greys_of_a_palette_that_are_no_classes_may_only_show_them(tmp_path):
    add(tmp_path, "a", png(ids(4), 2, 3, grey([0, 50, 100, 150])))
    refuses(r"50, 100, 150.* palette of greys.* give --palette \S+a\.png", dataset, tmp_path)
    known = read_palette(tmp_path / "maps" / "a.png")
    np.testing.assert_array_equal(np.asarray(read_ids(tmp_path / "maps" / "a.png", palette=known)), ids(4))


# Photos


def turned_photo(path, **options):
    """A photo of 80x60 as a camera held upright stores it, and the same upright."""
    rng = np.random.default_rng(0)
    upright = Image.fromarray(rng.integers(0, 256, (4, 3, 3), np.uint8)).resize((60, 80), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    tags = {"tiffinfo": {274: 6}} if path.suffix == ".tif" else {"exif": exif}
    upright.transpose(Image.Transpose.ROTATE_90).save(path, **tags, **options)
    return upright


@pytest.mark.parametrize("name", ["p.png", "p.tif", "p.webp", "p.jpg"])
def test_training_photos_stay_as_stored_and_style_photos_stand_upright(tmp_path, name):
    path = tmp_path / name
    upright = np.asarray(turned_photo(path, **({"lossless": True} if name == "p.webp" else {}))).astype(int)
    near = 24 if name == "p.jpg" else 0
    photo = read_photo(path)
    assert photo.size == (80, 60) and photo.info["orientation"] == 6
    assert np.abs(np.asarray(photo.transpose(Image.Transpose.ROTATE_270)).astype(int) - upright).max() <= near
    assert np.asarray(read_rgb(path)).shape == (60, 80, 3)
    loaded = Image.open(path)
    loaded.load()
    for given in (path, str(path), Image.open(path), loaded, Image.open(path).convert("RGB")):
        got = style_photo(given)
        assert got.mode == "RGB" and np.abs(np.asarray(got).astype(int) - upright).max() <= near, given


def test_a_photo_on_its_side_is_to_be_turned_and_its_map_not_scaled(tmp_path):
    add(tmp_path, "a", saved(picture(np.zeros((80, 60))), "PNG"))
    turned_photo(tmp_path / "photos" / "a.jpg")
    words = "EXIF orientation, 6, is not applied: turn the photo.*exiftran"
    assert "must have" not in refuses(words, lambda: dataset(tmp_path)[1, 0])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_of_photos_are_white(tmp_path, mode):
    hidden = Image.new("RGBA", (2, 1), (10, 200, 30, 0))
    hidden.putpixel((1, 0), (80, 80, 80, 255))
    hidden = hidden.convert(mode) if mode != "P" else hidden.quantize(4)
    hidden.save(tmp_path / "p.png")
    for read in (read_photo, style_photo):
        photo = read(tmp_path / "p.png")
        assert np.asarray(photo).tolist() == [[[255] * 3, [80] * 3]] and photo.info["transparent"]
    Image.new("RGBA", (2, 1), (10, 200, 30, 255)).save(tmp_path / "p.png")
    photo = read_photo(tmp_path / "p.png")
    assert photo.getpixel((0, 0)) == (10, 200, 30) and not photo.info["transparent"]


@pytest.mark.parametrize("content, words", [
    (png(ids(9) * 1000, 16), "8 bits a channel"), (tiff(ids(9).astype("<f4"), 32, format=3), "8 bits a channel"),
    (tiff(RGB, 8, 8), "CIELab"), (b"", "empty"), (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC.*save it as PNG"),
])  # fmt: skip
def test_photos_that_are_refused(tmp_path, content, words):
    (tmp_path / "p.jpg").write_bytes(content)
    for read in (read_photo, style_photo):
        refuses(rf"p\.jpg: .*{words}", read, tmp_path / "p.jpg")


def test_16_bit_colours_of_photos_lose_their_low_bits(tmp_path):
    (tmp_path / "p.png").write_bytes(png(RGB * 7000, 16, 2))
    np.testing.assert_array_equal(np.asarray(read_photo(tmp_path / "p.png")), RGB * 7000 >> 8)


# Maps however they are given


def classes(given):
    found, strange = class_map(given, palette("coco_stuff", 91), "the label map")
    assert strange is None
    return found


@pytest.mark.parametrize("name", ["png 4", "png grey palette 4", "pgm P5, highest value 127", "png palette 4"])
def test_paths_pictures_and_arrays_are_read_alike(tmp_path, name):
    content, want = READ[name]
    (tmp_path / "map.png").write_bytes(content)
    for given in (tmp_path / "map.png", str(tmp_path / "map.png"), Image.open(tmp_path / "map.png"), want):
        np.testing.assert_array_equal(classes(given), want)
    refuses(r"gone\.png: the file is not there", classes, "gone.png")
    with Image.open(tmp_path / "map.png") as closed:
        pass
    for read in (classes, style_photo):
        refuses("closed before its pixels were read", read, closed)


@pytest.mark.parametrize("given", [
    np.zeros((4, 8)), np.zeros((4, 8), np.float32), np.zeros((4, 8, 1), int), np.zeros((4, 8, 3), np.uint16),
    np.zeros(8, int), np.zeros((0, 8), int), np.full((4, 8), 2**63, np.uint64), [[0, 1]], None,
    np.full((4, 8), "x"), np.zeros((0, 8, 3), np.uint8),
])  # fmt: skip
def test_arrays_that_hold_no_ids_are_refused(given):
    refuses("^the label map ", classes, given)


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint8, ">i2", ">u2", np.int64, np.uint64])
def test_arrays_of_every_kind_of_whole_numbers(kind):
    assert (classes(ids(2).astype(kind)) == ids(2)).all()


# Suffixes


def test_files_that_are_not_read_for_their_suffix_are_told(tmp_path, capsys):
    """.jfif is a photo; a .gif photo and others are counted, where they are listed and where a partner is missing."""
    for name in ("a", "b", "c"):
        add(tmp_path, name, png(ids(9), 8))
    photos = tmp_path / "photos"
    (photos / "a.jpg").rename(photos / "a.jfif")
    for name in ("d.gif", "e.GIF", "notes.txt", ".hidden.gif"):
        (photos / name).write_bytes(b"")
    data = dataset(tmp_path)
    assert len(data) == 3 and data[1, 0]["image"].shape == (3, 64, 64)
    assert data.not_read == f"2 .gif, 1 .txt in {photos} (image)"
    assert len(list_pictures(photos)) == 3 and "not read for their suffix: 2 .gif, 1 .txt" in capsys.readouterr().err
    (photos / "b.jpg").rename(photos / "b.gif")
    refuses(r"1 of 3 label maps without photo \(b\); not read for their suffix: 3 \.gif", dataset, tmp_path)
    for path in (tmp_path / "maps").iterdir():
        path.rename(path.with_suffix(".npy"))
    refuses(r"holds no label maps \(.*\) but 3 \.npy", dataset, tmp_path)
    refuses(r"holds no pictures \(.*\) but 3 \.npy", list_pictures, tmp_path / "maps")
