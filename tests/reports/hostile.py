"""Records of a stranger who wants markup and scripts on the page."""

from __future__ import annotations

from page_records import study

from vbench.records.record import Record

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
    # What no file may hold is put into the record afterwards.
    id_, threat = fields["id"], fields["config"]["threat"]
    fields["id"], fields["config"]["threat"] = record.id, record.config["threat"]
    made = Record.model_validate(fields)
    made.id, made.config["threat"], made.per_query = id_, threat, record.per_query
    return made


def hostile_study() -> list[Record]:
    """The study with hostile text wherever text may stand; in all but one the budget is still a number."""
    made = [hostile(record) for record in study()]
    for number, record in enumerate(made[1:]):
        record.id, record.config["threat"]["eps"] = f"id{number}", "8/255"
    return made
