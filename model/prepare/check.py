"""Look at a whole data set before training: everything that would stop a run a day later, or spoil it, and the way out.

`examine` reads one picture with its maps, in worker processes; `Report` collects what they found and recognises what
only the whole shows: another release of the data set, ids of another kind, the same photos in both splits.
"""

import functools
import json
import os
import time

import numpy as np
from PIL import Image

from model.data.dataset import evenly
from model.data.label_ids import as_channels, id_ranges, reading, unknown_ids
from model.data.listing import Item, list_files
from model.data.palettes import Palette, colorize, names_and_colours, read_palette
from model.data.pictures import read_photo
from model.data.reading import read_ids
from model.data.visual import grid, legend
from model.data.workers import in_order
from model.errors import UserError, listed, printable
from model.files import replacing
from model.neighbourhoods import instance_edges
from model.options import OPT
from model.prepare.examination import Record, Split, examine
from model.prepare.faults import Finding
from model.progress import progress_bar


class Report:
    """A data set looked at: its splits, the findings about them, and the forms to show them in."""

    def __init__(self, opt: OPT, splits: list[Split], palette: Palette | None, test: list[Record], seconds: float):
        self.opt, self.splits, self.palette, self.test, self.seconds = opt, splits, palette, test, seconds
        self.names, self.colours = names_and_colours(opt, palette)
        self.between: list[Finding] = []
        for split in splits:
            split.judge()
        records = {split.phase: split.records for split in splits}
        if len(splits) == 2 and self._are_one(*splits):
            del records[splits[1].phase]
        self._find_copies(records | ({"test": test} if test else {}))
        found = [finding for split in splits for finding in split.findings] + self.between
        self.findings = sorted(found, key=lambda finding: not finding.stops)
        self.stops = any(finding.stops for finding in found)  # or ruins a run

    def _are_one(self, train: Split, val: Split) -> bool:
        """Whether both are the same files, as is then told; else tells the classes that only one has."""
        if train.items and [item.label for item in train.items] == [item.label for item in val.items]:
            self.between.append(Finding("one_split", "both"))
            return True
        new = sorted(val.pixels.keys() - train.pixels.keys())
        if new and train.pixels and not (train.release or val.release):
            self.between.append(Finding("new_classes", "both", listed(map(self.name, new), 12)))
        return False

    def _find_copies(self, records: dict[str, list[Record]]) -> None:
        """Find photos that are twice in their split, or in an earlier one too."""
        earlier: dict[bytes, str] = {}
        for phase, photos in records.items():
            files, first = [(record.item.image, record.digest) for record in photos], {}
            twins = [(path, f"is {first[d]}") for path, d in files if d and first.setdefault(d, path) != path]
            leaked = [(path, f"is {earlier[d]}") for path, d in files if d in earlier]
            leak = ("leaked_to_test", "test") if phase == "test" else ("leaked", "both")
            for (code, where), found in ((("twins", phase), twins), (leak, leaked)):
                if found:
                    self.between.append(Finding(code, where, "", found, len(files)))
            earlier = {d: f"{phase}'s {path}" for d, path in first.items()} | earlier

    def name(self, number: int) -> str:
        """A class's name."""
        if 0 <= number < self.opt.label_nc + self.opt.contain_dontcare_label:
            return self.names[number]
        return "unlabeled" if number in unknown_ids(self.opt) else f"id {number}"

    def text(self, classes: int = 20) -> str:
        """The report for people: table of the splits, classes by share of pixels, findings with their ways out."""
        parts = [self._table(), *[self._classes(split, classes) for split in self.splits if split.pixels][:1]]
        agree = not any(finding.code == "encodings_differ" for finding in self.findings)
        if agree and self.opt.dataset_mode == "custom" and any(split.pixels for split in self.splits):
            ids = {i for split in self.splits for i in split.pixels}
            options, unlabelled = reading(ids, self.palette.names if self.palette else {}, self.opt)
            told = f" ({id_ranges(unlabelled)} unlabelled)" if unlabelled else ""
            parts.append(f"ids found    {id_ranges(ids)}{told}: train with {options}")
        parts += [_told(finding) for finding in self.findings]
        wrong = sum(finding.stops for finding in self.findings)
        warnings = len(self.findings) - wrong
        verdict = f"{_some(wrong, 'fault')} would stop or spoil a training run" if wrong else "nothing would stop a run"
        parts.append(f"{verdict}; {_some(warnings, 'warning')}" if warnings else verdict)
        return "\n\n".join(parts)

    def _table(self) -> str:
        rows = [("split", "pictures", "photos", "inst", "width", "height", "ids", "unlabelled")]
        for split in self.splits:
            sizes = np.array([record.size for record in split.records if record.size]).reshape(-1, 2)
            width, height = (f"{side.min()}..{side.max()}" if len(side) else "-" for side in sizes.T)
            ids = f"{min(split.pixels)}..{max(split.pixels)} ({len(split.pixels)})" if split.pixels else "-"
            photos = sum(item.image is not None for item in split.items)
            instances = sum(item.instance is not None for item in split.items)
            share = f"{split.unknown_share:.1%}" if split.pixels else "-"
            row = (split.phase, len(split.records), photos, instances, width, height, ids, share)
            rows.append(tuple(map(str, row)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
        if self.test:
            lines.append(f"{'test':>{widths[0]}}  {len(self.test)} photos, looked for in the others")
        return "\n".join(lines)

    def _classes(self, split: Split, count: int) -> str:
        total, ranked = sum(split.pixels.values()), split.pixels.most_common()
        lines = [f"{'id':>6}  {'class in ' + split.phase:24}{'pixels':>8}{'pictures':>10}"]
        for number, pixels in ranked[:count]:
            share, seen = pixels / total, split.pictures[number] / len(split.records)
            bar = "#" * round(40 * share / (ranked[0][1] / total))
            lines.append(f"{number:6}  {self.name(number)[:23]:24}{share:8.1%}{seen:10.1%}  {bar}".rstrip())
        if len(ranked) > count:
            rest = sum(pixels for _, pixels in ranked[count:]) / total
            lines.append(f"{'':6}  {f'and {len(ranked) - count} more':24}{rest:8.1%}")
        ids = range(self.opt.label_nc + (self.opt.dataset_mode == "ade20k"))
        classes = [i for i in ids if i not in unknown_ids(self.opt)[1:]]
        never = [i for i in classes if i not in split.pixels]
        if never:
            lines.append(f"{'':6}  never: {len(never)} of {len(classes)} classes ({listed(map(self.name, never))})")
        return "\n".join(lines)

    def save(self, path: str | os.PathLike) -> None:
        """Write the report for programs as JSON, whole or not at all."""
        content = {
            "dataset_mode": self.opt.dataset_mode,
            "dataroot": self.opt.dataroot or self.opt.label_dir,
            "stops": self.stops,
            "seconds": round(self.seconds, 1),
            "splits": {
                split.phase: {
                    "pictures": len(split.records),
                    "unlabelled": split.unknown_share,
                    "classes": {
                        str(i): {"name": self.name(i), "pixels": pixels, "pictures": split.pictures[i]}
                        for i, pixels in sorted(split.pixels.items())
                    },
                }
                for split in self.splits
            },
            "findings": [
                {"code": f.code, "stops": f.stops, "split": f.split, "what": f.text, "way_out": f.way_out,
                 "note": f.note, "files": [file for file, _ in f.files], "details": [d for _, d in f.files if d]}
                for f in self.findings
            ],
        }  # fmt: skip
        with replacing(path) as temporary:
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # JSON's own escape of a surrogate

    def sheet(self, count: int = 8, side: int = 192) -> Image.Image | None:
        """Contact sheet: photo, label map in colours, instance borders, class names; None without a readable picture.

        Args:
            count: pictures, evenly spread over the first split that has any.
            side: pixels of the longer side of each.
        """
        for split in self.splits:
            sound = [record.item for record in split.records if record.size]
            if rows := [row for item in evenly(sound, count) if (row := self._row(item, side))]:
                titles = ["photo", "label map"] + ([] if self.opt.no_instance else ["instances"]) + ["classes"]
                return grid(rows, titles)
        return None

    def _row(self, item: Item, side: int) -> list | None:
        try:
            label = read_ids(item.label, palette=self.palette)
            size = tuple(max(1, round(length * side / max(label.size))) for length in label.size)
            photo = read_photo(item.image).resize(size) if item.image else Image.new("RGB", size, (230, 230, 230))
            instance = read_ids(item.instance, coded=True) if item.instance else None
        except UserError:
            return None
        ids = as_channels(np.asarray(label.resize(size, Image.Resampling.NEAREST)), self.opt)
        row = [photo, colorize(ids, self.colours)]
        if not self.opt.no_instance:
            borders = np.zeros(size[::-1], bool)  # where neighbours belong to different instances
            if instance is not None:
                borders = instance_edges(np.asarray(instance.resize(size, Image.Resampling.NEAREST))[None])[0]
            row.append(Image.fromarray(borders * np.uint8(255)))
        return [*row, legend(ids, self.names, self.colours, size[1], 150)]


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _told(finding: Finding, shown: int = 3) -> str:
    lines = [f"{'FAULT' if finding.stops else 'warning'} {finding.code} ({finding.split}): {finding.text}"]
    if finding.note:
        lines.append(f"  {finding.note}")
    for file, detail in finding.files[:shown]:
        lines.append(printable(f"  {file}: {detail}" if detail else f"  {file}"))
    if len(finding.files) > shown:
        lines.append(f"  and {len(finding.files) - shown} more")
    if finding.way_out:
        lines.append(f"  -> {finding.way_out}")
    return "\n".join(lines)


def _test_photos(opt: OPT, splits: list[Split]) -> list[Item]:
    """The photos of the data set's test split, where it has one of its own; its maps need not be there or of use."""
    try:
        listing = list_files(opt, "test").get("image")
    except UserError:
        return []
    undivided = {item.image for split in splits for item in split.items}  # a folder without splits is each of them
    paths = sorted(set(listing.files.values()) - undivided) if listing else []
    return [Item("", "", path) for path in paths]


def check_dataset(
    opt: OPT,
    phases: tuple[str, ...] = ("train", "val"),
    *,
    processes: int = 1,
    max_pictures: int | None = None,
    quiet: bool = False,
) -> Report:
    """Examine every picture of a data set.

    Args:
        opt: what training would be given; the options of the data are read.
        phases: of train, val, test; with several, the photos of test are compared with theirs in any case.
        processes: that read pictures.
        max_pictures: of each split, evenly spread; None for all.
        quiet: no progress bars.

    Raises:
        UserError: the palette file cannot be used.
    """

    def examined(items: list[Item], phase: str) -> list[Record]:
        records = []
        with progress_bar(len(items), phase, not quiet) as told:
            for record in in_order(functools.partial(examine, opt=opt, palette=palette), items, processes):
                records.append(record)
                told(1)
        return records

    begun = time.perf_counter()
    palette = read_palette(opt.palette) if opt.palette else None
    splits = [Split(opt, phase) for phase in phases]
    test = _test_photos(opt, splits) if len(phases) > 1 else []
    for split in splits:
        split.items = evenly(split.items, max_pictures or len(split.items))
        split.records = examined(split.items, split.phase)
    if test:
        test = examined(evenly(test, max_pictures or len(test)), "test")
    return Report(opt, splits, palette, test, time.perf_counter() - begun)
