"""What training reads: lists of files, photos and maps, their transforms and batches; `transform` is public."""


def __getattr__(name):  # on first use: option parsing reads parts of this folder and must not wait for Paddle
    if name != "transform":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from model.data.preprocess import transform

    return transform
