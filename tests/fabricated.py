"""Records with chosen ranks of single queries, for tests of figures."""

from __future__ import annotations

import numpy as np

from vbench.records.record import IDENTITY, CompressedArray, Record, TrialMetrics, config_id

PROTOCOL = "sysu/all/single/ir2vis/seed10"


def ranks(first: int, trials: int = 3, queries: int = 40, seed: int = 0) -> np.ndarray:
    """Trials x queries of ranks that begin at ``first`` and thin out; some queries have no match."""
    found = first + np.random.default_rng([seed, first]).geometric(0.15, (trials, queries)) - 1
    found[:, ::13] = 0
    return found


def metrics(found: np.ndarray) -> list[TrialMetrics]:
    """What a record says of each trial with these ranks."""
    trials = []
    for number, row in enumerate(found):
        valid = row[row > 0]
        shares = {f"r{k}": float((valid <= k).mean()) for k in (1, 5, 10, 20)}
        trials.append(
            TrialMetrics(
                trial=str(number),
                **shares,
                map=float((1 / valid).mean()),
                minp=float((1 / valid).mean()) / 2,
                queries=len(valid),
                skipped=len(row) - len(valid),
                tied_share=0.0,
            )
        )
    return trials


def record(attack="uap", first=6, victim="agw", eps="8/255", side="query", seed=0, **more) -> Record:
    """A record whose queries are matched from rank ``first`` on after the attack."""
    protocol, norm = more.pop("protocol", PROTOCOL), more.pop("norm", "linf")
    before, after = ranks(1, seed=1), ranks(first, seed=2 + seed)
    surrogate = more.get("surrogate", "")
    cost = {"attack_evaluations": 400.0, "attack_seconds": 2.0, "images_per_second": 20.0}
    config = {
        "identity": IDENTITY,
        "victim": {"name": victim, "weights": f"weights-of-{victim}"},
        "dataset": {"name": "sysu", "protocol": protocol, "split": "sysu", "fingerprint": "f"},
        "attack": {"name": attack.split("[")[0], "settings": {"called": attack}},
        "threat": {"norm": norm, "eps": eps, "side": side, "quantize": True},
        "seed": seed,
        **({"surrogate": {"name": surrogate, "options": {}, "weights": surrogate}} if surrogate else {}),
    }
    made = Record(
        id=config_id(config),
        created="2026-01-01T00:00:00+00:00",
        label=attack,
        victim_label=victim,
        config=config,
        protocol=protocol,
        synthetic=more.pop("synthetic", True),
        clean=metrics(before),
        adversarial=metrics(after),
        per_query={
            "clean_rank": CompressedArray.pack(before),
            "adversarial_rank": CompressedArray.pack(after),
        },
        cost=more.pop("cost", cost),
        **more,
    )
    made.seal()
    return made


def text_of(figure) -> str:
    """All words of a figure: title, drawn or not, titles of axes, labels, legends, notes."""
    import matplotlib.text

    figure.draw_without_rendering()
    drawn = [found.get_text() for found in figure.findobj(matplotlib.text.Text)]
    return "\n".join([figure.get_label(), *drawn])
