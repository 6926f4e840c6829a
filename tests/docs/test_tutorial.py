"""The tutorial notebook: its cells run, one after the other, and give what they say."""

from __future__ import annotations

import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


def cells() -> list[str]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_without_results():
    found = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if "outputs" in cell]
    assert len(found) == 3 and not any(cell["outputs"] or cell["execution_count"] for cell in found)


def test_the_cells_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in cells():
        exec(compile(cell, NOTEBOOK.name, "exec"), names)
    frame = names["frame"]
    assert len(frame) == 3 and frame["r1_after"].min() < frame["r1_before"].max()
    assert "PGD-2" in capsys.readouterr().out
    assert Path("cmc.pdf").read_bytes().startswith(b"%PDF")
