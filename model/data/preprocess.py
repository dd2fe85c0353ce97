"""How a photo and its maps become arrays: scaled, cropped and flipped alike."""

import numpy as np
from PIL import Image

from model.data.label_ids import as_channels
from model.data.reading import read_ids
from model.errors import UserError


def scaled_size(size: tuple[int, int], opt) -> tuple[int, int]:
    """(width, height) that a picture of `size` has after the scaling of `opt.preprocess_mode`, before its crop."""
    w, h = size
    mode = opt.preprocess_mode
    if mode == "resize_and_crop":
        return opt.load_size, opt.load_size
    if mode in ("scale_width", "scale_width_and_crop"):
        return (w, h) if w == opt.load_size else (opt.load_size, int(opt.load_size * h / w))
    if mode in ("scale_shortside", "scale_shortside_and_crop"):
        # The released code sets the long side to what fits a short side of load_size and leaves the short side as it
        # was. Its reference numbers show it, so it is kept (test_scaled_size_follows_the_released_code).
        short, long = min(w, h), max(w, h)
        if short == opt.load_size:
            return w, h
        long = int(opt.load_size * long / short)
        return (short, long) if w == short else (long, short)
    if mode == "fixed":
        return opt.crop_size, round(opt.crop_size / opt.aspect_ratio)
    if mode == "none":
        return int(round(w / 32) * 32), int(round(h / 32) * 32)
    return w, h  # crop


def _geometry(picture: Image.Image, opt, crop_pos: tuple[int, int], flip: bool, resample) -> Image.Image:
    size = scaled_size(picture.size, opt)
    if min(size) < 1:
        raise UserError(
            f"a picture of {picture.width}x{picture.height} becomes {size[0]}x{size[1]} with "
            f"preprocess_mode {opt.preprocess_mode}: use larger pictures or preprocess_mode fixed"
        )
    if size != picture.size:
        picture = picture.resize(size, resample)
    if "crop" in opt.preprocess_mode:
        x, y = crop_pos
        picture = picture.crop((x, y, x + opt.crop_size, y + opt.crop_size))  # zeros where it leaves the picture
    if flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture


def transform(image, label, instance, opt, crop_pos: tuple[int, int] = (0, 0), flip: bool = False):
    """Scale, crop, flip and normalise one photo and its maps exactly as the released code does.

    Source: the released code's preprocessing; bicubic for photos, nearest neighbour for maps, both Pillow's.

    Args:
        image: RGB photo (PIL), or None.
        label: label map (PIL), as `reading.read_ids` takes it.
        instance: instance map (PIL, also RGB-coded ids), or None.
        opt: `preprocess_mode`, `load_size`, `crop_size`, `aspect_ratio` and what `unknown_ids` reads are read.
        crop_pos: (x, y) in pixels of the crop's top left corner in the scaled picture; used by the modes with crop.
            What lies outside the picture is 0, as in the released code.
        flip: mirror left and right.

    Returns:
        (image float32 [3, H, W] in [-1, 1] or None, label int64 [H, W] in which unlabelled is the unknown class,
        instance int32 [H, W] or None).

    Raises:
        UserError: a label map in colours, or a picture that would vanish.
    """
    if image is not None:
        photo = _geometry(image.convert(opt.photo_mode), opt, crop_pos, flip, Image.Resampling.BICUBIC)
        image = np.ascontiguousarray(_PIXEL_VALUES[np.atleast_3d(photo).transpose(2, 0, 1)])
    label = as_channels(np.asarray(_geometry(read_ids(label), opt, crop_pos, flip, Image.Resampling.NEAREST)), opt)
    if instance is not None:
        instance = _geometry(read_ids(instance, coded=True), opt, crop_pos, flip, Image.Resampling.NEAREST)
        instance = np.asarray(instance).astype(np.int32)
    return image, label, instance


# (x / 255 - 0.5) / 0.5 in float32 arithmetic, of which there are only 256 values
_PIXEL_VALUES = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


def crop_and_flip(opt, size: tuple[int, int], epoch: int, index: int) -> tuple[tuple[int, int], bool]:
    """Crop position (x, y) and flip of picture `index` in `epoch`: a function of (opt.seed, epoch, index) alone.

    The released code draws the offsets of scale_shortside_and_crop from another size than the one it crops, so that
    crops can leave the picture; here they come from the scaled size (test_random_crops_stay_inside).
    """
    w, h = scaled_size(size, opt)
    raw = np.random.Philox(np.random.SeedSequence([opt.seed, epoch, index])).random_raw(3)
    x, y = (int(r) % (max(0, side - opt.crop_size) + 1) for r, side in zip(raw, (w, h), strict=False))
    return (x, y), bool(raw[2] >> np.uint64(63)) and not opt.no_flip
