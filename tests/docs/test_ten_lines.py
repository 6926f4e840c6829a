"""docs/victims.md: from a module of one's own to its first table, in ten lines."""

from __future__ import annotations

from pages import DOCS, blocks

SMALL = {
    "metric_ifgsm": "metric_ifgsm[steps=1]",
    "fsam_uap": "fsam_uap[evaluations=8,batch=4,module_steps=1]",
}


def test_a_module_comes_to_its_first_table_in_ten_lines(at_home):
    (text,) = (block.text for block in blocks(DOCS / "victims.md") if "vbench.wrap(" in block.text)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 10
    for name, small in SMALL.items():
        assert f'"{name}"' in text
        text = text.replace(f'"{name}"', f'"{small}"')
    names: dict[str, object] = {}
    exec(text, names)
    labels = [record.label.partition("[")[0] for record in names["table"]]
    assert labels == ["noise", *SMALL] and not names["table"].failures
    assert len(names["victim"].stages) == 9
