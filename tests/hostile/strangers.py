"""Records with every field filled, as runs would store them."""

from __future__ import annotations

import numpy as np
from fabricated import metrics, ranks, record

from vbench.records.record import CompressedArray, ControlRecord, MemberRecord, Record, config_id

_ENVIRONMENT = {
    "versions": {"vbench": "0.1.0"},
    "device": "cpu",
    "device_name": "x86_64",
    "platform": "Linux",
}


def run(attack: str = "pgd", first: int = 6, **more) -> Record:
    """One run, whose queries are matched from rank ``first`` on after the attack."""
    given = {
        "knowledge": ["training"],
        "asr": 0.5,
        "drop_interval": {"r1": (0.1, 0.3)},
        "size": {"linf_levels": 8.0, "l2": 2.4, "psnr_db": 30.2, "ssim": 0.88, "changed_share": 0.99},
        "environment": _ENVIRONMENT,
        "warnings": ["10.0% of queries hang on a tie"],
        "fit_log": {"updates": 400, "masks": {"layer1": [1, 2]}},
    }
    made = record(attack, first, **{**given, **more})
    made.config["victim"] |= {"options": {"num_classes": 8, "input_size": [64, 32], "embedding": "neck"}}
    made.config["victim"]["precision"] = {"dtype": "bfloat16", "channels_last": True}
    made.config["attack"]["settings"] = {"steps": 20, "stages": ["stem"]}
    made.config["threat"]["eps_value"] = 8 / 255
    made.config["perturbation"] = None
    if made.surrogate:
        members = [{"name": made.surrogate, "input_size": [64, 32]}]
        made.config["surrogate"] = {"name": made.surrogate, "options": {"members": members}, "weights": "w"}
    for when in ("clean", "adversarial"):
        rank = made.per_query[f"{when}_rank"].unpack()
        made.per_query[f"{when}_ap"] = CompressedArray.pack(
            np.where(rank > 0, 1 / np.maximum(rank, 1), np.nan)
        )
    made.id = config_id(made.config)
    made.seal()
    return made


def runs() -> list[Record]:
    """Six runs: seeds, a control, a battery with members, transfer, real data, another budget."""
    trials = metrics(ranks(3))
    members = [
        MemberRecord(label="pgd", trials=trials, asr=0.4, won=1.0, won_lost=1.0, cost={"seconds": 1.0})
    ]
    return [
        run("uap", universal=True, controls=[ControlRecord(name="modules, d = 0", trials=trials)]),
        run("uap", 5, seed=1, universal=True, level="feature", stealthy=True),
        run("ensemble", 8, members=members, left_out={"simba": "no queries"}),
        run("metric_ifgsm", 4, surrogate="ddag"),
        run("odfa", 3, synthetic=False),
        run("uap", 4, eps="4/255"),
    ]
