"""Tables of rows as text: markdown, CSV, JSON, LaTeX, or plain for a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import pandas as pd
from tabulate import tabulate

from vbench.errors import unknown_name
from vbench.record import Record
from vbench.reports.rows import HEADINGS, METRICS, Row, Setting, tables

Format = Literal["markdown", "csv", "json", "latex", "plain"]
FORMATS = ("markdown", "csv", "json", "latex", "plain")
_ARROW = {"latex": " $\\to$ "}


def report(records: Sequence[Record], style: str = "markdown") -> str:
    """Before/after tables of records; one table a setting, so that different protocols never share a column.

    Figures are percent, mean over trials and seeds, with the standard deviation over seeds where there are
    several. "csv" and "json" have one row a record, unrounded. Raises BadInput for an unknown format.
    """
    check_format(style)
    if style in ("csv", "json"):
        frame = to_frame(records)
        return frame.to_csv(index=False) if style == "csv" else _json(frame)
    return "\n\n".join(_table(where, rows, style) for where, rows in tables(records).items())


def check_format(style: str) -> None:
    """Refuse an unknown format with :class:`BadInput`."""
    if style not in FORMATS:
        raise unknown_name("format", style, FORMATS)


def to_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record: configuration, metrics before and after in [0, 1], intervals, shares, cost."""
    lines = []
    for record in records:
        threat, data = record.config["threat"], record.config["dataset"]
        line: dict[str, object] = {
            "id": record.id,
            "victim": record.victim_label or record.config["victim"]["name"],
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
            **{name: threat[name] for name in ("norm", "eps", "side", "quantize")},
            "seed": record.config["seed"],
            "trials": len(record.clean),
        }
        for metric in HEADINGS:
            line[f"{metric}_before"] = record.mean("clean", metric)
            line[f"{metric}_after"] = record.mean("adversarial", metric)
        line["asr"] = record.asr
        for metric, (low, high) in record.drop_interval.items():
            line[f"{metric}_drop_low"], line[f"{metric}_drop_high"] = low, high
        for member in record.members:
            line[f"won {member.label}"] = member.won
            line[f"won of lost Rank-1 {member.label}"] = member.won_lost
        line |= {**record.size, **record.cost}
        lines.append(line)
    return pd.DataFrame(lines)


def _json(frame: pd.DataFrame) -> str:
    return json.dumps(json.loads(frame.to_json(orient="records")), indent=1)


def _table(where: Setting, rows: Sequence[Row], style: str) -> str:
    arrow = _ARROW.get(style, " -> ")
    seeds = max(row.seeds for row in rows)
    header = ["victim", "attack", "knowledge"]
    header += [f"{HEADINGS[metric]}" for metric in METRICS]
    header += ["ASR", "gradient evaluations", "s"]
    lines = [[*_labels(row), *_figures(row, arrow), *_cost(row)] for row in rows]
    names = {"markdown": "pipe", "plain": "simple", "latex": "latex_raw"}
    # Alignment is given, so that tabulate leaves figures as they were written.
    align = ["left"] * 3 + ["right"] * (len(header) - 3)
    if style == "latex":
        lines = [[_escaped(cell, arrow) for cell in line] for line in lines]
    body = tabulate(lines, header, tablefmt=names[style], colalign=align, disable_numparse=True)
    title = f"{where.title}; before -> after, %" + (
        f", mean ± sd of up to {seeds} seeds" if seeds > 1 else ""
    )
    if style == "latex":
        return _latex(body, title)
    return f"**{title}**\n\n{body}" if style == "markdown" else f"{title}\n\n{body}"


def _labels(row: Row) -> list[str]:
    return [row.victim, f"  · {row.attack}" if row.control else row.attack, row.knowledge]


def _figures(row: Row, arrow: str) -> list[str]:
    cells = []
    for metric in METRICS:
        spread = f" ± {row.spread[metric]:.1f}" if row.spread else ""
        cells.append(f"{row.before[metric]:.1f}{arrow}{row.after[metric]:.1f}{spread}")
    return cells


def _cost(row: Row) -> list[str]:
    if not row.evaluations:
        return ["", "", ""]
    asr = "" if row.asr is None else f"{row.asr:.1f}"
    return [asr, row.evaluations, f"{row.seconds:.1f}"]


def _escaped(text: str, arrow: str) -> str:
    kept = text.replace(arrow, "\x00")
    for plain, tex in (("_", r"\_"), ("%", r"\%"), ("±", r"$\pm$"), ("·", r"$\cdot$"), ("&", r"\&")):
        kept = kept.replace(plain, tex)
    return kept.replace("\x00", arrow)


def _latex(body: str, title: str) -> str:
    rules = iter((r"\toprule", r"\midrule", r"\bottomrule"))
    lines = [next(rules) if line.strip() == r"\hline" else line for line in body.splitlines()]
    caption = _escaped(title.replace("->", r"$\to$"), r"$\to$")
    return "\n".join(
        [r"\begin{table}", rf"\caption{{{caption}}}", r"\centering\small", *lines, r"\end{table}"]
    )
