"""Trained models outside of Paddle's training code: export, and the engines that run an exported folder."""

FORMS = ("pattern", "dense")  # of a generator's graph
RUNTIMES = ("onnx", "paddle")
