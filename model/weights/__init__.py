"""Weights of this and other implementations: files, formats, names; the three public functions."""

__all__ = ["export_official", "load_official", "official_names"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from model.weights import networks  # with Paddle, which reading a file does without

    return getattr(networks, name)
