#!/usr/bin/env python3
"""Generate the validation split's pictures with a trained checkpoint: `python val.py`. All options: `--help`.

Networks and data are as the checkpoint's options say; nothing has to be given again. Exit status: 0, 2 after a mistake
in options, files or data, 130 after Ctrl-C.
"""

import dataclasses
import os
import time
from pathlib import Path

from model.errors import UserError, run_cli
from model.options import parse_val


def find_judges(val, items, pics):
    """The networks that --metrics needs and the folders that they read, found before hours are spent on pictures."""
    from model.metrics import load_deeplab, load_extractor

    if val.style_steps:
        raise UserError(
            f"metrics {val.metrics} and style_steps {val.style_steps} exclude each other: scores need one "
            "picture for each photo"
        )
    if items[0].image is None:
        raise UserError(f"metrics {val.metrics} need the photos, and this split has label maps alone")
    own = {f"{item.name}.jpg" for item in items}
    others = [path.name for path in pics.glob("*") if path.name not in own]
    if others:
        raise UserError(
            f"{pics} holds {len(others)} pictures of other runs ({others[0]}), which would be scored too: "
            "remove them or give another --results_dir"
        )
    folders = [
        os.path.commonpath([os.path.dirname(path) for path in paths])
        for paths in ([item.image for item in items], [item.label for item in items])
    ]
    return {
        "real_dir": folders[0], "labels_dir": folders[1] if "seg" in val.metric_names else None,
        "metrics": val.metric_names, "max_pictures": val.how_many,
        "extractor": load_extractor() if "fid" in val.metric_names else None,
        "predictor": load_deeplab() if "seg" in val.metric_names else None,
    }  # fmt: skip


def write(batch, pictures, names, opt, val):
    """Write a batch's pictures, one array for each style, and with --panels its label maps and photos beside them."""
    from model.visual import preview_sheet, save_image, tensor_to_image

    folder = Path(val.results_dir)
    for i, name in enumerate(names):
        for k, stack in enumerate(pictures):
            tail = f"_style{k:02d}" if val.style_steps else ""
            save_image(tensor_to_image(stack[i]), folder / "pics" / f"{name}{tail}.jpg")
        if val.panels:
            one = slice(i, i + 1)
            photo = batch["image"][one] if "image" in batch else None
            titles = ["label map", *["generated"] * len(pictures), "photo"]
            sheet = preview_sheet(batch["label"][one], [stack[one] for stack in pictures], photo, opt, titles=titles)
            save_image(sheet, folder / "panels" / f"{name}.jpg")


def main(argv=None) -> int:
    """Generate and write pictures as the command line says."""
    val = parse_val(argv)

    from model.inference import Painter, Styles, validation_loader  # here, so that --help need not wait for Paddle
    from model.session import set_device

    device = set_device(val.device)
    painter = Painter.load(val.checkpoint, val.which_epoch, val.use_ema)
    used = f"{painter.file}" + ("" if painter.step is None else f" (step {painter.step})")
    changes = {
        "dataroot": val.dataroot,
        "label_dir": val.label_dir,
        "image_dir": val.image_dir,
        "instance_dir": val.instance_dir,
        "max_dataset_size": val.how_many,
    }
    changes = {name: value for name, value in changes.items() if value}
    opt = dataclasses.replace(painter.opt, **changes, batchSize=val.batchSize, nThreads=val.nThreads)
    results = Path(val.results_dir)
    with validation_loader(opt, val.phase) as loader:
        items = loader.dataset.items
        styles = Styles(val, painter, has_photos=items[0].image is not None)
        judges = find_judges(val, items, results / "pics") if val.metric_names else None
        print(
            f"generator  {used}\nlabel maps {len(items)}, {val.phase} split of {opt.label_dir or opt.dataroot}\n"
            f"style      {styles.name}\ndevice     {device}",
            flush=True,
        )
        done, begun = 0, time.perf_counter()
        told = begun
        for batch in loader:
            write(batch, [painter.paint(batch, z) for z in styles(batch)], loader.names(batch), opt, val)
            done, now = done + len(batch["label"]), time.perf_counter()
            if now - told > 5:
                told, speed = now, done / (now - begun)
                print(
                    f"{done}/{len(items)} pictures, {speed:.2f} img/s, {(len(items) - done) / speed:.0f} s left",
                    flush=True,
                )
    each = f", each in {val.style_steps} styles," if val.style_steps else ""
    panels = f", panels to {results / 'panels'}" if val.panels else ""
    seconds = time.perf_counter() - begun
    print(f"wrote {done} pictures{each} to {results / 'pics'}{panels} in {seconds:.0f} s, with {used}")
    if judges:
        from model.metrics import evaluate, text, write_results

        result = evaluate(results / "pics", opt=opt, cache_dir=results / "metrics_cache", **judges)
        write_results(result, results, results / "log", painter.step or 0)
        print(f"{text(result)}\nscores are in {results / 'metrics.md'} and metrics.json")
    return 0


if __name__ == "__main__":
    run_cli(main)
