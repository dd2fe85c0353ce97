#!/usr/bin/env python3
"""Generate the validation split's pictures with a trained checkpoint: `python val.py`. All options: `--help`.

Networks and data are as the checkpoint's options say; nothing has to be given again. Exit status: 0, 2 after a mistake
in options, files or data, 130 after Ctrl-C.
"""

import dataclasses
import time
from pathlib import Path

from model.command_line import parse_val
from model.errors import UserError, printable, run_cli
from model.progress import progress_bar

FOLDERS = ("dataroot", "label_dir", "image_dir", "instance_dir")


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
    if not val.video:
        _paint(synthesizer, loader, opt, val, folder, show=lambda picture: None)
        return
    from model.serving.film import film

    frames = len(loader.dataset) * max(1, val.style_steps)
    if frames < 2:
        raise UserError(f"video {val.video}: a film of one picture; give more label maps, or --style_steps N")
    with film(val.video, val.fps) as show:
        _paint(synthesizer, loader, opt, val, folder, show)
    print(f"wrote {printable(val.video)}: {frames} pictures, {frames / val.fps:.1f} s", flush=True)


def _paint(synthesizer, loader, opt, val, folder, show):
    from model.serving.validation import Styles

    items = loader.dataset.items
    styles = Styles(val, synthesizer, has_photos=items[0].image is not None)
    if not synthesizer.uses_instances:
        instances = "not used by this generator"
    else:
        instances = "from maps" if items[0].instance else "no maps: edges run where classes meet"
    step = synthesizer.info["step"]
    used = printable(synthesizer.info["file"]) + ("" if step is None else f" (step {step})")
    unread, without_photos = loader.dataset.not_read, loader.dataset.without_photos
    print(
        f"generator  {used}\nlabel maps {len(items)}, {val.phase} split of {printable(opt.label_dir or opt.dataroot)}\n"
        + (f"not read   {printable(unread)}\n" if unread else "")
        + (f"photos     none: {printable(without_photos)}\n" if without_photos else "")
        + f"instances  {instances}\nstyle      {styles.name}\ndevice     {synthesizer.info['device']}",
        flush=True,
    )
    done, begun = 0, time.perf_counter()
    with progress_bar(len(items), "painting") as told:
        for batch in loader:
            pictures = [synthesizer.paint(batch, z) for z in styles(batch)]
            write(batch, pictures, loader.names(batch), opt, val, folder, show)
            done += len(batch["label"])
            told(len(batch["label"]))
    each = f", each in {val.style_steps} styles," if val.style_steps else ""
    panels = f", panels to {printable(folder.parent / 'panels')}" if val.panels else ""
    seconds = time.perf_counter() - begun
    older = sum(path.is_file() for path in folder.rglob("*")) - done * (val.style_steps or 1)
    beside = f" (beside {older} files of earlier runs)" if older > 0 else ""
    where = f"{printable(folder)}{beside}{panels}"
    print(f"wrote {done} pictures{each} to {where} in {seconds:.0f} s, with {used}", flush=True)


def main(argv=None) -> int:
    """Generate and write pictures as the command line says."""
    val = parse_val(argv)

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
        paint(synthesizer, loader, opt, val, results / "pics")
    if scoring and scoring.synthesizer:
        shared = (*FOLDERS, "dataset_mode", "palette", "unknown_ids", "max_dataset_size", "batchSize", "nThreads")
        same = {name: getattr(opt, name) for name in shared}
        other_opt = dataclasses.replace(scoring.synthesizer.opt, **same)
        with validation_loader(other_opt, val.phase, val.spread) as loader:
            plain = dataclasses.replace(val, panels=False, video="")
            paint(scoring.synthesizer, loader, other_opt, plain, results / "other")
    if scoring:
        print(scoring.write(synthesizer.info["step"] or 0))
    return 0


if __name__ == "__main__":
    run_cli(main)
