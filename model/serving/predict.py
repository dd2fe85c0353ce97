"""Paint a label map with the exported model in this folder: needs onnxruntime and NumPy, for picture files Pillow too.

    python predict.py LABEL.png PICTURE.png [--instance FILE] [--seed N | --photo FILE] [--form dense]

LABEL.png holds class ids (grey or palette PNG) or the colours of model.json (RGB), and is read as training reads maps;
other sizes are scaled. Maps and the picture may be NumPy's .npy files instead: integers [H,W] or colours uint8 [H,W,3].
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from errors import UserError, run_cli, utf8
from neighbourhoods import array_classes, array_ids, graph_inputs, style_noise

HERE = Path(__file__).resolve().parent


def scaled(array, size):
    """A map [H,W] scaled to (height, width) by nearest neighbour."""
    rows, columns = (((np.arange(n) + 0.5) * (m / n)).astype(int) for n, m in zip(size, array.shape, strict=True))
    return array[rows[:, None], columns]


def given(path):
    """What is read of a map's path: an array of a .npy file; other files are read as pictures."""
    if not path.endswith(".npy"):
        return path
    try:
        return np.load(path)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is no array of NumPy ({error}): save it with numpy.save") from None


def read_label(path, model):
    """A label map as ids int32 [H,W]."""
    label, colours = given(path), np.array(model["colours"], np.uint8)
    if isinstance(label, np.ndarray):
        ids, strange = array_classes(label, colours, path)
    else:
        from reading import class_map

        ids, strange = class_map(label, colours, path)
    if strange is not None:
        example = bytes(strange[0]).hex()
        raise UserError(f"{path}: {len(strange)} pixels have colours that are not the model's, such as #{example}")
    if model["unknown"] is not None:
        ids[np.isin(ids, model["unknown_ids"])] = model["unknown"]
    if ids.min() < 0 or ids.max() >= len(model["names"]):
        raise UserError(f"{path}: ids {ids.min()}..{ids.max()}, expected 0..{len(model['names']) - 1}")
    return scaled(ids, model["size"])


def read_instance(path, model):
    """An instance map as ids int32 [H,W]."""
    instance = given(path)
    if isinstance(instance, np.ndarray) and instance.ndim == 2:
        return scaled(array_ids(instance, path), model["size"])
    from reading import instance_ids

    return scaled(instance_ids(instance, path), model["size"])


def session(file):
    """An onnxruntime session on all cores that this process may use."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return onnxruntime.InferenceSession(utf8(HERE / file, "onnxruntime"), options, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("label", help="label map: PNG or .npy of class ids, or of the model's colours")
    parser.add_argument("picture", help="file to write: PNG, JPEG or .npy")
    parser.add_argument("--instance", help="instance map: PNG or .npy of ids; without it edges run where classes meet")
    parser.add_argument("--seed", type=int, help="draws a style; without it the style is the mean")
    parser.add_argument("--photo", help="takes its style, if the model has an encoder")
    parser.add_argument("--form", choices=("pattern", "dense"), help="default: pattern, where the folder has it")
    args = parser.parse_args()
    model = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
    generators = model["onnx"]["generator"]
    form = args.form or next(iter(generators))
    if form not in generators or (args.photo and "encoder" not in model["onnx"]):
        raise UserError("this folder has no such form of the generator, or no encoder")

    label = read_label(args.label, model)[None]
    instance = None
    if model["uses_instances"]:
        instance = read_instance(args.instance, model)[None] if args.instance else label
    if form == "pattern":
        inputs = graph_inputs(label, instance, model["spade_sizes"], model["kernel_size"], len(model["names"]))
    else:
        inputs = {"label": label} if instance is None else {"label": label, "instance": instance}
    if model["z_dim"]:
        z = np.zeros(model["z_dim"], np.float32) if args.seed is None else style_noise(args.seed, 0, model["z_dim"])
        if args.photo:
            from pictures import style_photo
            from PIL import Image

            encoder = session(model["onnx"]["encoder"])
            photo = style_photo(args.photo).convert({1: "L", 3: "RGB"}[encoder.get_inputs()[0].shape[1]])
            photo = np.atleast_3d(photo.resize(model["size"][::-1], Image.Resampling.BICUBIC))
            pixels = photo.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(127.5) - 1
            z = encoder.run(["mean"], {"photo": pixels})[0][0]
        inputs["style"] = z[None]
    (picture,) = session(generators[form]).run(["picture"], inputs)  # [1,3,H,W] in [-1,1]
    pixels = np.rint((picture[0].clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
    if args.picture.endswith(".npy"):
        np.save(args.picture, pixels)
    else:
        from PIL import Image

        Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(args.picture)


if __name__ == "__main__":
    run_cli(main)
