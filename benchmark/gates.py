"""What must hold before a result may mean anything."""

from __future__ import annotations

import math

from vbench.errors import BadInput
from vbench.measures import mean_rank1
from vbench.workbench import Workbench


def clean_gate(bench: Workbench) -> None:
    """Refuse a victim whose clean Rank-1 is no better than chance: its checkpoint did not load, most likely.

    The bound is three binomial standard deviations above a random ranking.
    """
    chance = bench.chance_rank1()
    queries = sum(int(trial.valid.sum()) for trial in bench.clean_trials) / len(bench.clean_trials)
    bound = chance + 3 * math.sqrt(chance * (1 - chance) / queries)
    rank1 = mean_rank1(bench.clean_trials)
    if rank1 <= bound:
        raise BadInput(
            f"{bench.victim.name}: clean Rank-1 is {rank1:.1%} on {bench.dataset.protocol}, chance level is "
            f"{chance:.1%}; are these the right weights? (--ignore-gates runs anyway)"
        )
