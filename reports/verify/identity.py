"""Is the record what its id, its file name and its protocol say?"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from vbench.data.known import KNOWN_COUNTS
from vbench.data.protocols import DRAWS, LAYOUTS, Protocol, parse_protocol
from vbench.errors import BadInput
from vbench.record import Record, config_id

_SPLITS = {"sysu": "sysu", "llcm": "llcm"}


def named(record: Record, file_name: str | None) -> Iterator[str]:
    """The id is the hash of the configuration, and the file is named by it."""
    found = config_id(record.config)
    if record.id != found:
        yield f"id: {record.id[:40]}, but the configuration hashes to {found}: one of them was changed"
    elif file_name is not None and not file_name.endswith(f"-{record.id}.json"):
        yield f"file name: {file_name}, should end in -{record.id}.json"


def sealed(record: Record) -> Iterator[str]:
    """It says what it said when it was written."""
    fault = record.fault()
    if fault is not None:
        yield f"digest: {fault}"


def dated(record: Record) -> Iterator[str]:
    """The date is one, with its time zone."""
    try:
        when = datetime.datetime.fromisoformat(record.created)
    except ValueError:
        yield f"created: {record.created!r} is not a date"
        return
    if when.tzinfo is None:
        yield f"created: {record.created} has no time zone"


def posed(record: Record) -> Iterator[str]:
    """Protocol, data set, split and the SYNTHETIC mark agree."""
    data = record.config["dataset"]
    if record.protocol != data["protocol"]:
        yield f"protocol: {record.protocol}, the configuration says {data['protocol']}"
    if record.synthetic is not data["synthetic"]:
        yield f"synthetic: {record.synthetic}, the configuration says {data['synthetic']}"
    if not data["protocol"].startswith(f"{data['name']}/"):
        yield f"config.dataset.name: {data['name']}, the protocol is {data['protocol']}"
        return
    try:
        protocol = protocol_of(record)
    except BadInput as error:
        yield f"config.dataset.protocol: {error}"
        return
    if protocol is None:
        return
    split = _SPLITS.get(protocol.layout, f"{protocol.layout}/trial-{protocol.trial}")
    if data["split"] != split:
        yield f"config.dataset.split: {data['split']}, should be {split}"


def protocol_of(record: Record) -> Protocol | None:
    """The protocol of a record; None for a data set that vbench does not read itself.

    Raises :class:`BadInput` for a protocol that a set of vbench's own does not have.
    """
    data = record.config["dataset"]
    return parse_protocol(data["protocol"]) if data["name"] in LAYOUTS else None


def trial_names(protocol: Protocol) -> list[str]:
    """Names of a protocol's trials, in order."""
    if protocol.trial is not None:
        return [f"trial-{protocol.trial}"]
    if protocol.galleries == "randperm10":
        return [f"randperm-{number}" for number in range(1, DRAWS + 1)]
    return [f"seed-{number}" for number in range(DRAWS)]


def queries_of(protocol: Protocol) -> int | None:
    """How many queries each trial of a real set has; None where nobody published it."""
    known = KNOWN_COUNTS[protocol.layout]
    if protocol.layout == "sysu":
        # Indoor search asks the same queries; how many visible test images there are is not published.
        return known["queries, all-search"] if protocol.direction == "ir2vis" else None
    asked = "visible" if protocol.direction == "vis2ir" else "infrared"
    return known[f"test images, {asked}"]
