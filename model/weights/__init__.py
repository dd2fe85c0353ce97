"""Weights of this and other implementations: files, formats, names; the three public functions."""

from model.weights.files import export_official, load_official, official_names

__all__ = ["export_official", "load_official", "official_names"]
