"""Previews: the same label maps, painted again and again in the course of a run."""

from collections.abc import Callable

import numpy as np
import paddle

from model.data.dataset import PhotoMaps, evenly
from model.data.loader import collate
from model.data.visual import grid, preview_sheet
from model.errors import UserError
from model.options import OPT


class Previews:
    """Label maps evenly spread over the validation split, or of the training split where there is no other.

    Args:
        opt: the run's options.
        training: the training split.
        count: of maps, at most; 0 reads nothing.

    Attributes:
        maps: batches of one picture each.
        split: what tells val.py to paint these, "" or " --phase train".
        notes: what the user should know of them, a line each.
    """

    def __init__(self, opt: OPT, training: PhotoMaps, count: int):
        self.maps, self.split, self.notes = [], "", []
        if not count:
            return
        try:
            data = PhotoMaps(opt, "val")
        except UserError as error:
            self.notes.append(f"previews   of training maps, for there is no validation split: {error}")
            data, self.split = training, " --phase train"
        if data.without_photos:
            self.notes.append(f"previews   without photos: {data.without_photos}")
        self.opt = opt
        self.maps = [collate([data[i]], data.opt) for i in evenly(range(len(data)), count)]

    def sheet(self, paint: Callable[[dict], paddle.Tensor]) -> np.ndarray:
        """Label maps, pictures and photos side by side, uint8 [H, W, 3].

        Args:
            paint: gives the pictures [N,3,H,W] in [-1,1] of a batch.
        """
        rows = [(one["label"], paint(one).numpy(), one.get("image")) for one in self.maps]
        if len({row[0].shape for row in rows}) > 1:
            return grid([[preview_sheet(*row, self.opt)] for row in rows])
        labels, pictures, photos = zip(*rows, strict=True)
        photos = np.concatenate(photos) if all(photo is not None for photo in photos) else None
        return preview_sheet(np.concatenate(labels), np.concatenate(pictures), photos, self.opt)
