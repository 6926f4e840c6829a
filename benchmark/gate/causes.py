"""What else differs between a baseline and its re-run: the first place to look when figures move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vbench.gate.baseline import Baseline, Measured
from vbench.gate.measure import Taken, Takings

#: Differences that make a re-run one of something else.
_IDENTITY = {
    "victim.weights": "other weights",
    "surrogate.weights": "other weights of the surrogate",
    "dataset.fingerprint": "other test images or another protocol",
    "dataset.training": "other training images",
}


#: What hashes over the data say depends on the kind of configuration that they are part of.
_HASHES_OF_DATA = ("dataset.fingerprint", "dataset.training")


def other_subject(subject: Measured, taken: Taken) -> list[str]:
    """Why what was run is not what the baseline is about; of victim and data told once, not of attacks."""
    return [
        f"{_IDENTITY[name]}: {old} -> {new}"
        for name, old, new in _compared(subject, taken)
        if name in _IDENTITY and not _told_of_victim(subject, name)
    ]


def causes(baseline: Baseline, takings: Takings) -> list[str]:
    """One line for everything besides the figures that is not as it was, identity first."""
    found = {one.place.key: one for one in (*takings.victims, *takings.attacks)}
    lines: list[str] = []
    for subject in baseline.subjects:
        taken = found.get(subject.key)
        differences = _compared(subject, taken) if taken else []
        for name, old, new in sorted(differences, key=lambda one: one[0] not in _IDENTITY):
            if not _told_of_victim(subject, name):
                lines.append(f"{subject}: {_said(name)}: {old} -> {new}")
    for name, old, new in _differences(baseline.environment, takings.environment):
        lines.append(f"{name.removeprefix('versions.').replace('_', ' ')}: {old} -> {new}")
    return lines


def _told_of_victim(subject: Measured, name: str) -> bool:
    # Only of attacks that look at training images is it known which those were.
    told = name.partition(".")[0] in ("victim", "dataset", "identity") and name != "dataset.training"
    return bool(subject.attack) and told


def _said(name: str) -> str:
    if name == "pixels":
        return "decoded images (another decoder, or files that were replaced)"
    if name == "identity":
        return "kind of configuration (hashes of data are not compared; --update writes today's)"
    return _IDENTITY.get(name, name)


def _compared(subject: Measured, taken: Taken) -> list[tuple[str, Any, Any]]:
    """What differs between two configurations; of two kinds, what both have and say in the same way."""
    found = _differences(subject.config, taken.config)
    if subject.config.get("identity") == taken.config.get("identity"):
        return found
    same = [one for one in found if "absent" not in one[1:] and one[0] not in _HASHES_OF_DATA]
    return [*same, ("identity", *(config.get("identity", 1) for config in (subject.config, taken.config)))]


def _differences(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    before, after = dict(_flat(old)), dict(_flat(new))
    names = dict.fromkeys((*before, *after))
    # JSON knows no tuples: compare as text.
    return [
        (name, before.get(name, "absent"), after.get(name, "absent"))
        for name in names
        if str(before.get(name, "absent")) != str(after.get(name, "absent"))
    ]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)):
        yield prefix, list(value)
    else:
        yield prefix, value
