"""Scores of pictures: the networks, the numbers, and `evaluate`, which computes them for picture folders."""

import importlib

_HOME = {
    "DeepLabV2": "model.judges.deeplab",
    "FIDInception": "model.judges.inception",
    "FeatureExtractor": "model.metrics.fid",
    "FeatureStatistics": "model.metrics.fid",
    "InputFormat": "model.metrics.predictors",
    "Manifold": "model.metrics.samples",
    "Settings": "model.metrics.settings",
    "cheap_fid": "model.metrics.fid",
    "evaluate": "model.metrics.evaluation",
    "file_statistics": "model.metrics.fid",
    "frechet_distance": "model.metrics.fid",
    "kid": "model.metrics.samples",
    "load_deeplab": "model.metrics.evaluation",
    "load_extractor": "model.metrics.evaluation",
    "load_predictor": "model.metrics.predictors",
    "precision_recall": "model.metrics.samples",
    "text": "model.metrics.report",
    "write_results": "model.metrics.report",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    # Names load on first use: most of the project imports one network only.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
