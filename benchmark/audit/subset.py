"""A dataset with fewer queries, so that an audit takes a minute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vbench.data.base import Dataset, Trial
from vbench.errors import BadInput


def with_queries(dataset: Dataset, count: int) -> Dataset:
    """The dataset with ``count`` of its queries, evenly spread over the list; all of them if it has fewer.

    Galleries and trials stay as they are, and so does every query's rank. Raises :class:`BadInput` for a
    count below 1 and for a trial that is left without a query.
    """
    if count < 1:
        raise BadInput(f"--queries {count}: give at least 1")
    total = len(dataset.query)
    if count >= total:
        return dataset
    kept = np.linspace(0, total, count, endpoint=False).astype(np.int64)
    place = np.full(total, -1)
    place[kept] = np.arange(count)
    trials = []
    for trial in dataset.trials:
        query = place[trial.query]
        query = query[query >= 0]
        if not len(query):
            raise BadInput(f"--queries {count} leaves trial {trial.name} without a query; give more")
        trials.append(Trial(trial.name, query, trial.gallery))
    return replace(dataset, query=tuple(dataset.query[row] for row in kept), trials=tuple(trials))
