"""Scores of pictures: the networks, the numbers, and `evaluate`, which computes them for picture folders."""

import importlib

_NAMES = {
    "model.judges.deeplab": ["DeepLabV2"],
    "model.judges.inception": ["FIDInception"],
    "model.metrics.evaluation": ["evaluate", "load_deeplab", "load_extractor"],
    "model.metrics.fid": ["FeatureExtractor", "FeatureStatistics", "cheap_fid", "file_statistics", "frechet_distance"],
    "model.metrics.predictors": ["InputFormat", "load_predictor"],
    "model.metrics.report": ["text", "write_results"],
    "model.metrics.samples": ["Manifold", "kid", "precision_recall"],
    "model.metrics.settings": ["Settings"],
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name):
    # Names load on first use: most of the project imports one network only.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
