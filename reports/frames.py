"""Records as pandas tables: a row a run, a trial, or a query of a trial; unrounded, shares in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vbench.errors import BadInput, unknown_name
from vbench.record import Record
from vbench.reports.flat import flat, identity
from vbench.reports.rows import HEADINGS

if TYPE_CHECKING:
    import pandas as pd

_ARRAYS = {"clean_rank", "adversarial_rank", "clean_ap", "adversarial_ap"}


def frame(records: Sequence[Record], per: str = "run") -> pd.DataFrame:
    """The table of :data:`PER`; the first columns say whose run a row is.

    Raises :class:`BadInput` for another ``per``, and for queries of records that keep none (archives).
    """
    if per not in PER:
        raise unknown_name("kind of row", per, PER)
    # Slow to load, and tables as text do without it.
    import pandas as pd

    return PER[per](pd, records)


def _runs(pd, records: Sequence[Record]) -> pd.DataFrame:
    return pd.DataFrame(flat(records))


def _trials(pd, records: Sequence[Record]) -> pd.DataFrame:
    return pd.DataFrame([line for record in records for line in _trial_lines(record)])


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


def _queries(pd, records: Sequence[Record]) -> pd.DataFrame:
    tables = [_query_table(pd, record) for record in records]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _query_table(pd, record: Record) -> pd.DataFrame:
    if not record.per_query:
        raise BadInput(f"record {record.id} keeps nothing of single queries, as archives do")
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
        # Rank 0 stands for a query without a match in the gallery.
        columns[name] = pd.arrays.IntegerArray(ranks, ranks == 0)
    columns |= {"ap_before": arrays["clean_ap"].reshape(-1), "ap_after": arrays["adversarial_ap"].reshape(-1)}
    if "member" in arrays:
        labels, chosen = np.array([member.label for member in record.members]), arrays["member"].reshape(-1)
        if not ((chosen >= 0) & (chosen < len(labels))).all():
            raise BadInput(f"record {record.id}: queries were won by members that it does not have")
        columns["member"] = labels[chosen]
    return pd.DataFrame({**identity(record), **columns})


#: What a row may be.
PER: dict[str, Callable] = {"run": _runs, "trial": _trials, "query": _queries}
