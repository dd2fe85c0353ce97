"""Paint a label map with the exported model in this folder: needs onnxruntime and NumPy, for picture files Pillow too.

    python predict.py LABEL.png PICTURE.png [--instance FILE] [--seed N | --photo FILE] [--form dense]

LABEL.png holds class ids (grey or palette PNG) or the colours of model.json (RGB); other sizes are scaled. Maps and the
picture may be NumPy's .npy files instead: integers [H,W] or colours uint8 [H,W,3].
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from spade_inputs import graph_inputs, style_noise

HERE = Path(__file__).resolve().parent


def read_map(path, size):
    """The ids, or RGB colours, of a map in a file, scaled to (height, width) by nearest neighbour."""
    if path.endswith(".npy"):
        array = np.load(path)
    else:
        from PIL import Image

        array = np.asarray(Image.open(path))
    rows, columns = (((np.arange(n) + 0.5) * (m / n)).astype(int) for n, m in zip(size, array.shape[:2], strict=True))
    return array[rows[:, None], columns]


def read_label(path, model):
    """A label map as ids int32 [H,W]."""
    ids = read_map(path, model["size"])
    if ids.ndim == 3:
        code = np.array([65536, 256, 1])
        colours = {int(code @ colour): i for i, colour in reversed(list(enumerate(model["colours"])))}
        present, place = np.unique(ids[..., :3].astype(int) @ code, return_inverse=True)
        strange = [f"#{colour:06x}" for colour in present.tolist() if colour not in colours]
        if strange:
            raise SystemExit(f"error: {path}: {len(strange)} colours are not the model's, such as {strange[0]}")
        ids = np.array([colours[colour] for colour in present.tolist()])[place].reshape(ids.shape[:2])
    ids = ids.astype(np.int32)
    if model["unknown"] is not None:
        ids[np.isin(ids, model["unknown_ids"])] = model["unknown"]
    if ids.min() < 0 or ids.max() >= len(model["names"]):
        raise SystemExit(f"error: {path}: ids {ids.min()}..{ids.max()}, expected 0..{len(model['names']) - 1}")
    return ids


def session(file):
    """An onnxruntime session on all cores that this process may use."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return onnxruntime.InferenceSession(str(HERE / file), options, providers=["CPUExecutionProvider"])


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
        raise SystemExit("error: this folder has no such form of the generator, or no encoder")

    label = read_label(args.label, model)[None]
    instance = None
    if model["uses_instances"]:
        instance = read_map(args.instance, model["size"]).astype(np.int32)[None] if args.instance else label
    if form == "pattern":
        inputs = graph_inputs(label, instance, model["spade_sizes"], model["kernel_size"], len(model["names"]))
    else:
        inputs = {"label": label} if instance is None else {"label": label, "instance": instance}
    if model["z_dim"]:
        z = np.zeros(model["z_dim"], np.float32) if args.seed is None else style_noise(args.seed, 0, model["z_dim"])
        if args.photo:
            from PIL import Image

            photo = Image.open(args.photo).convert("RGB").resize(model["size"][::-1], Image.Resampling.BICUBIC)
            pixels = np.asarray(photo, np.float32).transpose(2, 0, 1)[None] / np.float32(127.5) - 1
            z = session(model["onnx"]["encoder"]).run(["mean"], {"photo": pixels})[0][0]
        inputs["style"] = z[None]
    (picture,) = session(generators[form]).run(["picture"], inputs)  # [1,3,H,W] in [-1,1]
    pixels = np.rint((picture[0].clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
    if args.picture.endswith(".npy"):
        np.save(args.picture, pixels)
    else:
        from PIL import Image

        Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(args.picture)


if __name__ == "__main__":
    main()
