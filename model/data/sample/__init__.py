"""The built-in sample data set: painted landscapes with label and instance maps."""

from model.data.sample.files import ensure_sample
from model.data.sample.scenes import make_scene

__all__ = ["ensure_sample", "make_scene"]
