"""The quick FID: measured every few epochs of a run, by which its best checkpoint is kept."""

import dataclasses
from collections.abc import Callable

import paddle

from model.data.dataset import PhotoMaps
from model.data.loader import make_loader
from model.errors import UserError
from model.metrics import evaluation
from model.metrics.fid import cheap_fid, image_statistics
from model.options import OPT

PICTURES = 1000  # of the validation split, the first


class QuickFID:
    """FID over the validation split, comparable within a run only.

    Args:
        opt: the run's options.

    Raises:
        UserError: fewer than two photos in the split, or no weights of the network that judges.
    """

    def __init__(self, opt: OPT):
        data = PhotoMaps(opt, "val")
        if len(data) < 2 or data.items[0].image is None:
            raise UserError("the validation split has fewer than two photos")
        self.extractor, self.reference = evaluation.load_extractor(), None
        size = min(PICTURES, opt.max_dataset_size or PICTURES)
        batch = opt.batchSize if opt.loader_size else 1  # one where pictures' sizes differ
        self.opt = dataclasses.replace(opt, max_dataset_size=size, batchSize=batch)

    def measure(self, paint: Callable[[dict], paddle.Tensor]) -> float:
        """The FID of pictures.

        Args:
            paint: gives the pictures [N,3,H,W] in [-1,1] of a batch.
        """
        with make_loader(self.opt, "val") as loader:
            if self.reference is None:
                self.reference = image_statistics((batch["image"].numpy() for batch in loader), self.extractor)
            return cheap_fid((paint(batch).numpy() for batch in loader), self.reference, self.extractor)
