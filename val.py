#!/usr/bin/env python3
"""Generate the validation split's pictures with a trained checkpoint: `python val.py`. All options: `--help`.

Networks and data are as the checkpoint's options say; nothing has to be given again. Exit status: 0, 2 after a mistake
in options, files or data, 130 after Ctrl-C.
"""

import dataclasses
import time
from contextlib import nullcontext
from pathlib import Path

from model.command_line import parse_val
from model.errors import UserError, run_cli, tell
from model.ops import ahead
from model.progress import progress_bar
from model.serving import is_exported


def write(batch, pictures, names, opt, val, folder, show):
    """Write a batch's pictures, one array for each style, and with --panels its label maps and photos beside them.

    Args:
        show: takes each picture, too: a film's next one.
    """
    from model.data.visual import preview_sheet, save_image, tensor_to_image

    for i, name in enumerate(names):
        for k, stack in enumerate(pictures):
            tail = f"_style{k:02d}" if val.style_steps else ""
            picture = tensor_to_image(stack[i])
            save_image(picture, folder / f"{name}{tail}.{val.suffix}")
            show(picture)
            for suffix in {"jpg", "png"} - {val.suffix}:  # of an earlier run: one picture of a name
                (folder / f"{name}{tail}.{suffix}").unlink(missing_ok=True)
        if val.panels:
            one = slice(i, i + 1)
            photo = batch["image"][one] if "image" in batch else None
            titles = ["label map", *["generated"] * len(pictures), "photo"]
            sheet = preview_sheet(batch["label"][one], [stack[one] for stack in pictures], photo, opt, titles=titles)
            save_image(sheet, folder.parent / "panels" / f"{name}.jpg")


def paint(synthesizer, loader, opt, val, folder):
    """Paint all of a loader's label maps into a folder, telling what, how fast and how long it takes."""
    from model.serving.film import film
    from model.serving.validation import Styles

    count = len(loader.dataset.items)
    frames = count * max(1, val.style_steps)
    if val.video and frames < 2:
        raise UserError(f"video {val.video}: a film of one picture; give more label maps, or --style_steps N")
    styles = Styles(val, synthesizer, has_photos=loader.dataset.items[0].image is not None)
    used = introduce(synthesizer, loader.dataset, opt, val, styles)
    begun = time.perf_counter()
    filming = film(val.video, val.fps) if val.video else nullcontext(lambda picture: None)
    with filming as show, progress_bar(count, "painting") as told:
        for batch in loader:
            pictures = [synthesizer.paint(batch, z) for z in styles(batch)]
            write(batch, pictures, loader.names(batch), opt, val, folder, show)
            told(len(batch["label"]))
    seconds = time.perf_counter() - begun
    each = f", each in {val.style_steps} styles," if val.style_steps else ""
    panels = f", panels to {folder.parent / 'panels'}" if val.panels else ""
    older = sum(path.is_file() for path in folder.rglob("*")) - frames
    beside = f" (beside {older} files of earlier runs)" if older > 0 else ""
    tell(f"wrote {count} pictures{each} to {folder}{beside}{panels} in {seconds:.0f} s, with {used}")
    if val.video:
        tell(f"wrote {val.video}: {frames} pictures, {frames / val.fps:.1f} s")


def introduce(synthesizer, dataset, opt, val, styles):
    """Tell what is about to be painted from what; returns the generator's file and step."""
    info, items = synthesizer.info, dataset.items
    used = info["file"] + ("" if info["step"] is None else f" (step {info['step']})")
    instances = "from maps" if items[0].instance else "no maps: edges run where classes meet"
    lines = {
        "generator": used,
        "label maps": f"{len(items)}, {val.phase} split of {opt.label_dir or opt.dataroot}",
        "not read": dataset.not_read,
        "photos": dataset.without_photos and f"none: {dataset.without_photos}",
        "instances": instances if synthesizer.uses_instances else "not used by this generator",
        "style": styles.name,
        "device": info["device"],
    }
    for name, value in lines.items():
        if value:
            tell(f"{name:<10} {value}")
    return used


def main(argv=None) -> int:
    """Generate and write pictures as the command line says."""
    val = parse_val(argv)
    if not is_exported(val.checkpoint):
        ahead.start(val.device)

    from model.serving.synthesizer import Synthesizer  # here, so that --help need not wait for Paddle
    from model.serving.validation import data_options, validation_loader

    synthesizer = Synthesizer.load(val.checkpoint, which=val.which_epoch, use_ema=val.use_ema, device=val.device)
    opt = data_options(synthesizer.opt, val)
    results = Path(val.results_dir)
    with validation_loader(opt, val.phase, val.spread) as loader:
        scoring = None
        if val.metric_names:
            from model.metrics.validation import Scoring

            scoring = Scoring(val, opt, loader.dataset)
        ahead.finish()
        paint(synthesizer, loader, opt, val, results / "pics")
    if scoring and scoring.synthesizer:
        of_data = ("dataroot", "label_dir", "image_dir", "instance_dir", "dataset_mode", "palette", "unknown_ids")
        same = {name: getattr(opt, name) for name in (*of_data, "max_dataset_size", "batchSize", "nThreads")}
        other_opt = dataclasses.replace(scoring.synthesizer.opt, **same)
        with validation_loader(other_opt, val.phase, val.spread) as loader:
            plain = dataclasses.replace(val, panels=False, video="")
            paint(scoring.synthesizer, loader, other_opt, plain, results / "other")
    if scoring:
        print(scoring.write(synthesizer.info["step"] or 0))
    return 0


if __name__ == "__main__":
    run_cli(main)
