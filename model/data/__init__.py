"""What training reads: lists of files, photos and maps, their transforms and batches; `transform` is public."""

from model.data.preprocess import transform

__all__ = ["transform"]
