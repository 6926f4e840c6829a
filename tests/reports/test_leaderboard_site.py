"""The site as files: what stands on it, what is escaped, where links lead, and how it is published."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from handed_in import UAP, changed, forge, relabelled, write
from markup import text, tree

from vbench.cli import main
from vbench.core.errors import BadInput, VbenchError
from vbench.records.record import Record
from vbench.records.store import RunStore
from vbench.reports.frame import safe
from vbench.reports.leaderboard import leaderboard
from vbench.reports.leaderboard.names import publish
from vbench.reports.printed import CODE

EVIL = """<img src=x onerror=alert(1)>"'&{{7*7}}</script><script>alert(2)</script>"""


def site_of(tmp_path, *records, **options):
    """A site of records, each in a folder of its own."""
    folders = []
    for index, record in enumerate(records):
        folders.append(tmp_path / f"person{index}")
        write(folders[-1], record)
    summary = leaderboard(folders, tmp_path / "site", **options)
    return tmp_path / "site", summary


def pages(site: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in site.glob("*.html")}


def foreign(record, attack=EVIL, victim=EVIL):
    """A record of an attack and a victim that nobody knows, with names of a stranger's choice."""
    forged = relabelled(
        record,
        attack={"name": attack, "settings": {EVIL: EVIL}},
        victim={
            **record["config"]["victim"],
            "name": victim,
            "options": {EVIL: EVIL, "input_size": [32, 16]},
        },
    )
    forged.update(label=f"{attack}[{EVIL}]", victim_label=f"{victim} {EVIL}", warnings=[EVIL])
    forged["environment"] = {"versions": {"vbench": EVIL}, "device_name": EVIL, EVIL: EVIL}
    return forge(forged)


@pytest.fixture(scope="module")
def site(tmp_path_factory, honest, workshop):
    tmp_path = tmp_path_factory.mktemp("site")
    refused = changed(honest, lambda r: r["adversarial"][0].update(r1=0.123))
    refused["config"]["seed"] = 77
    refused = relabelled(refused)
    records = [honest, workshop.run(UAP), workshop.run("noise"), foreign(honest), refused]
    return site_of(tmp_path, *records, title=f"Board {EVIL}")


# ------------------------------------------------------------------ pages


def test_every_page_is_well_formed_and_forbids_the_network(site):
    for name, page in pages(site[0]).items():
        found = tree(page)
        policies = [meta.get("content") for meta in found.iter("meta") if "http-equiv" in meta.attrib]
        assert len(policies) == 1 and policies[0].startswith("default-src 'none'"), name
        ids = [element.get("id") for element in found.iter() if element.get("id")]
        assert len(ids) == len(set(ids)), name
        assert len(list(found.iter("h1"))) == 1, name


def test_whatever_a_stranger_writes_is_text(site):
    for name, page in pages(site[0]).items():
        found = tree(page)
        assert len(list(found.iter("script"))) == 1, name
        assert list(found.iter("img")) == [], name
        handlers = [key for element in found.iter() for key in element.attrib if key.startswith("on")]
        assert handlers == [], name
    shown = {name: text(tree(page)) for name, page in pages(site[0]).items()}
    assert EVIL in shown["index.html"], "and it is shown as it is"
    assert sum(EVIL in page for page in shown.values()) == len(shown)


def test_names_of_pages_are_ours(site):
    for path in site[0].iterdir():
        assert re.fullmatch(r"[a-z0-9_-]+\.(html|csv|jsonl|json)", path.name), path.name
        assert len(path.name) < 120


def test_every_link_leads_somewhere_on_the_site(site):
    for name, page in pages(site[0]).items():
        found = tree(page)
        targets = [one.get("href") for one in found.iter("a")]
        assert "index.html" in targets and "refused.html" in targets
        outside = {target for target in targets if target.startswith("https:")}
        assert outside <= set(CODE.values()), name
        for target in set(targets) - outside:
            file, _, anchor = target.partition("#")
            there = site[0] / (file or name)
            assert there.is_file(), (name, target)
            if anchor:
                assert f'id="{anchor}"' in there.read_text(), (name, target)


def test_the_site_opens_on_the_models_by_their_bound(tmp_path, honest, workshop):
    other = workshop.run("noise", victim="tiny")
    folder, _ = site_of(tmp_path, honest, workshop.run("noise"), other)
    page = tree(pages(folder)["index.html"])
    first = next(page.iter("table"))
    heads = [text(one) for one in first.iter("th")]
    assert heads[:5] == ["Rank", "Model", "Defence", "Clean", "Bound"] and "Code" in heads
    rows = [[text(cell) for cell in body.iter("td")] for body in first.iter("tbody")]
    bounds = [float(row[4].split("mAP")[0].split()[0]) for row in rows]
    assert [row[0] for row in rows] == ["1", "2"] and bounds == sorted(bounds, reverse=True)
    agw = next(row for row in rows if row[1].startswith("AGW"))
    runs = [Record.model_validate(one) for one in (honest, workshop.run("noise"))]
    lowest = min(100 * one.mean("adversarial", "r1") for one in runs)
    assert agw[4].startswith(f"{lowest:.1f}") and agw[6] == "2"
    assert agw[7] == "Ye et al., TPAMI 2022"
    chart = next(page.iter("svg"))
    assert len([one for one in chart.iter("rect") if one.get("class") == "bound"]) == 2
    assert "sysu/" not in "".join(first.itertext()), "boards have names in words"


def test_figures_provenance_and_checks_are_on_the_board(site, honest):
    record = Record.model_validate(honest)
    runs = next(page for name, page in pages(site[0]).items() if name.startswith("runs-"))
    row = next(text(one) for one in tree(runs).iter("tbody") if honest["id"] in text(one))
    before, after = (100 * record.mean(which, "r1") for which in ("clean", "adversarial"))
    assert f"{before:.1f} → {after:.1f}" in row
    assert f"person0/{record.file_name}" in row and "recomputed" in row
    assert record.created[:10] in row and "vbench 0.1.0" in row
    assert record.config["victim"]["weights"][:8] in row and "per-image" in row


def test_drawn_data_are_marked_on_every_page_with_figures(site):
    for name, page in pages(site[0]).items():
        if name != "refused.html":
            assert "SYNTHETIC" in text(tree(page)), name


def test_refusals_stand_by_name_with_their_reasons(site):
    found = text(tree((site[0] / "refused.html").read_text()))
    assert "1 of 5 records are not on the boards" in found
    assert (
        "person4/agw-metric_ifgsm-" in found and "adversarial[0].r1" in found and "no whole number" in found
    )
    assert site[1].line.startswith("5 records read, 1 refused; 4 configurations with 4 results on 1 board")


def test_real_and_drawn_data_never_share_a_table(tmp_path, workshop):
    real = workshop.run("noise", victim="tiny", protocol="sysu/all/single/vis2ir/seed10")
    real["config"]["dataset"].update(synthetic=False, fingerprint="f" * 16)
    real = forge({**real, "synthetic": False})
    made, _ = site_of(tmp_path, real, workshop.run("noise"))
    index = tree((made / "index.html").read_text())
    captions = [text(one) for one in index.iter("h3")]
    assert captions[1:3] == ["Real data", "SYNTHETIC Drawn data"]
    assert "SYNTHETIC" not in captions[0], "the site opens on real data"
    noise = tree((made / "attack-noise.html").read_text())
    tables = {text(next(s.iter("h3"))): text(s) for s in noise.iter("section")}
    real_way, drawn_way = "visible to infrared", "infrared to visible"
    assert real_way in tables["Real data"] and drawn_way not in tables["Real data"]
    assert real_way not in tables["SYNTHETIC Drawn data"]
    victim = next(page for name, page in pages(made).items() if name.startswith("victim-tiny"))
    assert "SYNTHETIC" not in text(tree(victim))


def test_a_site_has_no_date_of_its_own_and_does_not_depend_on_order(tmp_path, honest, workshop):
    for name, record in (("a", honest), ("b", workshop.run("noise"))):
        write(tmp_path / name, record)
    folders = [tmp_path / "a", tmp_path / "b"]
    leaderboard(folders, tmp_path / "one")
    leaderboard(folders[::-1], tmp_path / "two")
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert first == second


# ------------------------------------------------------------------ downloads


def test_the_archive_is_read_again_and_makes_the_same_boards(site, tmp_path):
    archive = site[0] / "records.jsonl"
    contents = RunStore(archive).read_all()
    assert len(contents.records) == 4 and contents.broken == []
    again = leaderboard([archive], tmp_path / "again")
    assert (again.configurations, again.refused, again.boards) == (4, [], 1)


def test_no_cell_of_the_table_is_a_formula(tmp_path, honest):
    evil = "=cmd|' /C calc'!A0"
    record = foreign(honest, "@SUM(A1)", "+1+1")
    record.update(label="@SUM(A1)", victim_label="+1+1")
    record["environment"]["device_name"] = evil
    record["cost"][evil] = 1.0
    made, _ = site_of(tmp_path, forge(record))
    rows = list(csv.reader(io.StringIO((made / "records.csv").read_text())))
    cells = [cell for row in rows for cell in row]
    assert f"'{evil}" in cells and "'@SUM(A1)" in cells and "'+1+1" in cells
    numbers = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
    assert [
        cell for cell in cells if cell.startswith(("=", "+", "-", "@")) and not numbers.fullmatch(cell)
    ] == []
    assert [safe(one) for one in (" =1", "\t=1", "a=1", "")] == ["' =1", r"'\t=1", "a=1", ""]


# ------------------------------------------------------------------ publishing


def test_a_former_site_is_replaced_whole(tmp_path, honest):
    made, _ = site_of(tmp_path, honest)
    (made / "victim-old.html").write_text("from before")
    site_of(tmp_path, honest)
    assert not (made / "victim-old.html").exists() and (made / "index.html").exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["person0", "site"], "nothing is left beside it"
    assert made.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("what", ["other", "file", "link"])
def test_what_is_no_site_is_not_overwritten(tmp_path, honest, what):
    out = tmp_path / "site"
    if what == "other":
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
    elif what == "file":
        out.write_text("a file")
    else:
        (tmp_path / "elsewhere").mkdir()
        out.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="--out"):
        site_of(tmp_path, honest)
    if what == "other":
        assert (out / "thesis.tex").read_text() == "years of work"


def test_a_disk_that_refuses_leaves_the_former_site(tmp_path, honest, monkeypatch):
    made, _ = site_of(tmp_path, honest)
    before = {path.name: path.read_bytes() for path in made.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(VbenchError, match="No space left"):
        leaderboard([tmp_path / "person0"], made)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["person0", "site"]


def test_no_page_can_leave_the_site(tmp_path):
    with pytest.raises(VbenchError, match="leave the site"):
        publish(tmp_path / "site", {"../out.html": ""}, {})
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ the command


@pytest.fixture
def call(monkeypatch, capsys):
    """``vbench ...`` in this process: its output, its messages, its exit code."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["vbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
            sys.exit(0)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return printed.out, printed.err, stopped.value.code or 0

    return run


def test_the_command_says_what_it_did_and_refuses_by_name(tmp_path, honest, call):
    write(tmp_path / "runs", honest)
    (tmp_path / "runs" / "bad.json").write_text("{}")
    out, err, code = call("leaderboard", tmp_path / "runs", "--out", tmp_path / "site")
    assert code == 0 and err.startswith("refused runs/bad.json: id: Field required")
    assert "2 records read, 1 refused; 1 configuration with 1 result on 1 board" in out
    assert f"open {tmp_path / 'site' / 'index.html'}" in out


def test_strict_writes_nothing_if_anything_is_refused(tmp_path, honest, call):
    write(tmp_path / "runs", honest)
    arguments = ("leaderboard", tmp_path / "runs", "--out", tmp_path / "site", "--strict")
    assert call(*arguments)[2] == 0
    before = (tmp_path / "site" / "index.html").read_bytes()
    (tmp_path / "runs" / "bad.json").write_text("{}")
    _, err, code = call(*arguments)
    assert code == 1 and "nothing written: 1 refused" in err
    assert (tmp_path / "site" / "index.html").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["empty"], "no run record that verifies in"),
        (["runs", "--where", "victim=nobody"], "no record meets --where"),
        (["runs", "--where", "victm=agw"], "did you mean 'victim'"),
    ],
)
def test_bad_input_is_one_line(tmp_path, honest, call, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs", honest)
    (tmp_path / "empty").mkdir()
    _, err, code = call("leaderboard", *arguments, "--out", "site")
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "site").exists()


def test_where_keeps_records_and_the_title_is_shown(tmp_path, honest, workshop, call):
    write(tmp_path / "runs", honest)
    write(tmp_path / "runs", workshop.run("noise"))
    out, _, _ = call(
        "leaderboard",
        tmp_path / "runs",
        "--out",
        tmp_path / "site",
        "--where",
        "attack=noise",
        "--title",
        "Ours",
    )
    assert "1 configuration with 1 result" in out
    assert not (tmp_path / "site" / "attack-metric_ifgsm.html").exists()
    assert text(next(tree((tmp_path / "site" / "index.html").read_text()).iter("h1"))) == "Ours"


def test_many_records_take_no_torch(tmp_path, honest):
    folder = tmp_path / "many"
    for seed in range(60):
        write(folder, relabelled(honest, seed=seed))
    code = (
        "import sys; from vbench.cli import app; app(standalone_mode=False)\n"
        "assert not {'torch', 'pandas'} & set(sys.modules), 'slow imports'\n"
    )
    arguments = ["leaderboard", folder, "--out", tmp_path / "site"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "site" / "vbench-site.json").read_text())["results"] == 60
