"""Records as flat rows (CSV, JSON) and pandas tables."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vbench.core.errors import BadInput, unknown_name
from vbench.core.text import json_text, one_line
from vbench.core.threat import budget_text
from vbench.records.record import Record
from vbench.reports.rows import HEADINGS

if TYPE_CHECKING:
    import pandas as pd


#: A spreadsheet treats text that begins with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def flat(
    records: Sequence[Record],
    metrics: Sequence[str] | None = None,
    more: Mapping[str, Mapping[str, object]] | None = None,
) -> list[dict[str, object]]:
    """One dictionary per record: configuration, metrics before and after, drops, intervals, shares, cost.

    ``{metric}_drop_relative`` is the drop divided by the clean value (None if that is 0), ``_sd`` the
    standard deviation over trials (None for one trial). ``metrics``: all unless given. ``more``: further
    columns by record id.
    """
    wanted = (*HEADINGS, "asr") if metrics is None else metrics
    return [{**_line(record, wanted), **(more or {}).get(record.id, {})} for record in records]


def to_csv(lines: Sequence[Mapping[str, object]]) -> str:
    """CSV with a column for every key of any row; missing values are empty. No cell is a formula."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([safe(name) for name in names])
    writer.writerows([safe(line.get(name, "")) for name in names] for line in lines)
    return text.getvalue()


def safe(value: object) -> object:
    """A cell that a spreadsheet does not execute: text in one line, an apostrophe before a formula."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if value.lstrip(" ").startswith(_FORMULA) else text


def to_json(lines: Sequence[Mapping[str, object]]) -> str:
    """JSON, a list of objects with the same keys; missing and non-finite values are null."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    rows = [{name: _finite(line.get(name)) for name in names} for line in lines]
    return json_text(json.dumps(rows, indent=1))


def identity(record: Record) -> dict[str, object]:
    """The facts that identify a run: configuration and kind of attack."""
    threat, data = record.config["threat"], record.config["dataset"]
    return {
        "id": record.id,
        "victim": record.victim_name,
        "surrogate": record.surrogate,
        "weights": record.config["victim"]["weights"],
        "attack": record.label,
        "level": record.level,
        "stealthy": record.stealthy,
        "universal": record.universal,
        "knowledge": "+".join(record.knowledge),
        "dataset": data["name"],
        "synthetic": record.synthetic,
        "protocol": record.protocol,
        **({"queries": queries} if (queries := data.get("queries")) else {}),
        "norm": threat["norm"],
        "eps": budget_text(threat),
        **{name: threat[name] for name in ("side", "quantize")},
        "seed": record.config["seed"],
    }


def _line(record: Record, metrics: Sequence[str]) -> dict[str, object]:
    line = {**identity(record), "trials": len(record.clean)}
    for metric in metrics:
        line |= {"asr": record.asr} if metric == "asr" else _metric(record, metric)
    for member in record.members:
        line[f"won {member.label}"] = member.won
        line[f"won of lost Rank-1 {member.label}"] = member.won_lost
    return line | {**record.size, **record.cost}


def _metric(record: Record, metric: str) -> dict[str, object]:
    before, after = record.mean("clean", metric), record.mean("adversarial", metric)
    line: dict[str, object] = {
        f"{metric}_before": before,
        f"{metric}_before_sd": _sd(record, "clean", metric),
        f"{metric}_after": after,
        f"{metric}_after_sd": _sd(record, "adversarial", metric),
        f"{metric}_drop": before - after,
        f"{metric}_drop_relative": (before - after) / before if before else None,
    }
    if metric in record.drop_interval:
        line[f"{metric}_drop_low"], line[f"{metric}_drop_high"] = record.drop_interval[metric]
    return line


def _sd(record: Record, which: str, metric: str) -> float | None:
    values = [getattr(trial, metric) for trial in getattr(record, which)]
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


#: Kinds of rows.
PER = ("run", "trial", "query")

_ARRAYS = {"clean_rank", "adversarial_rank", "clean_ap", "adversarial_ap"}


def frame(records: Sequence[Record], per: str = "run") -> pd.DataFrame:
    """A table with a row per "run", "trial" or "query"; the first columns identify the run of a row.

    Raises :class:`BadInput` for another ``per``, and for "query" with records without per-query values
    (archives).
    """
    if per not in PER:
        raise unknown_name("kind of row", per, PER)
    # Imported here because it is slow, and text tables do not need it.
    import pandas as pd

    if per == "query":
        found = [pd.DataFrame(_query_columns(pd, record)) for record in records]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    return pd.DataFrame(
        flat(records) if per == "run" else [line for record in records for line in _trial_lines(record)]
    )


def _trial_lines(record: Record) -> Iterator[dict[str, object]]:
    for clean, attacked in zip(record.clean, record.adversarial, strict=True):
        line = {**identity(record), "trial": clean.trial, "queries": clean.queries, "skipped": clean.skipped}
        for metric in HEADINGS:
            before, after = getattr(clean, metric), getattr(attacked, metric)
            line |= {
                f"{metric}_before": before,
                f"{metric}_after": after,
                f"{metric}_drop": before - after,
            }
        yield line | {"tied_share_before": clean.tied_share, "tied_share_after": attacked.tied_share}


def _query_columns(pd: Any, record: Record) -> dict[str, object]:
    if not record.per_query:
        raise BadInput(f"record {record.id} has no per-query values, like all records of archives")
    arrays = {name: packed.unpack() for name, packed in record.per_query.items()}
    if not arrays.keys() >= _ARRAYS or any(len(one) != len(record.clean) for one in arrays.values()):
        raise BadInput(f"record {record.id}: values of single queries do not fit its trials")
    trials, queries = arrays["clean_rank"].shape
    columns: dict[str, object] = {
        "trial": np.repeat([trial.trial for trial in record.clean], queries),
        "query": np.tile(np.arange(queries), trials),
    }
    for name, of in (("rank_before", "clean_rank"), ("rank_after", "adversarial_rank")):
        ranks = arrays[of].reshape(-1).astype("int64")
        # Rank 0 means a query without a match in the gallery.
        columns[name] = pd.arrays.IntegerArray(ranks, ranks == 0)
    columns |= {"ap_before": arrays["clean_ap"].reshape(-1), "ap_after": arrays["adversarial_ap"].reshape(-1)}
    if "member" in arrays:
        labels, chosen = np.array([member.label for member in record.members]), arrays["member"].reshape(-1)
        if not ((chosen >= 0) & (chosen < len(labels))).all():
            raise BadInput(f"record {record.id}: queries were won by members that it does not have")
        columns["member"] = labels[chosen]
    return {**identity(record), **columns}
