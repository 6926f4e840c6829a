"""What an opened row shows: the command that makes it again, its settings, cost, records and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from vbench.record import Record
from vbench.reports.command import Command, command
from vbench.reports.rows import Row


@dataclass(frozen=True)
class Details:
    """``facts``: (term, text). ``links``: (name in the query explorer, text)."""

    command: Command
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    links: Sequence[tuple[str, str]]


def details(row: Row, queries: Mapping[str, str]) -> Details:
    """The details of a row with records."""
    records = row.records
    first = records[0]
    facts = {
        "settings": _settings(first.config.get("attack", {}).get("settings")),
        "victim": _victim(first),
        "change made": _size(records),
        "cost": _cost(records),
        "queries": _queries(first),
        "records": ", ".join(_identity(record, len(records) > 1) for record in records),
        "left out": "; ".join(f"{name}: {reason}" for name, reason in first.left_out.items()),
    }
    warnings = list(dict.fromkeys(warning for record in records for warning in record.warnings))
    links = [
        (queries[record.id], f"seed {record.config.get('seed')}" if len(records) > 1 else "show")
        for record in records
        if record.id in queries
    ]
    shown = [(term, text) for term, text in facts.items() if text]
    return Details(command(records), shown, warnings, links)


def _settings(settings: Mapping[str, object] | None) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in (settings or {}).items())


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(str(part) for part in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _victim(record: Record) -> str:
    card = record.config["victim"]
    options = {name: value for name, value in (card.get("options") or {}).items() if name != "input_size"}
    size = (card.get("options") or {}).get("input_size")
    parts = [f"weights {card.get('weights')}"]
    parts += [f"images {size[0]}x{size[1]}"] if isinstance(size, list) and len(size) == 2 else []
    return ", ".join([*parts, *([_settings(options)] if options else [])])


def _size(records: Sequence[Record]) -> str:
    def of(name: str) -> float | None:
        found = [record.size[name] for record in records if name in record.size]
        return mean(found) if found else None

    largest = [record.size["linf_levels"] for record in records if "linf_levels" in record.size]
    said = [
        (f"{max(largest):.0f} levels at most" if largest else None),
        _figure(of("changed_share"), lambda share: f"{100 * share:.1f} % of values"),
        _figure(of("l2"), lambda norm: f"L2 {norm:.2f}"),
        _figure(of("psnr_db"), lambda psnr: f"PSNR {psnr:.1f} dB"),
        _figure(of("ssim"), lambda ssim: f"SSIM {ssim:.3f}"),
    ]
    return ", ".join(text for text in said if text)


def _figure(value, write) -> str | None:
    return None if value is None else write(value)


def _cost(records: Sequence[Record]) -> str:
    said = {
        "fit_seconds": "{:.1f} s to learn",
        "attack_seconds": "{:.1f} s to attack",
        "images_per_second": "{:.0f} images a second",
    }
    if records[0].universal:
        # Adding what was learnt takes no time worth a figure.
        del said["images_per_second"]
    texts = []
    for name, text in said.items():
        found = [record.cost[name] for record in records if name in record.cost]
        if found:
            texts.append(text.format(mean(found)))
    peak = max((record.cost.get("peak_memory", 0) for record in records), default=0)
    return ", ".join([*texts, *([f"{peak / 2**20:.0f} MiB at most"] if peak else [])])


def _queries(record: Record) -> str:
    counts = sorted({(trial.queries, trial.skipped) for trial in record.clean})
    each = ", ".join(f"{queries} ({skipped} without a match)" for queries, skipped in counts[:3])
    return f"{each}{' ...' if len(counts) > 3 else ''} in each of {len(record.clean)} trials"


def _identity(record: Record, several: bool) -> str:
    seed = f"seed {record.config.get('seed')} " if several else ""
    return f"{seed}{record.id}" + (f" of {record.created}" if record.created and not several else "")
