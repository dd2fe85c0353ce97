"""FID and segmentation scores: the networks, the numbers, and `evaluate`, which computes them for picture folders."""

import importlib

_HOME = {
    "DeepLabV2": "deeplab",
    "FIDInception": "inception",
    "FeatureExtractor": "fid",
    "FeatureStatistics": "fid",
    "InputFormat": "segmentation",
    "Settings": "settings",
    "cheap_fid": "fid",
    "evaluate": "evaluation",
    "file_statistics": "fid",
    "frechet_distance": "fid",
    "load_deeplab": "evaluation",
    "load_extractor": "evaluation",
    "load_predictor": "segmentation",
    "text": "report",
    "write_results": "report",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    # Names load on first use: most of the project imports one network only.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
