"""Files and inlined SVG: formats, sizes, equal bytes, no clash on a page, no display, no global state."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from fabricated import record

from vbench.core.errors import BadInput
from vbench.reports.figures import FIGURES, cmc, draw, drawable, find
from vbench.reports.figures.style import Legend, encode

MANY = [
    record(attack, first, victim, budget, surrogate=surrogate)
    for attack, first in (("uap", 6), ("pgd", 12))
    for victim in ("agw", "ddag")
    for budget in ("4/255", "8/255")
    for surrogate in ("", "deen")
]
STARTS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.mark.parametrize("style", STARTS)
@pytest.mark.slow
def test_files_have_their_format_and_equal_figures_equal_bytes(style):
    first, second = (encode(cmc.draw(MANY[:2]), style) for _ in range(2))
    assert first.startswith(STARTS[style])
    assert first == second
    other = encode(cmc.draw(MANY[1:3]), style)
    assert other != first


def test_files_carry_no_date():
    assert b"CreationDate" not in encode(cmc.draw(MANY[:1]), "pdf")
    assert b"dc:date" not in encode(cmc.draw(MANY[:1]), "svg")


@pytest.mark.parametrize("name", [entry.name for entry in FIGURES.values() if entry.needs == "records"])
@pytest.mark.slow
def test_widths_are_those_of_a_column_and_of_a_page(name, tmp_path):
    runs = [one for one in MANY if one.config["victim"]["name"] == "agw"]
    for width, inches in (("column", 3.4), ("full", 7.0)):
        figure = draw(name, runs, tmp_path, width=width)
        assert figure.get_size_inches()[0] == pytest.approx(inches)
    with pytest.raises(BadInput, match="did you mean 'column'"):
        draw(name, runs, tmp_path, width="colum")


@pytest.mark.slow
def test_drawings_of_one_page_share_no_id_and_leak_no_style(tmp_path):
    drawings = drawable(MANY, tmp_path)
    assert {drawing.name for drawing in drawings} == {"cmc", "eps", "transfer", "cost"}
    assert sum(drawing.name == "cmc" for drawing in drawings) == 8, "one a victim, budget and access"
    ids = [found for drawing in drawings for found in re.findall(r'\sid="([^"]*)"', drawing.svg)]
    assert ids and len(ids) == len(set(ids))
    for drawing in drawings:
        root = ElementTree.fromstring(drawing.svg)
        own = {element.get("id") for element in root.iter() if element.get("id")}
        used = set(re.findall(r"url\(#([^)]+)\)", drawing.svg)) | set(
            re.findall(r'href="#([^"]+)"', drawing.svg)
        )
        assert used <= own
        assert not [
            element for element in root.iter() if element.tag.endswith(("style", "metadata", "script"))
        ]
        assert drawing.svg.startswith("<svg") and "<text" in drawing.svg
        assert "SYNTHETIC" in drawing.svg and drawing.title and drawing.alt
        assert root.find("{http://www.w3.org/2000/svg}desc").text == drawing.alt
        page = root.find(".//*[@id]/{http://www.w3.org/2000/svg}path")
        assert "fill: none" in page.get("style"), "the page shows through"


def test_drawings_are_the_same_every_time(tmp_path):
    assert drawable(MANY[:4], tmp_path) == drawable(MANY[:4], tmp_path)


def test_drawings_of_two_metrics_share_no_id(tmp_path):
    both = [drawable(MANY[:4:2], tmp_path, metric=metric) for metric in ("r1", "map")]
    ids = [
        set(re.findall(r'\sid="([^"]*)"', d.svg)) for drawings in both for d in drawings if d.name == "eps"
    ]
    assert len(ids) == 2 and not ids[0] & ids[1]


def test_names_from_strangers_are_text_and_nothing_else(tmp_path):
    nasty = r"<script>alert(1)</script> $\frac{x}$ & \"q\" id=\"cmc\""
    drawings = drawable([record(nasty), record("pgd", victim=nasty)], tmp_path)
    for drawing in drawings:
        root = ElementTree.fromstring(drawing.svg)
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        assert "<script>" not in drawing.svg
    assert any("$" in "".join(ElementTree.fromstring(one.svg).itertext()) for one in drawings)
    encode(cmc.draw([record(nasty)]), "pdf")


def test_the_users_own_settings_neither_show_nor_change():
    before = encode(cmc.draw(MANY[:1]), "svg")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert encode(cmc.draw(MANY[:1]), "svg") == before
        assert matplotlib.rcParams["font.size"] == 30


def test_no_display_and_no_pyplot_is_needed():
    code = (
        "import sys; from fabricated import record; from pathlib import Path\n"
        "from vbench.reports.figures import drawable\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
        "drawable([record()], Path('.'))\n"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules, 'sklearn' in sys.modules)"
    )
    here = {"PYTHONPATH": str(Path(__file__).parents[2]), "MPLBACKEND": "tkagg", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=here, check=True)
    assert done.stdout.strip() == "False False False"


def test_unknown_names_and_formats_suggest_one(tmp_path):
    with pytest.raises(BadInput, match="did you mean 'transfer'"):
        find("transfre")
    with pytest.raises(BadInput, match="did you mean 'png'"):
        encode(cmc.draw(MANY[:1]), "pngg")
    with pytest.raises(BadInput, match="no metric to choose"):
        draw("cmc", MANY, tmp_path, metric="map")
    with pytest.raises(BadInput, match="no query to choose"):
        draw("eps", MANY, tmp_path, query=1)
    with pytest.raises(BadInput, match="did you mean 'minp'"):
        draw("eps", MANY, tmp_path, metric="mimp")


def test_a_title_is_drawn_only_on_request_and_names_are_printed_ones(tmp_path):
    runs = [record("fsam_uap[batch=16]", 6), record("pgd", 12)]
    plain, titled = (draw("cmc", runs, tmp_path, title=title) for title in (False, True))
    drawn = [" ".join(text.get_text() for text in figure.texts) for figure in (plain, titled)]
    assert drawn[0] == "SYNTHETIC data" and "CMC of AGW" in drawn[1] and "FSAM-UAP: batch=16" in drawn[1]
    assert titled.get_size_inches()[1] > plain.get_size_inches()[1]
    labels = [text.get_text() for text in plain.legends[0].get_texts()]
    first = 100 * runs[1].mean("adversarial", "r1")
    assert labels[1].startswith("FSAM-UAP ") and labels[2] == f"PGD {first:.1f} %"
    assert plain.axes[0].get_xlim() == (1, 20)
    other = draw("cost", runs, tmp_path, labels={"pgd": "Our PGD"})
    assert {text.get_text() for text in other.axes[0].texts} == {"FSAM-UAP", "Our PGD"}


def test_a_legend_has_room_for_its_longest_label():
    assert Legend(["a", "b", "c"], 3.4).columns == 3
    assert Legend(["x" * 60, "b"], 3.4).columns == 1
    assert Legend(["one\ntwo", "b"], 0.5).height > Legend(["one", "b"], 0.5).height
