"""The suites of the paper of ``fsam_uap``: their rows, and the run that each row needs.

:func:`slots_of` expands suites to run specs, :func:`fill` executes those without a record; the tables are in
:mod:`vbench.sweep.paper_table`.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

from vbench.attacks.build import build_attack, label, presets
from vbench.attacks.registry import attacks
from vbench.core.errors import BadInput, unknown_name
from vbench.core.progress import Display, say
from vbench.core.seeds import check_seed
from vbench.core.settings import parse
from vbench.core.text import show_left
from vbench.core.threat import ThreatModel
from vbench.data.protocols import SYNTHETIC, all_protocols, parse_protocol
from vbench.records.record import Record
from vbench.records.spec import ModelSpec, RunSpec, Setup
from vbench.sweep.tasks import Durations
from vbench.victims.registry import victims

if TYPE_CHECKING:
    from vbench.run.execute import Run
    from vbench.run.session import Session
    from vbench.victims.base import Victim

#: Where the attack acts. "pixel": the unmodified victim gets x + d. "feature": the attack's modules also stay
#: inside the victim. Rows of both are never in one table, nor those of "model", a suite of its own, in which
#: the attacker trains the victim.
LEVELS = ("pixel", "feature")


@dataclass(frozen=True)
class Line:
    """One row: its name, its attack and the row's settings.

    ``block``: the number of the victim's stage with the modules, 0 is the stem. ``published``: the attack of
    this row in ``published.csv``, empty if the paper has no values for it.
    """

    name: str
    attack: str
    settings: Mapping[str, str] = field(default_factory=dict)
    block: int | None = None
    published: str = ""

    @property
    def levelled(self) -> bool:
        """Whether the attack also exists at feature level."""
        return self.attack == "fsam_uap"


@dataclass(frozen=True)
class Suite:
    """One table of the paper.

    ``source``: beginnings of the sources of its values in ``published.csv``, empty if there are none.
    ``across``: one row per victim, with values before and after, instead of one per attack below a clean row.
    ``victims``: those in the paper. ``notes`` are printed below the table. ``seeds``: unless others are asked
    for.
    """

    name: str
    title: str
    lines: tuple[Line, ...]
    source: tuple[str, ...] = ()
    victims: tuple[str, ...] = ("agw",)
    across: bool = False
    notes: tuple[str, ...] = ()
    levels: tuple[str, ...] = LEVELS
    seeds: tuple[int, ...] = (0,)


_REBUTTAL = "rebuttal of FSAM-UAP"
_FULL = Line("FSAM-UAP", "fsam_uap", published="fsam_uap")
_PARTS = ("FSAM", "SFM", "AQAL")


def _ablated(on: Sequence[str]) -> Line:
    name = " + ".join(("noise", *on))
    switches = {part.lower(): str(part in on).lower() for part in _PARTS}
    return Line(name, "fsam_uap", switches, published="fsam_uap" if on == _PARTS else f"fsam_uap: {name}")


#: Both modules are used whatever the preset: without them there would be nothing to compare.
_MODULES = {"fsam": "true", "sfm": "true"}

COMPARISON = Suite(
    "comparison",
    "comparison with other attacks",
    (
        Line("noise", "noise"),
        Line("FGSM", "fgsm", published="fgsm"),
        Line("PGD", "pgd"),
        Line("UAP (DeepFool)", "deepfool_uap"),
        Line("UAP (Li)", "uap", published="uap"),
        Line("SMA", "sma"),
        Line("DMR", "mis_ranking"),
        Line("LTA", "lta"),
        _FULL,
    ),
    source=(_REBUTTAL,),
    notes=(
        "The paper cites the UAP of Moosavi-Dezfooli et al.; whether its row UAP is that one, in a form for "
        "retrieval, is not stated. DMR is mis-ranking.",
    ),
)

SYSTEMS = Suite(
    "systems",
    "systems before and after the attack",
    (_FULL,),
    source=(_REBUTTAL, "FSAM-UAP (NeurIPS 2024), text of section 4"),
    victims=("agw", "hcloss", "caj", "mmn", "deen", "ddag", "mrcn"),
    across=True,
)

ABLATION = Suite(
    "ablation",
    "ablation of FSAM, SFM and AQAL",
    tuple(_ablated(on) for count in range(4) for on in combinations(_PARTS, count)),
    source=("FSAM-UAP (NeurIPS 2024), ablation",),
)

MODEL = replace(
    ABLATION,
    name="model",
    title="ablation where the attacker trains the victim",
    levels=("model",),
    seeds=(0, 1, 2),
    notes=("One reading of the procedure: no text says that its authors did this.",),
)

BLOCKS = Suite(
    "blocks",
    "where the modules sit",
    (
        *(Line(f"block{number}", "fsam_uap", _MODULES, block=number) for number in range(5)),
        Line("all blocks", "fsam_uap", {**_MODULES, "stages": "all"}, published="fsam_uap"),
    ),
    source=(_REBUTTAL,),
    notes=("block0 is the victim's stem, block1 its first stage; see vbench describe victim.",),
)

ATTENTION = Suite(
    "attention",
    "kinds of attention",
    (
        Line("SE", "fsam_uap", {**_MODULES, "attention": "se"}, published="fsam_uap: SE in place of FSAM"),
        Line("ECA", "fsam_uap", {**_MODULES, "attention": "eca"}, published="fsam_uap: ECA in place of FSAM"),
        Line("FSAM", "fsam_uap", {**_MODULES, "attention": "cbam_spatial"}, published="fsam_uap"),
    ),
    source=("FSAM-UAP (NeurIPS 2024), comparison of attention",),
)

SUITES = {suite.name: suite for suite in (COMPARISON, SYSTEMS, ABLATION, BLOCKS, ATTENTION, MODEL)}


def suites_called(name: str) -> tuple[Suite, ...]:
    """The suite with a name; for "all" those without trainings. Raises :class:`BadInput` for another name."""
    if name == "all":
        return tuple(suite for suite in SUITES.values() if suite is not MODEL)
    if name not in SUITES:
        raise unknown_name("suite of the paper", name, (*SUITES, "all"))
    return (SUITES[name],)


#: In place of a preset: the attack's defaults.
DEFAULT = "default"

#: Stages for checks before a victim is opened, when their names do not matter.
ANY_STAGES = ("stem",) * 9


@dataclass(frozen=True)
class Settings:
    """Settings of all rows: a preset of ``fsam_uap``; ``common`` ones of every attack that has them."""

    preset: str = "paper"
    common: Mapping[str, str] = field(default_factory=dict)

    def check(self, suites: Sequence[Suite]) -> None:
        """Raise :class:`BadInput` for settings that no attack of these suites has, or that their rows set."""
        known = (*presets(attacks.load("fsam_uap")), DEFAULT)
        if self.preset not in known:
            raise unknown_name("preset of fsam_uap", self.preset, known)
        lines = [(suite, line) for suite in suites for line in suite.lines]
        everywhere = {one for _, line in lines for one in _fields(line)}
        for name in self.common:
            if name in ("level", "preset"):
                raise BadInput(f"--set {name}: use --{name}")
            if name == "evaluations" and MODEL in suites:
                raise BadInput("--set evaluations: a victim is trained for epochs; use --set epochs=2")
            if name not in everywhere:
                raise unknown_name("setting of these attacks", name, everywhere)
            for suite, line in lines:
                if name in line.settings or (name == "stages" and line.block is not None):
                    raise BadInput(f"--set {name}: the rows of '{suite.name}' set it themselves")
        for _, line in lines:
            self.attack(line, "pixel", ANY_STAGES)

    def attack(self, line: Line, level: str, stages: Sequence[str]) -> Any:
        """The attack of a row for a victim with ``stages``, in forward order.

        An attack without modules is the same at feature level as at pixel level. Raises :class:`BadInput` if
        the victim does not have the row's block, and for invalid values.
        """
        settings = {name: value for name, value in self.common.items() if name in _fields(line)}
        if line.attack == "fsam_uap" and self.preset != DEFAULT:
            settings["preset"] = self.preset
        settings |= line.settings
        if line.block is not None:
            if line.block >= len(stages):
                raise BadInput(f"there is no block{line.block}: its stages are {', '.join(stages)}")
            settings["stages"] = stages[line.block]
        attack = build_attack(line.attack, settings)
        if level == "model":
            return replace(attack, level=level)
        at_feature_level = _at_feature_level(attack)
        return at_feature_level if level == "feature" and at_feature_level else attack

    def lines(self, suite: Suite, level: str) -> list[Line]:
        """The rows of a suite at a level; none at feature level if no attack has modules."""
        if level != "feature":
            return list(suite.lines)
        lines = [line for line in suite.lines if line.levelled]
        tried = [self.attack(line, level, ANY_STAGES) for line in lines]
        return lines if any(attack.tampers for attack in tried) else []


def _fields(line: Line) -> list[str]:
    return [one.name for one in dataclasses.fields(attacks.load(line.attack))]


def _at_feature_level(attack: Any) -> Any:
    """An attack at pixel level whose modules could stay inside a victim, at feature level; else None."""
    if attack.name != "fsam_uap" or attack.tampers or not (attack.fsam or attack.sfm):
        return None
    return replace(attack, level="feature")


_NAMED = re.compile(r"(?P<victim>[^\[\]=]+(?:\[[^\]]*\])?)=(?P<file>.+)")


def read_weights(texts: Sequence[str]) -> dict[str, str]:
    """Victim -> checkpoint, from texts such as "agw=FILE"; "" -> FILE without a victim."""
    found: dict[str, str] = {}
    for text in texts:
        named = _NAMED.fullmatch(text)
        # A victim by path is module:Class or file.py:Class.
        if named and (named["victim"].partition("[")[0] in victims.names() or ":" in named["victim"]):
            found[named["victim"]] = named["file"]
        elif "" in found:
            raise BadInput(f"--weights {text}: name its victim, as in --weights agw={text}")
        else:
            found[""] = text
    return found


def weights_of(weights: Mapping[str, str], victim: str, protocol: str) -> str | None:
    """The checkpoint of a victim under a protocol; None if none was given.

    ``{trial}`` is replaced by the number of the RegDB split that the checkpoint was trained on; raises
    :class:`BadInput` under a protocol that has none.
    """
    text = weights.get(victim, weights.get(""))
    if text is None or "{trial}" not in text:
        return text
    trial = parse_protocol(protocol).trial
    if trial is None:
        raise BadInput(f"--weights {text}: {protocol} has no trial number for {{trial}}")
    return text.replace("{trial}", str(trial))


def victims_of(
    suites: Sequence[Suite],
    asked: Sequence[str],
    weights: Mapping[str, str],
    dataset: str,
    quiet: bool = False,
) -> dict[str, list[str]]:
    """Suite -> victims. If ``asked`` is given, every suite has those.

    Otherwise a suite has the paper's victims; if checkpoints are named, those of them with one, or, if there
    are none, all victims with one. On real data a note names the victims that are left out. Raises
    :class:`BadInput` for a checkpoint of another victim, or one whose victim is not clear.
    """
    from vbench.victims.build import victim_names

    named, found = list(filter(None, weights)), {}
    for suite in suites:
        own = [victim for victim in suite.victims if victim in named]
        found[suite.name] = victim_names(asked) or own or named or list(suite.victims)
        left = [victim for victim in suite.victims if victim not in found[suite.name]]
        if left and not asked and dataset != SYNTHETIC:
            hint = f"name {'its' if len(left) == 1 else 'their'} checkpoint with --weights {left[0]}=FILE"
            say(f"note: {suite.name} leaves out {', '.join(left)}: {hint}", quiet)
    wanted = list(dict.fromkeys(name for names in found.values() for name in names))
    for name in named:
        if name not in wanted:
            raise BadInput(f"--weights {name}=...: '{name}' is not among the victims: {', '.join(wanted)}")
    if "" in weights and (named or len(wanted) > 1):
        plain = weights[""]
        raise BadInput(f"--weights {plain}: name its victim, as in --weights {wanted[0]}={plain}")
    return found


def expand(protocols: Sequence[str]) -> list[str]:
    """Replace "regdb/vis2ir" and "regdb/ir2vis" by their ten splits; keeps order, drops repeats.

    >>> expand(["regdb/vis2ir"])[:2]
    ['regdb/vis2ir/trial-1', 'regdb/vis2ir/trial-2']
    """
    found: list[str] = []
    for one in protocols:
        splits = [text for text in all_protocols("regdb") if text.startswith(f"{one}/trial-")]
        found += splits or [one]
    return list(dict.fromkeys(found))


def question(protocol: str) -> str:
    """The protocol without the number of a RegDB split.

    >>> question("regdb/vis2ir/trial-3"), question("sysu/all/single/ir2vis/seed10")
    ('regdb/vis2ir', 'sysu/all/single/ir2vis/seed10')
    """
    head, found, _ = protocol.partition("/trial-")
    return head if found else protocol


@dataclass(frozen=True)
class Place:
    """What all rows of a table share: protocol, whether the data are synthetic, trials, threat model."""

    protocol: str
    synthetic: bool
    trials: int
    threat: tuple[tuple[str, object], ...]


@dataclass
class Slot:
    """One row of one suite at one level, on one victim under one protocol, with one seed.

    ``spec``: its run, which other slots may need too; None if the row does not apply to the victim.
    ``reason``: why it does not apply, or why the run failed. ``preset``: that of ``fsam_uap``.
    """

    suite: Suite
    line: Line
    level: str
    victim: str
    place: Place
    seed: int
    spec: RunSpec | None = None
    record: Record | None = None
    reason: str = ""
    preset: str = "paper"

    @property
    def label(self) -> str:
        """The attack with its settings; empty if the row does not apply."""
        return self.spec.attack_text if self.spec else ""

    @property
    def state(self) -> str:
        """ "done", "failed", "n/a" (does not apply) or "not run"."""
        if self.reason:
            return "failed" if self.spec else "n/a"
        return "done" if self.record else "not run"


def slots_of(
    session: Session,
    victims_of_suites: Mapping[str, Sequence[str]],
    like: RunSpec,
    weights: Mapping[str, str],
    settings: Settings,
    protocols: Sequence[str] = ("",),
    seeds: Sequence[int] = (),
    levels: Sequence[str] = (),
    quiet: bool = False,
    dry: bool = False,
) -> list[Slot]:
    """The rows of suites on their victims, each with its run, and with its record if there is one.

    ``like``: a spec with the data, threat model, precision and device of all runs; protocol "" is the data
    set's default. Without ``seeds`` and ``levels`` a suite has its own. With ``dry`` no victim is trained or
    opened, and no record looked for. Raises :class:`BadInput`, before any victim is trained, for unknown
    names and settings, and for victims, data or checkpoints that do not fit.
    """
    from vbench.run.prepare import Opener
    from vbench.victims.build import expand_victims

    suites = [SUITES[name] for name in victims_of_suites]
    names = list(dict.fromkeys(name for names in victims_of_suites.values() for name in names))
    threat = ThreatModel(like.eps, like.norm, like.side or "query", like.quantize)
    settings.check(suites)
    for seed in seeds:
        check_seed(seed)
    expand_victims(names)
    setups = []
    everywhere = [replace(like.group, data=replace(like.group.data, protocol=one)) for one in protocols]
    for common in everywhere:
        Opener(common).check()
    for common in everywhere:
        own = session.dataset(common).protocol
        setups += [replace(common, victim=ModelSpec(one, weights_of(weights, one, own))) for one in names]
    session.open(setups)
    rows = []
    for suite, level in [(one, level) for one in suites for level in levels or one.levels]:
        lines = settings.lines(suite, level)
        rows += [(suite, level, line) for line in lines]
        if not lines:
            why = f"preset {settings.preset} has no modules, so there is no feature level"
            say(f"note: {suite.name}: {why}", quiet)
    slots = []
    for setup, (suite, level, line) in product(setups, rows):
        victim = setup.victim.victim
        if victim not in victims_of_suites[suite.name]:
            continue
        data = session.dataset(setup)
        stages = (session.structure(setup) if dry else session.bench(setup).victim).stages
        place = Place(data.protocol, data.synthetic, len(data.trials), tuple(threat.card().items()))
        for seed in seeds or suite.seeds:
            slot = Slot(suite, line, level, victim, place, seed, preset=settings.preset)
            try:
                attack = settings.attack(line, level, stages)
                spec = _with_attack(replace(like, group=setup, seed=seed), attack)
                if dry:
                    session.check([spec])
                else:
                    slot.record = session.recorder.known(session.ready(spec))
                slot.spec = spec
            except BadInput as error:
                slot.reason = str(error)
            slots.append(slot)
    return slots


def _with_attack(spec: RunSpec, attack: Any) -> RunSpec:
    """A spec with an attack under its label, so that equal runs have equal specs."""
    name, settings = parse(label(attack), "attack")
    return replace(spec, attack=name, settings=tuple(settings.items()))


def fill(slots: Sequence[Slot], session: Session, title: str, quiet: bool = False) -> bool:
    """Execute the runs without a record, one after the other, and tell the expected time.

    A run that fails is noted with its reason, and the next begins. Ctrl-C ends the work, and only the current
    run is lost; returns False then.
    """
    from vbench.core.arithmetic import default_arithmetic
    from vbench.core.plugins import reason
    from vbench.run.failures import LOSES_A_RUN

    specs = list(dict.fromkeys(slot.spec for slot in slots if slot.spec))
    records = {slot.spec: slot.record for slot in slots if slot.spec and slot.record}
    failures: dict[RunSpec, str] = {}
    learners = {spec: _learner(spec) for spec in specs}
    ordered = dict.fromkeys(one for spec in specs for one in (learners[spec], spec) if one in learners)
    todo = [spec for spec in ordered if spec not in records]
    durations = Durations(_comparable(session, todo[0], slots[0].place.synthetic) if todo else ())
    found = f", {len(records)} recorded already" if records else ""
    trainings = _trainings(session, todo, records)
    if trainings:
        found += f"; {len(trainings)} trainings of a victim"
        durations.add(todo[0], sum(trainings.values()) / len(todo))
    left = show_left([durations.of(spec) for spec in todo], unknown="time unknown until a run is done")
    say(f"{title}: {len(specs)} runs{found}{f'; {left}' if todo else ''}", quiet)

    def failed(spec: RunSpec, error: BaseException) -> None:
        failures[spec] = reason(error)
        display.failed(spec, failures[spec])

    try:
        with default_arithmetic(), Display(todo, 1, durations, quiet) as display:
            for spec, run in session.each(todo, lambda spec, _, error: failed(spec, error)):
                display.begin(spec)
                started = time.monotonic()
                try:
                    _share(session, records.get(learners[spec]), run)
                    records[spec] = session.recorder.record(run)
                except LOSES_A_RUN as error:
                    # Any error: the other runs must continue.
                    failed(spec, error)
                else:
                    display.done(spec, time.monotonic() - started)
    except KeyboardInterrupt:
        return False
    finally:
        for slot in slots:
            if slot.spec is not None:
                slot.record, slot.reason = records.get(slot.spec), failures.get(slot.spec, "")
    return True


def _trainings(
    session: Session, todo: Sequence[RunSpec], done: Collection[RunSpec]
) -> dict[tuple[object, ...], float]:
    """The trainings of victims by attackers that runs still need, and about how many seconds each takes.

    A run trains the victim, and again for each of its controls that no record has.
    """
    found: dict[tuple[object, ...], float] = {}
    speeds: dict[Setup, float] = {}
    for spec in (*todo, *done):
        attack: Any = session.attack(spec)
        if not getattr(attack, "retrains", False):
            continue
        bench = session.bench(spec.group)
        sizes = [len(bench.dataset.train_visible), len(bench.dataset.train_infrared)]
        if spec.group not in speeds:
            speeds[spec.group] = _seconds_an_image(bench.victim)
        for one in (attack, *attack.variants().values()):
            images = one.fit_cost(bench.victim, sizes, len(bench.dataset.train_labels))
            found[spec.group, spec.seed, one] = 0.0 if spec in done else images * speeds[spec.group]
    return {key: seconds for key, seconds in found.items() if seconds}


def _seconds_an_image(victim: Victim) -> float:
    """Seconds that an image takes forward and back, from the second of two small batches."""
    import torch

    from vbench.core.isolation import twin
    from vbench.core.types import Modality
    from vbench.victims.base import example_tensor

    trained = twin(victim).train()
    like = example_tensor(trained)
    images = torch.full((32, 3, *victim.input_size), 0.5, device=like.device, dtype=like.dtype)
    for _ in range(2):
        started = time.monotonic()
        trained(images, Modality.VISIBLE).embedding.sum().backward()
        # Waits for a GPU.
        example_tensor(trained).sum().item()
    return (time.monotonic() - started) / len(images)


def _comparable(session: Session, spec: RunSpec, synthetic: bool) -> list[Record]:
    """The stored records of runs on the same kind of device and data."""
    from vbench.core.environment import environment
    from vbench.victims.load import resolve_device

    store, device = session.recorder.store, environment(resolve_device(spec.group.device))["device_name"]
    return [
        record
        for record in (store.read_all().records if store else ())
        if (record.environment.get("device_name"), record.synthetic) == (device, synthetic)
    ]


def _learner(spec: RunSpec) -> RunSpec:
    """The spec at feature level whose fit learns what the run at pixel level needs; else the spec itself."""
    attack = _at_feature_level(build_attack(spec.attack, dict(spec.settings)))
    return spec if attack is None else _with_attack(spec, attack)


def _share(session: Session, learner: Record | None, run: Run) -> None:
    """Let a run at pixel level use what was learnt for the record at feature level, if there is one.

    Their fits differ only in that the modules are kept with the perturbation.
    """
    for learnt in session.recorder.perturbations(learner) if learner else ():
        alone = replace(learnt, modules={})
        facts = {"settings": run.attack.settings(), "digest": alone.digest, "fit": run.fit_id()}
        session.recorder.take(run.fit_id(), alone.with_provenance(**facts))
