"""What strangers write where a name is expected, and how to put it there."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from vbench.records.record import Record

HTML = (
    "\"'></script></title><script>alert(1)</script><img src=x onerror=alert(1)>"
    "<a href='javascript:alert(1)' onmouseover=alert(2)>x</a>{{7*7}}"
)
MARKDOWN = (
    "[x](javascript:alert(1)) ![y](http://evil/z.png) <b onclick=x> `q` **w** "
    "\n# heading\n|a|b|\n\n[r]: javascript:alert(1)"
)
LATEX = r"\input{/etc/passwd}\write18{id}\end{table}$x$ %_^^5c&#~{"
FORMULA = "=cmd|' /C calc'!A0"
TERMINAL = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2066\u200b\x7f\x00\r\nb\tc\u2028d"
PAYLOADS = {"html": HTML, "markdown": MARKDOWN, "latex": LATEX, "formula": FORMULA, "terminal": TERMINAL}

#: Strings that a reader of records holds to a few words, an id, a number or base64.
BOUND = {
    ("id",),
    *(("config", "threat", name) for name in ("norm", "eps", "side")),
}


def unseen(text: str) -> set[str]:
    """Characters that a terminal would obey, or that nobody sees, line breaks aside."""
    return {
        one for one in text if one != "\n" and unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }


def places(value: object, at: tuple = ()) -> Iterator[tuple]:
    """Where in a record, as JSON, a string stands."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*at, index))
    elif isinstance(value, str) and at[0] != "per_query" and at not in BOUND:
        yield at


def put(record: dict, at: tuple, value: object) -> None:
    """Put a value somewhere into a record, as JSON."""
    for key in at[:-1]:
        record = record[key]
    record[at[-1]] = value


def as_json(record: Record) -> dict:
    return json.loads(record.model_dump_json())


def everywhere(record: Record, text: str) -> dict:
    """The record, as JSON, with a text in every string, and as a key where keys are free."""
    found = as_json(record)
    for at in list(places(found)):
        put(found, at, text)
    found["config"]["attack"]["settings"] = {text: text}
    found["config"]["victim"]["options"] |= {text: text}
    found["environment"] = {text: text, "versions": {text: text}, "device_name": text}
    found["left_out"] = {text: text}
    found["fit_log"] = {text: [text]}
    found["warnings"] = found["knowledge"] = [text]
    found["cost"][text] = found["size"][text] = 1.0
    return found


def store(folder: Path, records: list[dict]) -> Path:
    """A folder of runs with these records, whatever they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(records):
        (folder / f"r{number}-{number:012x}.json").write_text(json.dumps(record))
    return folder


class Skeleton(HTMLParser):
    """Every element of a page with the names of its attributes, and every address in it."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[tuple[str, tuple[str, ...]]] = set()
        self.addresses: set[str] = set()
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.add((tag, tuple(sorted(name for name, _ in attrs))))
        self.addresses |= {
            value or "" for name, value in attrs if name in ("href", "src", "action", "srcset")
        }

    def handle_data(self, data):
        self.text.append(data)
