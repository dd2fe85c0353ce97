"""run.ipynb: stripped, valid, its commands known to the command lines; and executed from top to bottom, cut short."""

import json
import re
import shutil
import socket

import pytest
from common import ROOT

from model.command_line import parse_train, parse_val
from model.data.sample import ensure_sample
from tools.evaluate import parse as parse_evaluate

nbformat = pytest.importorskip("nbformat")

NOTEBOOK = ROOT / "run.ipynb"
COMMANDS = {"train.py": parse_train, "val.py": parse_val, "tools/evaluate.py": parse_evaluate}
# Three steps on a few pictures, which the preset's mode would complete to all; else as users run it.
SHORT = (
    "--dataset_mode coco_stuff --max_steps 3 --crop_size 64 --load_size 72 --ngf 4 --ndf 4 --z_dim 8 --num_D 1 "
    "--n_layers_D 2 --nThreads 0"
)


def cells(kind):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def parameters():
    """The values of the cell that users may change."""
    (cell,) = [cell for cell in cells("code") if "parameters" in cell.metadata.get("tags", ())]
    values = {}
    exec(cell.source, {}, values)
    return values


def test_is_valid_and_stripped():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}  # no name of the machine it was written on
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_every_text_is_in_both_languages():
    for cell in cells("markdown"):
        text = re.sub(r"`[^`]*`|\(http[^)]*\)", "", cell.source)
        body = text.split("\n", 1)[-1]
        assert re.search(r"[\u4e00-\u9fff]{4}", text), cell.source
        assert re.search(r"[A-Za-z]+ [a-z]+ [a-z]+", body), cell.source


def test_commands_exist():
    values = parameters() | {"folders": "a b --labels c", "SCORES": "out", "metrics": "fid,seg", "sheets": 2}
    values["options"] = "--metrics fid --dataset_mode sample --max_pictures 4 --sheets 2"
    found = set()
    for cell in cells("code"):
        for command, arguments in re.findall(r"!\{python\} (\S+) (.*)", cell.source):
            arguments = re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), arguments)
            assert (ROOT / command).is_file()
            COMMANDS[command](arguments.split())
            found.add(command)
    assert found == set(COMMANDS)
    for text in (cell.source for cell in cells("markdown")):
        for command, arguments in re.findall(r"`python ([^\s`]+) ([^`]*)`", text):
            if "--help" not in arguments:
                COMMANDS[command](arguments.split())


@pytest.mark.slow
def test_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    project = tmp_path / "project"
    for name in ("model", "tools"):
        shutil.copytree(ROOT / name, project / name)
    for name in ("train.py", "val.py", "requirements.txt", "run.ipynb"):
        shutil.copy(ROOT / name, project)
    ensure_sample(project / "dataset" / "sample", train=4, val=8)
    for variable, folder in (("IPYTHONDIR", "ipython"), ("JUPYTER_RUNTIME_DIR", "jupyter"), ("MPLCONFIGDIR", "mpl")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    notebook = nbformat.read(project / "run.ipynb", as_version=4)
    for i, cell in reversed(list(enumerate(notebook.cells))):
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source += f"\nTRAIN += ' {SHORT}'\nINSTALL = False\nPORT = {port}"
        elif "!{python}" in cell.source:  # IPython goes on after a command that failed
            notebook.cells.insert(i + 1, nbformat.v4.new_code_cell("assert _exit_code == 0"))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(project)}}).execute()

    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    pictures = {name for name, found in outputs.items() if any("image/png" in o.get("data", {}) for o in found)}
    assert pictures == {"data", "losses", "pictures", "panels", "styles", "photo-styles", "evaluate"}
    assert any("IFrame" in o["data"]["text/plain"] for o in outputs["visualdl"] if "data" in o)
    said = {name: "".join(o.get("text", "") for o in found) for name, found in outputs.items()}
    assert "done: 3 steps" in said["train"] and "wrote 8 pictures" in said["validate"]
    assert "pt_inception" in said["evaluate"] and "MADE-UP" in said["evaluate"]
    assert (project / "output_val" / "scores" / "metrics.json").is_file()
