"""Real records of tiny runs, and what a stranger might do to one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tiny import TinyVictim

from vbench.attacks.build import build_attack
from vbench.attacks.ensemble import Ensemble
from vbench.attacks.noise import Noise
from vbench.core.threat import ThreatModel
from vbench.data import open_dataset
from vbench.data.synthetic import write_dataset
from vbench.records.record import Record, config_id
from vbench.reports.verify import Verdict, parse, verify
from vbench.reports.verify.configuration import declared_attack
from vbench.run.bench import Bench
from vbench.run.execute import Run
from vbench.run.prepare import Surrogate
from vbench.victims.agw import AGW
from vbench.victims.precision import Precision, compute_in

SIZE = (32, 16)
UAP = "uap[evaluations=64,batch=16]"
FEATURE = "fsam_uap[level=feature,module_steps=2,evaluations=64,batch=8]"


class Strangers(Noise):
    """An attack of somebody else."""

    name = "stranger"


class Cheap(Ensemble):
    """The ensemble with a few steps a member."""

    def members(self) -> tuple[Any, ...]:
        specs = ("square[queries=2]", UAP, "pgd[steps=2]", "sma[steps=2]", "fna[steps=2]")
        return tuple(build_attack(spec) for spec in specs)


def agw(seed: int = 0, **options: Any) -> AGW:
    """An untrained AGW that takes next to no time."""
    given = {**AGW.THIN, "input_size": SIZE, "width": 0.0625, **options}
    return AGW(num_classes=8, generator=torch.Generator().manual_seed(seed), **given).eval()


@dataclass(frozen=True)
class Workshop:
    """Where records are made: a folder of tiny data sets."""

    folder: Path

    @cache  # noqa: B019  the workshop lives as long as the tests
    def bench(self, layout: str = "sysu", victim: str = "agw", protocol: str | None = None) -> Bench:
        """A workbench of a victim: agw, or tiny, which is a stranger's."""
        root = self.folder / layout
        write_dataset(layout, root, ids=8, seed=3, size=SIZE, test_ids=6, quiet=True)
        made = {"agw": agw, "flipped": lambda: agw(flip=True), "other": lambda: agw(1), "tiny": TinyVictim}
        return Bench(open_dataset(layout, root, protocol), made[victim]().eval(), None, quiet=True)

    def run(
        self,
        attack: str = "metric_fgsm",
        threat: ThreatModel | None = None,
        seed: int = 0,
        source: Bench | None = None,
        **where: Any,
    ) -> dict[str, Any]:
        """The record of one run, as JSON; a run is done once."""
        return json.loads(self._done(attack, threat or ThreatModel("8/255"), seed, source, **where))

    @cache  # noqa: B019
    def _done(self, attack: str, threat: ThreatModel, seed: int, source: Bench | None, **where: Any) -> str:
        built = Strangers() if attack == "stranger" else build_attack(attack)
        run = Run(self.bench(**where), built, threat, seed, source=source, ignore_gates=True)
        record, _ = run.execute(quiet=True)
        return record.model_dump_json()

    def transferred(self) -> dict[str, Any]:
        """A record of an attack crafted on another model."""
        bench = self.bench()
        stand_in = Surrogate([agw(1)], bench.victim.input_size, bench.victim.resize_filter).eval()
        return self.run(source=Bench(bench.dataset, stand_in, None, quiet=True))

    def in_bfloat16(self) -> dict[str, Any]:
        """A record of a victim that computes in another precision."""
        victim = agw()
        compute_in(victim, Precision("bfloat16", channels_last=True))
        bench = Bench(self.bench().dataset, victim, None, quiet=True)
        run = Run(bench, build_attack("noise"), ThreatModel("8/255"), ignore_gates=True)
        record, _ = run.execute(True)
        return json.loads(record.model_dump_json())

    def battery(self) -> dict[str, Any]:
        """A record of the ensemble, with figures of cheaper members: its own take minutes of work."""
        run = Run(self.bench(), Cheap(), ThreatModel("8/255"), ignore_gates=True)
        found, _ = run.execute(True)
        record = json.loads(found.model_dump_json())
        members = declared_attack("ensemble").facts["members"]
        record["config"]["attack"]["members"] = json.loads(json.dumps(members))
        for member, card in zip(record["members"], members, strict=True):
            member["label"] = declared_attack(card["name"]).label(card["settings"])
        return forge(record)


def judged(record: dict[str, Any], hashed: bool = True) -> Verdict:
    """The verdict on a record that was tampered with; ``hashed``: the forger hashed and sealed it again."""
    if hashed:
        forge(record)
    found = parse(json.dumps(record).encode())
    return verify(found) if isinstance(found, Record) else Verdict(found)


def forge(record: dict[str, Any]) -> dict[str, Any]:
    """Give a changed record the id and the digest that go with what it says now, if it still is one."""
    record["id"] = config_id(record["config"])
    try:
        whole = Record.model_validate(record)
        whole.seal()
    except ValueError:
        return record
    record["digest"] = whole.digest
    return record


def changed(record: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """A deep copy with a change made to it."""
    copy = json.loads(json.dumps(record))
    change(copy)
    return copy


def write(folder: Path, record: dict[str, Any], name: str | None = None) -> Path:
    """Store a record as a run would; ``name`` where the file is called otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or Record.model_validate(record).file_name)
    path.write_text(json.dumps(record))
    return path


def relabelled(record: dict[str, Any], **config: Any) -> dict[str, Any]:
    """A consistent record of another configuration, with the same figures."""
    copy = json.loads(json.dumps(record))
    copy["config"] = {**copy["config"], **config}
    return forge(copy)
