"""Scores of pictures: the numbers, and `evaluation.evaluate`, which computes them for picture folders."""
