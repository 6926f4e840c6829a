"""The HTML report as a document: what stands where, what is escaped, what it weighs. No browser needed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from markup import text, tree
from page_records import run, study, with_images, with_queries
from PIL import Image

from vbench.errors import BadInput
from vbench.kept.folder import kept_file
from vbench.packed import Packed
from vbench.record import Record
from vbench.reports.figures.catalogue import drawable
from vbench.reports.page.document import embed_json
from vbench.reports.page.queries import TOP, explorer
from vbench.reports.page.report import page_of
from vbench.reports.rows import tables
from vbench.store import RunStore


def page_text(records, figures=False, **more):
    """The page, without figures unless a test is about them: drawing takes its time."""
    return page_of(records, figures=figures, **more)


@pytest.fixture(scope="module")
def page():
    return tree(page_text(study()))


def results(page):
    """The result tables: title -> (headings, rows), a row being the cells of each of its lines."""
    found = {}
    for section in page.iter("section"):
        if "data-section" in section.attrib:
            heads = [text(th).rstrip("↕ ") for th in section.iter("th")]
            bodies = [[tr for tr in body if tr.get("class") != "more"] for body in section.iter("tbody")]
            rows = [[[text(td) for td in tr] for tr in body] for body in bodies]
            found[text(next(section.iter("h3")))] = (heads, rows)
    return found


def row_of(page, title, attack):
    heads, rows = next(table for name, table in results(page).items() if title in name)
    row = next(row for row in rows if row[0][0].startswith(attack))
    return [dict(zip(heads, line, strict=True)) for line in row]


# ------------------------------------------------------------------ what the tables say


def test_every_row_of_the_text_tables_stands_on_the_page(page):
    expected = {where.title: sum(not row.control for row in rows) for where, rows in tables(study()).items()}
    found = results(page)
    assert sorted(len(rows) for _, rows in found.values()) == sorted(expected.values())
    assert sum(len(rows) for _, rows in found.values()) == 9, "two seeds of uap are one row"


def test_a_row_says_before_after_spread_drop_and_cost(page):
    row, *_ = row_of(page, "8/255, query side, 8-bit", "uap")
    assert row["attack"] == "uap2 seeds" and row["knowledge"] == "universal, training"
    assert row["Rank-1"] == "80.0 → 40.0± 1.4 → ± 1.4 / 14.1"
    assert row["Rank-1 drop"] == "40.0 (50 %)[35.0, 45.0]"
    assert row["gradient evaluations"] == "6400 a fit" and row["s"] == "12.1"


def test_controls_stand_under_their_attack(page):
    (main, control) = row_of(page, "SYNTHETIC", "fsam_uap (stealthy)")
    assert main["Rank-1"].startswith("80.0 → 20.0")
    assert control["attack"] == "· modules, d = 0" and control["Rank-1"].startswith("80.0 → 70.0")


def test_protocols_budgets_and_kinds_of_data_never_share_a_table(page):
    titles = list(results(page))
    assert len(titles) == 3
    assert sum("SYNTHETIC" in title for title in titles) == 2
    assert sum("4/255" in title for title in titles) == 1
    grouped = tree(page_text(study(), group="attack"))
    for title, (heads, _) in results(grouped).items():
        assert ("budget" in heads) == (title.startswith("SYNTHETIC attack pgd")), title
        assert title.startswith("SYNTHETIC ") or "attack odfa" in title or "attack pgd" in title


def test_bold_is_what_the_text_tables_print_bold(page):
    bold = [
        text(next(body.iter("span")))
        for section in page.iter("section")
        if "data-section" in section.attrib
        for body in section.iter("tbody")
        if any(td.get("data-label") == "Rank-1" and list(td.iter("strong")) for td in body.iter("td"))
    ]
    assert bold == ["pgd"], "only pgd has rivals of the same knowledge on one victim"


def test_numbers_sort_by_value_and_not_by_what_is_shown(page):
    cell = next(td for td in page.iter("td") if td.get("data-label") == "Rank-1" and "40.0" in text(td))
    assert float(cell.get("data-value")) == pytest.approx(40.0)


def test_metrics_group_and_versus_are_those_of_the_text_tables():
    found = results(tree(page_text(study(), metrics=("map", "asr"), group="victim", versus="noise")))
    assert any(title.startswith("SYNTHETIC victim agw") for title in found)
    heads, rows = found[next(title for title in found if "victim agw" in title and "SYNTHETIC" in title)]
    assert "mAP" in heads and "ASR" in heads and "Rank-1" not in heads
    at = heads.index("p vs noise (mAP)")
    values = {(row[0][0], row[0][heads.index("budget")][6:11]): row[0][at] for row in rows}
    assert values["noise", "8/255"] == values["pgd", "4/255"] == "", "nothing to compare with"
    assert 0 < float(values["pgd", "8/255"].lstrip("<")) <= 1
    with pytest.raises(BadInput, match="did you mean 'victim'"):
        page_text(study(), group="victm")


def test_published_figures_stand_beside_real_rows_alone(page):
    for title, (heads, _) in results(page).items():
        assert ("published" in heads) == ("SYNTHETIC" not in title)


# ------------------------------------------------------------------ what else the page says


def test_the_summary_names_the_strongest_of_each_kind_of_attacker(page):
    section = next(s for s in page.iter("section") if s.get("id") == "strongest")
    rows = [[text(td) for td in tr] for body in section.iter("tbody") for tr in body]
    found = {(row[0][:4], row[2][6:11], row[3], row[4]): (row[5], row[6], row[7]) for row in rows}
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
    assert said.index("Before quoting a figure") < said.index("Results</h2>")
    assert "Before quoting a figure" not in page_text([run(synthetic=False)])


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
        assert base64.b64decode(content).decode() == one.svg
        assert one.alt in text(figure)
    assert "#figures" in {link.get("href") for link in page.iter("a")}


def test_a_broken_record_costs_no_other_its_figure():
    broken = with_queries(run("uap", seed=7))
    broken.per_query["adversarial_rank"] = Packed(dtype="<i4", shape=(4, 60), data="!!!")
    page = tree(page_text([*study(), broken], figures=True))
    assert len(list(page.iter("figure"))) == len(drawable(study(), Path()))


# ------------------------------------------------------------------ the query explorer


def worst_by_hand(record):
    """Query -> fall of AP, mean over trials with a match, in plain Python."""
    found = {name: record.per_query[name].unpack().tolist() for name in record.per_query}
    falls = {}
    for query in range(len(found["clean_ap"][0])):
        pairs = [
            found["clean_ap"][t][query] - found["adversarial_ap"][t][query]
            for t in range(len(found["clean_ap"]))
            if found["clean_rank"][t][query] > 0
        ]
        if pairs:
            falls[query] = sum(pairs) / len(pairs)
    return falls


def test_the_worst_queries_are_those_that_fall_the_most(page):
    data = json.loads(next(s for s in page.iter("script") if s.get("id") == "query-data").text)
    assert len(data) == 10
    falls = worst_by_hand(study()[1])
    rows = data[1]["rows"]
    assert len(rows) == TOP and data[1]["queries"] == len(falls)
    assert [row[0] for row in rows] == sorted(falls, key=lambda query: -falls[query])[:TOP]
    for query, before, after, *_ in rows:
        assert before - after == pytest.approx(falls[query], abs=2e-4)


def test_ranks_are_medians_over_the_trials_with_a_match():
    rank = np.array([[1, 0], [1, 0], [2, 3]])
    last = np.array([[5, 0], [9, 0], [1, 3]])
    arrays = {"clean_rank": rank, "adversarial_rank": last}
    arrays |= {
        name: np.where(r > 0, 1 / np.maximum(r, 1), np.nan).astype("<f4")
        for name, r in (("clean_ap", rank), ("adversarial_ap", last))
    }
    record = run()
    record.per_query = {name: Packed.pack(array) for name, array in arrays.items()}
    (found,) = explorer([record]).runs
    fell, kept = found["rows"]
    assert fell == [0, 0.8333, 0.437, 1.0, 5.0, 1, 9, 2, 3]
    assert kept == [1, 0.3333, 0.3333, 3.0, 3.0, 3, 3, 0, 1], "two trials have no match"
    assert (found["lost"], found["gained"], found["fell"]) == (50.0, 25.0, 50.0)


def test_records_without_queries_and_with_broken_ones_are_counted():
    broken, bent = with_queries(run(seed=1)), with_queries(run(seed=2))
    broken.per_query["clean_ap"] = Packed(dtype="<f4", shape=(4, 60), data="!!!")
    bent.per_query["clean_ap"] = Packed.pack(np.zeros((3, 60), "<f4"))
    found = explorer([run(), broken, bent, with_queries(run(seed=3))])
    assert (len(found.runs), found.without, found.broken) == (1, 1, {broken.id, bent.id})
    said = text(tree(page_text([run(), broken, bent, with_queries(run(seed=3))])))
    assert "1 of 4 runs keep no values" in said and "2 of 4 runs hold values" in said
    assert "Worst queries" not in page_text([run()])


def data_of(written):
    return json.loads(next(s for s in tree(written).iter("script") if s.get("id") == "query-data").text)


def test_kept_images_are_shown_on_request_alone(tmp_path):
    records, runs = with_images(tmp_path), tmp_path
    assert "data:image/jpeg" not in page_text(records, runs=runs)
    plain, shown = data_of(page_text(records, runs=runs, images=True))
    assert "images" not in plain
    album = shown["images"]
    assert [one["query"] for one in album["queries"]] == [3, 11]
    assert [right for _, right in album["queries"][0]["before"]] == [1, 0, 0]
    assert [right for _, right in album["queries"][0]["after"]] == [0, 0, 1]
    assert len(album["pictures"]) == 2 + 2 + 3, "the gallery was not attacked"
    assert {picture for picture, _ in album["queries"][1]["after"]} == {4, 5, 6}
    opened = [Image.open(io.BytesIO(base64.b64decode(p.split(",")[1]))) for p in album["pictures"]]
    assert {image.size for image in opened} == {(43, 128)}
    first, second = (np.asarray(opened[album["queries"][0][name]], float) for name in ("clean", "shown"))
    assert np.abs(first + second - 255).mean() < 12, "before and after are not the same picture"


def test_broken_images_are_told_and_their_number_is_bounded(tmp_path, monkeypatch):
    records, runs = with_images(tmp_path), tmp_path
    monkeypatch.setattr("vbench.reports.page.pictures.MOST_RUNS", 0)
    assert "The images of 1 more runs are left out" in page_text(records, runs=runs, images=True)
    monkeypatch.undo()
    file = kept_file(runs, records[1].id, "images")
    file.write_bytes(file.read_bytes()[:-9])
    written = page_text(records, runs=runs, images=True)
    assert "data:image/jpeg" not in written and "Before quoting" in written


# ------------------------------------------------------------------ safety

IMAGE = "<img src=x onerror=alert(1)>{{7*7}}&amp;"
HOSTILE = f"\"'></script></style></textarea><!--<script>alert(1)</script>{IMAGE}"


def strings(value, made):
    """The same value with every text inside replaced."""
    if isinstance(value, dict):
        return {key: strings(inner, made) for key, inner in value.items()}
    if isinstance(value, list):
        return [strings(inner, made) for inner in value]
    return made if isinstance(value, str) else value


def hostile(record: Record) -> Record:
    """A record with hostile text in every text field, and as a key where keys are free."""
    fields = strings(record.model_dump(mode="json", exclude={"per_query"}), HOSTILE)
    fields["config"]["attack"]["settings"] = {HOSTILE: HOSTILE}
    fields["environment"] = {HOSTILE: HOSTILE, "versions": {HOSTILE: HOSTILE}}
    fields["left_out"] = {HOSTILE: HOSTILE}
    fields["warnings"] = fields["knowledge"] = [HOSTILE]
    made = Record.model_validate(fields)
    made.per_query = record.per_query
    return made


def test_hostile_text_stays_text():
    made = [hostile(record) for record in study()]
    for number, record in enumerate(made[1:]):
        # A budget that is no number is drawn in no figure.
        record.id, record.config["threat"]["eps"] = f"id{number}", "8/255"
    page = tree(page_text(made, broken=[HOSTILE], figures=True))
    assert [script.get("type") for script in page.iter("script")] == ["application/json", None]
    assert {image.get("src").split(",")[0] for image in page.iter("img")} == {"data:image/svg+xml;base64"}
    assert not list(page.iter("textarea")) and not list(page.iter("svg"))
    assert len(list(page.iter("style"))) == 1
    for element in page.iter():
        assert not [name for name in element.attrib if name.startswith("on")]
    assert text(page).count(IMAGE) > 20


def test_data_cannot_end_its_element():
    found = str(embed_json({"a": "</script><!--<script>", "b": "\u2028&"}))
    assert not set("<>&\u2028") & set(found)
    assert json.loads(found) == {"a": "</script><!--<script>", "b": "\u2028&"}


def test_only_the_style_and_the_script_of_the_page_may_run(page):
    written = page_text(study())
    (policy,) = [
        m.get("content") for m in page.iter("meta") if m.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for kind, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        (source,) = re.findall(pattern, written, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [element for element in page.iter() if "style" in element.attrib]


def test_nothing_points_outside_the_file(page):
    for element in page.iter():
        for name in ("href", "src", "srcset", "action"):
            if name in element.attrib:
                assert element.get(name).startswith(("#", "data:")), element.attrib
    assert not re.search(r"url\(|@import", page_text(study()))
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    targets = {element.get("href")[1:] for element in page.iter("a")}
    assert targets <= set(ids)


# ------------------------------------------------------------------ weight, files, command line


def many(count):
    return [
        with_queries(
            run(attack=f"attack_{index // 2}", after=0.1 + 0.003 * (index % 200), seed=index % 2), 288
        )
        for index in range(count)
    ]


def test_two_hundred_runs_weigh_less_than_two_megabytes():
    assert len(page_text(many(200)).encode()) < 2_000_000


def test_the_same_records_give_the_same_page():
    assert page_text(study()) == page_text(study())


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
