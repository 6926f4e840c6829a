"""Judge another model with a baseline's attacks: is any accuracy, clean or attacked, below its floor?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vbench.attacks.registry import attacks as known_attacks
from vbench.core.errors import BadInput, shortened, unknown_name
from vbench.core.settings import parse
from vbench.gate.baseline import METRICS, Baseline, Measured
from vbench.gate.compare import Floor, Gate, Row, Taken, Takings, Verdict, causes, other_subject
from vbench.metrics.statistics import Spread
from vbench.victims.registry import victims

#: How many points a model may lie below the baseline's figures, if nothing else is asked for.
TOLERANCE = 2.0

#: The figures with floors, by the name they and their drop have in a baseline: Rank-1 and mAP of the model.
_FIGURES = {
    name: replace(METRICS[name], label=f"{name}: {label}, %", words=("stronger", "model weaker"))
    for name, label in (("r1", "Rank-1"), ("map", "mAP"))
}

#: How a user names what was measured on clean images.
_CLEAN = "clean"

#: (:attr:`Place.key`, name of the figure) -> its floor.
Floors = Mapping[tuple[tuple[str, str, str], str], Floor]


def model_baseline(baseline: Baseline, victim: str | None, has_weights: bool) -> Baseline:
    """The part of a baseline that ``victim`` is compared with, under its name; None for the baseline's own.

    Raises :class:`BadInput` for an unknown victim, and if it is not clear with which victim of the baseline
    it is to be compared, or which weights it has.
    """
    known = list(dict.fromkeys(one.victim for one in baseline.victims))
    if victim is not None:
        victims.entry(victim)
        victim = victims.canonical(victim)
    if len(known) > 1 and victim not in known:
        raise BadInput(f"the baseline has {len(known)} victims; --victim must be one of {', '.join(known)}")
    reference = victim if victim in known else known[0]
    victim, weights = victim or reference, baseline.request.weights
    if victim != reference and weights and not has_weights:
        raise BadInput(f"the baseline's weights, {weights}, are of {reference}: give --weights of {victim}")

    def of_model(found: list[Measured]) -> list[Measured]:
        return [one.model_copy(update={"victim": victim}) for one in found if one.victim == reference]

    request = baseline.request.model_copy(update={"victims": (victim,)})
    changes = {"victims": of_model(baseline.victims), "attacks": of_model(baseline.attacks)}
    return baseline.model_copy(update={"request": request, **changes})


def floors_of(baseline: Baseline, given: Sequence[str], tolerance: float | None, seeds: int) -> Floors:
    """The floors in ``given``, as NAME.FIGURE=PERCENT; without any, the baseline's figures less a tolerance.

    ``tolerance``: in points, None for :data:`TOLERANCE`; next to ``given`` it is for the other figures.
    ``seeds``: how many the model is attacked with. Raises :class:`BadInput` for an unknown figure, one that
    is named twice, a floor that is not a percentage, and a baseline that guards nothing.
    """
    asked = _asked(baseline, given)
    points = TOLERANCE if tolerance is None else tolerance
    if not 0 <= points < 100:
        raise BadInput(f"--tolerance {points:g}: give points, from 0 to less than 100")
    if asked and tolerance is None:
        return asked
    wide = {(one.subject.key, one.metric) for one in baseline.unguarded(seeds)}
    found = dict(asked)
    for subject in baseline.subjects:
        for name in _FIGURES:
            if (subject.key, name) in asked:
                continue
            spread = _of_baseline(baseline, subject, name)
            if spread is None or (subject.key, f"drop_{name}") in wide:
                raise BadInput(
                    f"{subject}: {name} varies so much between the baseline's seeds that it guards nothing; "
                    "make the baseline with more --seeds, or say with --min what is to be guarded"
                )
            found[subject.key, name] = Floor(max(0.0, spread.mean - points / 100))
    if not any(floor.least for (key, _), floor in found.items() if key[2]):
        raise BadInput(
            f"no Rank-1 and no mAP under attack is above {points:g} points in the baseline: no model could "
            "be called weaker; give a smaller --tolerance, or say with --min what is to be guarded"
        )
    return found


def _asked(baseline: Baseline, given: Sequence[str]) -> dict[tuple[tuple[str, str, str], str], Floor]:
    found = {}
    for text in given:
        key, _, value = text.rpartition("=")
        floor = Floor(_share(text, value), asked=True)
        name, _, figure = key.rpartition(".")
        attack = _attack_of(baseline, name, text) if figure in _FIGURES else None
        if attack is None:
            known = [_CLEAN, *(parse(one.attack, "attack")[0] for one in baseline.attacks)]
            names = {f"{name}.{figure}" for name in known for figure in _FIGURES}
            raise unknown_name("figure in --min", key or text, names)
        for subject in baseline.subjects:
            if subject.attack == attack:
                if (subject.key, figure) in found:
                    raise BadInput(f"--min: {key} is given twice")
                found[subject.key, figure] = floor
    return found


def _attack_of(baseline: Baseline, name: str, text: str) -> str | None:
    """The attack of a baseline that a user names, in full or without its settings; "" for clean images."""
    attacks = dict.fromkeys(one.attack for one in baseline.attacks)
    name = name.lower() if name.lower() == _CLEAN else known_attacks.canonical(name)
    found = [one for one in attacks if name == one] or [
        one for one in attacks if name == parse(one, "attack")[0]
    ]
    if name == _CLEAN:
        found = ["", *found]
    if len(found) > 1:
        named = " or ".join(one or "clean images" for one in found)
        raise BadInput(
            f"--min {shortened(text)}: '{name}' may be {named}: "
            "give the attack with its settings, as in the baseline"
        )
    return found[0] if found else None


def _share(text: str, value: str) -> float:
    try:
        percent = float(value)
    except ValueError:
        percent = -1.0
    # A share written by mistake would be a floor that nothing can miss. Not a number fails, too.
    if not 1 <= percent <= 100:
        raise BadInput(f"--min {shortened(text)}: give percent from 1 to 100, as in {_CLEAN}.r1=70")
    return percent / 100


def needed(baseline: Baseline, floors: Floors) -> Baseline:
    """The baseline without the attacks that no floor is about; one is left, to measure the model with."""
    attacks = [one for one in baseline.attacks if any(key == one.key for key, _ in floors)]
    named = {one.attack for one in attacks or baseline.attacks[:1]}
    request = baseline.request
    kept = tuple(text for text in request.attacks if text in named)
    return baseline.model_copy(
        update={"attacks": attacks, "request": request.model_copy(update={"attacks": kept})}
    )


def judge(baseline: Baseline, takings: Takings, seeds: Sequence[int], floors: Floors) -> Gate:
    """A verdict for every figure of a model with a floor; ``baseline`` as of :func:`model_baseline`."""
    found = {one.place.key: one for one in (*takings.victims, *takings.attacks)}
    clean, attacked = ([_meant(one, found) for one in kind] for kind in (baseline.victims, baseline.attacks))
    baseline = baseline.model_copy(update={"victims": clean, "attacks": attacked})
    rows: list[Row] = []
    for subject in baseline.subjects:
        taken = found.get(subject.key)
        if taken is None:
            rows.append(Row(subject, Verdict.MISSING, note="was not run"))
            continue
        rows += [Row(subject, Verdict.CHANGED, note=note) for note in other_subject(subject, taken)]
        rows += [Row(subject, Verdict.FAILED, note=why) for why in dict.fromkeys(taken.failures.values())]
        on = found[subject.victim, subject.protocol, ""]
        for name in _FIGURES:
            if (subject.key, name) in floors:
                before = _of_baseline(baseline, subject, name)
                now = _left(subject, name, on.spreads(), taken.spreads())
                rows.append(_row(subject, name, before, now, floors[subject.key, name]))
    seconds = {key: one.seconds for key, one in found.items()}
    return Gate(baseline, tuple(seeds), rows, causes(baseline, takings), seconds)


def _row(subject: Measured, name: str, before: Spread | None, now: Spread | None, floor: Floor) -> Row:
    if now is None:
        return Row(subject, Verdict.MISSING, _FIGURES[name], before, note="has no value", floor=floor)
    # Sums of the same values in another order differ in their last digits.
    verdict = Verdict.DOWN if now.mean < floor.least - 1e-9 else Verdict.WITHIN
    return Row(subject, verdict, _FIGURES[name], before, now, floor=floor)


def _meant(subject: Measured, found: Mapping[tuple[str, str, str], Taken]) -> Measured:
    """A subject with the model that was measured, and images of its size: that they differ is no finding."""
    taken = found.get(subject.key)
    new = {name: taken.config[name] for name in ("victim", "pixels") if taken and name in taken.config}
    return subject.model_copy(update={"config": subject.config | new})


def _of_baseline(baseline: Baseline, subject: Measured, name: str) -> Spread | None:
    on = next(one for one in baseline.victims if one.key[:2] == subject.key[:2])
    return _left(subject, name, on.metrics, subject.metrics)


def _left(
    subject: Measured, name: str, clean: Mapping[str, Spread], attacked: Mapping[str, Spread]
) -> Spread | None:
    """What the model has left of a figure: its clean value less the drop of each seed."""
    before, drop = clean.get(name), attacked.get(f"drop_{name}")
    if not subject.attack or before is None or drop is None:
        return None if subject.attack else before
    return Spread.of([before.mean - value for value in drop.values], drop.resolution)
