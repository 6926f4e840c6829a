"""What the HTML report says beside its tables, and the file it is. No browser needed."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markup import text, tree
from page_records import IR2VIS, page_text, run, study, with_queries

from vbench.records.record import CompressedArray
from vbench.records.store import RunStore
from vbench.reports.figures import drawable


def test_the_summary_names_the_strongest_of_each_kind_of_attacker(page):
    section = next(s for s in page.iter("section") if s.get("id") == "strongest")
    rows = [[text(td) for td in tr] for body in section.iter("tbody") for tr in body]
    found = {(row[0][:4], row[1][6:11], row[2], row[3]): (row[4], row[5], row[6]) for row in rows}
    assert IR2VIS in text(next(section.iter("h3"))), "what all rows share stands above them"
    assert found["SYNT", "8/255", "agw", "per-image"] == ("pgd", "2", "80.0 → 9.0")
    assert found["real", "8/255", "agw", "per-image, gallery"] == ("odfa", "1", "80.0 → 10.0")


def test_threat_cards_say_what_the_attacker_may_and_knows(page):
    cards = {text(next(card.iter("h3"))): text(card) for card in page.iter("article")}
    assert set(cards) == {"L_inf 8/255, query side, 8-bit", "L_inf 4/255, query side, 8-bit"}
    wide = cards["L_inf 8/255, query side, 8-bit"]
    for said in ("query images", "8 of 255 levels", "rounded to 8 bits", "64x32 (agw, ddag)", "SYNTHETIC"):
        assert said in wide
    assert "universal, training, feature level" in wide and "per-image, training, from ddag" in wide
    floats = run()
    floats.config["threat"] |= {"quantize": False, "norm": "l2", "eps": "1.5", "side": "both"}
    (card,) = [text(card) for card in tree(page_text([floats])).iter("article")]
    assert "query and gallery images" in card and "Euclidean norm" in card and "no image file" in card


def test_cautions_come_before_the_figures():
    said = page_text(study(), broken=["a.json: Invalid JSON"])
    for part in (
        "The data of 8 of 10 runs are SYNTHETIC",
        "1 row of a universal attack has one seed",
        "1 row use true identities",
        "1 files could not be read: a.json: Invalid JSON",
    ):
        assert part in said
    assert said.index("Before quoting a number") < said.index("Results</h2>")
    assert "Before quoting a number" not in page_text([run(synthetic=False)])


def test_warnings_are_said_once_with_their_rows(page):
    section = next(s for s in page.iter("section") if s.get("id") == "warnings")
    (item,) = section.iter("li")
    assert text(item) == "10.0% of queries hang on a tie 2 rows: pgd on agw"


def test_what_environments_do_not_share_is_a_table():
    def environment(page):
        return next(s for s in page.iter("section") if s.get("id") == "environment")

    alike = environment(tree(page_text(study())))
    assert "2.4.0" in text(alike) and not list(alike.iter("table"))
    mixed = study()
    mixed[0].environment = {**mixed[0].environment, "device": "cuda"}
    section = environment(tree(page_text(mixed)))
    rows = [[text(td) for td in tr] for body in section.iter("tbody") for tr in body]
    assert rows == [["cpu", "9"], ["cuda", "1"]]


def test_every_row_has_its_command_and_its_records(page):
    commands = [text(pre) for pre in page.iter("pre")]
    assert len(commands) == 9
    (both,) = [command for command in commands if "--attack uap" in command]
    assert "--seed 0 --seed 1" in both
    shown = text(page)
    assert all(record.id in shown for record in study())


def test_every_figure_has_a_caption_and_is_an_image_of_its_own():
    page = tree(page_text(study(), figures=True))
    shown = list(page.iter("figure"))
    drawn = drawable(study(), Path())
    assert [next(figure.iter("img")).get("alt") for figure in shown] == [one.title for one in drawn]
    for figure, one in zip(shown, drawn, strict=True):
        kind, _, content = next(figure.iter("img")).get("src").partition(",")
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(content).decode()
        assert re.sub("<style>.*?</style>", "", svg, flags=re.DOTALL) == one.svg
        assert "prefers-color-scheme: dark" in svg and one.about in text(next(figure.iter("figcaption")))
        assert one.alt in text(figure)
    assert "#figures" in {link.get("href") for link in page.iter("a")}


@pytest.mark.slow
def test_a_broken_record_costs_no_other_its_figure():
    broken = with_queries(run("uap", seed=7))
    broken.per_query["adversarial_rank"] = CompressedArray(dtype="<i4", shape=(4, 60), data="!!!")
    page = tree(page_text([*study(), broken], figures=True))
    assert len(list(page.iter("figure"))) == len(drawable(study(), Path()))


def many(count):
    return [
        with_queries(
            run(attack=f"attack_{index // 2}", after=0.1 + 0.003 * (index % 200), seed=index % 2), 288
        )
        for index in range(count)
    ]


@pytest.mark.slow
def test_two_hundred_runs_weigh_less_than_two_megabytes():
    assert len(page_text(many(200)).encode()) < 2_000_000


def test_the_same_records_give_the_same_page():
    assert page_text(study()) == page_text(study())


@pytest.mark.slow
def test_reports_as_html_go_to_a_file_and_load_no_torch(tmp_path):
    for record in study():
        RunStore(tmp_path / "runs").write(record)
    (tmp_path / "runs" / "broken.json").write_text("{")
    code = (
        "import sys; from vbench.cli import app; app(standalone_mode=False)\n"
        "assert not {'torch', 'pandas'} & set(sys.modules), 'slow imports'\n"
        "assert ('matplotlib' in sys.modules) != ('--no-figures' in sys.argv)"
    )

    def report(*more):
        arguments = ["report", "--runs", "runs", "--format", "html", *more]
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    done = report()
    assert done.stdout == "" and "report.html:" in done.stderr
    written = (tmp_path / "report.html").read_text()
    assert "10 runs" in written and "broken.json: " in written
    assert str(tmp_path) not in written
    some = ["--where", "attack=uap", "--no-figures"]
    report(*some, "--out", "some/uap.html")
    picked = (tmp_path / "some" / "uap.html").read_text()
    assert "2 runs" in picked and report(*some, "--out", "-").stdout == picked
