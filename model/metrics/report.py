"""Scores written down: tables, JSON, VisualDL."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model.errors import UserError, printable, tell, utf8
from model.files import replacing
from model.metrics.settings import COLUMNS, DIGITS, OF_FEATURES


def markdown(result: Mapping[str, Any]) -> str:
    """The rows of a table, one a picture set, as papers have them; the protocol is in the last columns."""
    keys = [key for key in COLUMNS if any(key in row for row in result["rows"].values())]
    protocol = result["protocol"]
    titles = ["pictures of", *(COLUMNS[key] for key in keys), "count", "size", "reference"]
    lines = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]
    for name, row in result["rows"].items():
        counts = protocol["generated"].get(name)
        cells = [name + (" (MADE-UP WEIGHTS)" if "warning" in result else "")]
        cells += ["" if key not in row else f"{row[key]:.{DIGITS.get(key, 4)}f}" for key in keys]
        cells += [str(counts["pictures"]) if counts else "", protocol["image_size"]]
        cells += [f"{protocol['reference']['pictures']} of {protocol['reference']['folder']}"]
        lines.append(f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def class_table(result: Mapping[str, Any], classes: int | None = None) -> str:
    """The per-class IoU as text, the most frequent classes first, those without a pixel of truth left out."""
    sources = [name for name in result["rows"] if result["classes"] and name in result["classes"][0]]
    counted = [(max(entry[name]["pixels"] for name in sources), entry) for entry in result["classes"]]
    counted = sorted(((pixels, entry) for pixels, entry in counted if pixels), key=lambda pair: -pair[0])
    total = sum(pixels for pixels, _ in counted)
    width = max((len(entry["name"]) for _, entry in counted), default=5)
    lines = [f"{'class':<{width}}  share  " + "  ".join(f"IoU {name}" for name in sources)]
    for pixels, entry in counted[:classes]:
        ious = ("-" if entry[name]["iou"] is None else f"{entry[name]['iou']:.4f}" for name in sources)
        cells = (f"{iou:>{len(name) + 4}}" for iou, name in zip(ious, sources, strict=True))
        lines.append(f"{entry['name']:<{width}}  {pixels / total:5.1%}  " + "  ".join(cells))
    if classes is not None and len(counted) > classes:
        lines.append(f"and {len(counted) - classes} more in metrics.json")
    return "\n".join(lines)


def protocol_text(result: Mapping[str, Any]) -> str:
    """The protocol as indented lines."""

    def lines(entry: Mapping[str, Any], indent: str) -> Iterator[str]:
        for key, value in entry.items():
            inner = isinstance(value, Mapping)
            yield f"{indent}{key}:" if inner else f"{indent}{key}: {printable(value)}"
            yield from lines(value, indent + "  ") if inner else ()

    return "\n".join(lines(result["protocol"], "  "))


def text(result: Mapping[str, Any]) -> str:
    """All of a result for a terminal: the warning if there is one, the table, the classes, the protocol."""
    warning = [result["warning"]] if "warning" in result else []
    classes = [class_table(result, classes=15)] if result["classes"] else []
    return "\n\n".join([*warning, markdown(result), *classes, "protocol:\n" + protocol_text(result), *warning])


def log_visualdl(result: Mapping[str, Any], folder: str | os.PathLike, step: int = 0) -> None:
    """Scores as VisualDL scalars, and with the protocol as one line of its hyper-parameter page.

    Nothing of made-up weights is logged: a curve carries no warning.
    """
    if "warning" in result:
        return
    try:
        from visualdl import LogWriter
    except ImportError as error:
        raise UserError(f"VisualDL does not work here ({error}): pip install visualdl") from None
    try:
        utf8(Path(folder).absolute(), "VisualDL")
    except UserError as error:
        tell(f"no VisualDL records are written: {error}")
        return
    protocol = result["protocol"]
    for name, row in result["rows"].items():
        parameters = {
            "pictures": name,
            "image_size": protocol["image_size"],
            "reference": printable(f"{protocol['reference']['pictures']} of {protocol['reference']['folder']}"),
        }
        for metric in (*OF_FEATURES, "segmentation"):
            if metric in protocol:
                parameters[f"{metric}_weights"] = protocol[metric]["weights_sha256"][:16]
        with LogWriter(logdir=str(Path(folder, name))) as writer:
            tags = {f"metrics/{key}": value for key, value in row.items()}
            writer.add_hparams(hparams_dict=parameters, metrics_list=list(tags))
            for tag, value in tags.items():
                writer.add_scalar(tag=tag, value=value, step=step)


def write_results(
    result: Mapping[str, Any], output_dir: str | os.PathLike, log_dir: str | os.PathLike | None = None, step: int = 0
) -> None:
    """Write `metrics.json` and `metrics.md` to a folder, and VisualDL records to another if it is given."""
    notes = [result["warning"], ""] if "warning" in result else []
    lines = [*notes, markdown(result), "", "Protocol:", "", "```", protocol_text(result), "```"]
    texts = {"metrics.json": json.dumps(result, indent=1, allow_nan=False), "metrics.md": "\n".join(lines)}
    for name, content in texts.items():
        with replacing(Path(output_dir, name)) as temporary:
            temporary.write_text(content + "\n", encoding="utf-8")
    if log_dir is not None:
        log_visualdl(result, log_dir, step)
