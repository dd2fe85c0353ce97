"""Films of pictures: VP9 in MP4, which every current browser plays, and which OpenCV's wheels can write.

They bring no encoder of H.264; their MPEG-4 (mp4v) is played by no browser.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from model.errors import UserError, utf8
from model.files import replacing


@contextlib.contextmanager
def film(path: str | os.PathLike, fps: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a film, whole or not at all.

    Args:
        path: the file, .mp4.
        fps: pictures a second.

    Yields:
        The function that takes the next picture, uint8 RGB [H, W, 3], all of one size.

    Raises:
        UserError: the file cannot be written, a picture has another size than the first, or an odd one, which the codec
            would cut.
    """
    import cv2  # here, since few runs make a film

    path, writer, sizes = Path(path), cv2.VideoWriter(), []

    def add(picture: np.ndarray) -> None:
        height, width, _ = picture.shape
        sizes.append(f"{width}x{height}")
        if len(sizes) == 1:
            if height % 2 or width % 2:
                raise UserError(f"{path}: pictures of {sizes[0]}: a film needs an even width and height")
            code = cv2.VideoWriter_fourcc(*"vp09")
            if not writer.open(utf8(unfinished, "OpenCV"), cv2.CAP_FFMPEG, code, fps, (width, height)):
                raise UserError(f"cannot write {path}: OpenCV {cv2.__version__} opens no VP9 film there")
        if sizes[-1] != sizes[0]:
            which = f"picture {len(sizes)} is {sizes[-1]}, the first {sizes[0]}"
            raise UserError(f"{path}: {which}: a film needs pictures of one size")
        writer.write(np.ascontiguousarray(picture[..., ::-1]))

    with replacing(path) as temporary:
        unfinished = path.with_name(f".{os.getpid()}.tmp.mp4")  # OpenCV goes by the ending
        try:
            yield add
            writer.release()
            reader = cv2.VideoCapture(utf8(unfinished, "OpenCV"))
            found = sum(1 for _ in iter(reader.grab, False))
            reader.release()
            if found != len(sizes) or not sizes:  # OpenCV does not tell of a full disk
                raise UserError(f"cannot write {path}: {found} of {len(sizes)} pictures arrived; check the space there")
            os.replace(unfinished, temporary)
        finally:
            writer.release()
            unfinished.unlink(missing_ok=True)
