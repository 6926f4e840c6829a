"""Folders of strangers: what is read, what is refused by name, and what is not even opened."""

from __future__ import annotations

import json
import os
import sys

import pytest
from handed_in import changed, write

from vbench.core.errors import BadInput
from vbench.core.text import one_line
from vbench.records.record import Record
from vbench.records.store import to_archive
from vbench.reports.leaderboard.collect import collect
from vbench.reports.leaderboard.names import Slugs, shown_roots
from vbench.reports.verify import Mark


def refused(collected):
    return {one.source: " ".join(one.reasons) for one in collected.refused}


def test_records_of_nested_folders_and_archives_are_read(tmp_path, honest):
    write(tmp_path / "alice" / "deep" / "er", honest)
    write(tmp_path / "alice" / "audits", honest)
    write(tmp_path / "alice" / ".hidden", honest)
    (tmp_path / "alice" / "notes.txt").write_text("not a record")
    (tmp_path / "bob.jsonl").write_text("\n" + to_archive([Record.model_validate(honest)]) + "\n{}\n")
    collected = collect([tmp_path / "alice", tmp_path / "bob.jsonl"])
    name = Record.model_validate(honest).file_name
    assert [one.sources for one in collected.found] == [(f"alice/deep/er/{name}",), ("bob.jsonl:2",)]
    assert Mark.TOTALS_ONLY not in collected.found[0].marks and Mark.TOTALS_ONLY in collected.found[1].marks
    assert list(refused(collected)) == ["bob.jsonl:4"]
    assert collected.found[0].record.per_query == {}, "a thousand records must fit into memory"


def test_each_refusal_names_file_field_and_values(tmp_path, honest):
    write(tmp_path, changed(honest, lambda r: r["adversarial"][0].update(r1=1.5)), "a-1.json")
    write(tmp_path, changed(honest, lambda r: r.update(id="0" * 12)), "b-2.json")
    write(tmp_path, honest, "renamed.json")
    write(tmp_path, changed(honest, lambda r: r.pop("protocol")), "c-3.json")
    (tmp_path / "d.json").write_text("{")
    write(tmp_path, changed(honest, lambda r: r["config"]["dataset"].update(queries=8)), "e-4.json")
    found = refused(collect([tmp_path]))
    assert len(found) == 6
    root = tmp_path.name
    assert "hashes to" in found[f"{root}/b-2.json"] and "id: 000000000000" in found[f"{root}/b-2.json"]
    assert found[f"{root}/renamed.json"] == f"file name: renamed.json, should end in -{honest['id']}.json"
    assert found[f"{root}/c-3.json"] == "protocol: Field required"
    assert found[f"{root}/d.json"].startswith("file: Invalid JSON")
    assert found[f"{root}/e-4.json"].startswith("made with --queries 8: ")


def test_links_are_not_followed(tmp_path, honest):
    outside = write(tmp_path / "outside", honest)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / outside.name).symlink_to(outside)
    (inside / "folder").symlink_to(tmp_path / "outside")
    (inside / "gone.json").symlink_to("/nowhere")
    collected = collect([inside])
    assert collected.found == []
    assert sorted(refused(collected).values()) == [
        "a link to a folder; links are not followed",
        "a link; links are not followed",
        "a link; links are not followed",
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "endless.json")
    os.mkfifo(tmp_path / "endless.jsonl")
    (tmp_path / "site").mkdir()
    os.mkfifo(tmp_path / "site" / "vbench-site.json")
    assert set(refused(collect([tmp_path])).values()) == {"not a regular file"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "secret.json").chmod(0)
    assert list(refused(collect([tmp_path])).values()) == ["Permission denied"]


def test_what_is_too_large_is_not_read(tmp_path, monkeypatch, honest):
    monkeypatch.setattr(sys.modules[collect.__module__], "LARGEST", 1 << 20)
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 30)
    line = to_archive([Record.model_validate(honest)]).encode()
    (tmp_path / "lines.jsonl").write_bytes(line + b" " * (2 << 20) + b"\n" + line)
    collected = collect([tmp_path])
    assert len(collected.found) == 1
    found = refused(collected)
    assert "larger than 1 MiB" in found[f"{tmp_path.name}/huge.json"]
    assert "the rest of the file is not read" in found[f"{tmp_path.name}/lines.jsonl:2"]


def test_a_former_site_is_passed_over(tmp_path, honest):
    write(tmp_path / "alice", honest)
    site = tmp_path / "site"
    site.mkdir()
    (site / "vbench-site.json").write_text(json.dumps({"format": "vbench-leaderboard/1"}))
    (site / "records.jsonl").write_text(to_archive([Record.model_validate(honest)]))
    assert [one.sources[0].split("/")[1] for one in collect([tmp_path]).found] == ["alice"]
    # Named itself, it is as good as any archive: two sites can be merged.
    assert [one.sources for one in collect([site]).found] == [("site/records.jsonl:1",)]


@pytest.mark.parametrize("name", ["nowhere", "file.txt"])
def test_a_folder_that_is_none_is_bad_input(tmp_path, name):
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(BadInput, match=name):
        collect([tmp_path / name])


def test_names_of_files_cannot_speak_to_the_terminal(tmp_path):
    try:
        (tmp_path / "\x1b[31mred\nline.json").write_text("{}")
        os.close(os.open(os.fsencode(tmp_path) + b"/\xff.json", os.O_CREAT | os.O_WRONLY))
    except OSError:
        pytest.skip("this file system takes no such names")
    found = refused(collect([tmp_path]))
    assert sorted(name.split("/", 1)[1] for name in found) == [r"\udcff.json", r"\x1b[31mred\nline.json"]
    assert all(text.encode("utf-8").decode().isprintable() for text in (*found, *found.values()))


def test_folders_are_called_by_the_shortest_end_that_tells_them_apart(tmp_path):
    paths = [tmp_path / "alice" / "runs", tmp_path / "bob" / "runs", tmp_path / "carol"]
    assert shown_roots(paths) == ["alice/runs", "bob/runs", f"{tmp_path.name}/carol"]
    assert shown_roots(paths[:1]) == ["runs"]
    assert shown_roots([paths[0], paths[0]]) == ["runs", "runs"]


def test_slugs_are_safe_stable_and_each_its_own():
    texts = [
        "agw",
        "AGW",
        "../../etc/passwd",
        "a/b",
        "a b",
        "",
        "é",
        "<script>",
        "x" * 500,
        "CON",
        "a\x00b",
        "agw ",
    ]
    slugs, again = Slugs(), Slugs()
    found = [slugs.of(text) for text in texts]
    assert len({one.lower() for one in found}) == len(texts)
    assert all(one and set(one) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for one in found)
    assert max(map(len, found)) < 100
    assert [again.of(text) for text in reversed(texts)][::-1] == found, "whatever else there is"
    # A stranger who calls his own by another's slug does not get its page.
    assert slugs.of(found[1]) != found[1] and slugs.of(found[1]) == slugs.of(found[1])


def test_plain_text_is_one_line():
    assert one_line("a\nb\x1b[0m\u202e\ud800é") == r"a\nb\x1b[0m\u202e\ud800é"
