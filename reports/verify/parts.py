"""Controls of tampering attacks, members of batteries, and what a run cost."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

import numpy as np

from vbench.record import STEALTH_LOSS, Record
from vbench.reports.verify.declared import declared_attack
from vbench.reports.verify.identity import protocol_of
from vbench.reports.verify.queries import Queries

#: Controls that stand beside an attack that changes features, in this order.
CONTROLS = (
    "modules, d = 0",
    "random modules, d = 0",
    "random modules + d",
    "d alone (pixel level)",
    "modules on the other side, d = 0",
)
_ROUNDING = 1e-6


def controls(record: Record) -> Iterator[str]:
    """An attack of ours that changes features has all its controls, and its verdict follows from them."""
    tampers, found = record.level == "feature", tuple(control.name for control in record.controls)
    if declared_attack(record.config["attack"]["name"]) and found != (CONTROLS if tampers else ()):
        expected = ", ".join(CONTROLS) if tampers else "none"
        yield f"controls: {', '.join(found)[:200] or 'none'}; at {record.level} level: {expected}"
    if not tampers and record.stealthy is not None:
        yield f"stealthy: {record.stealthy}, at pixel level nothing is tampered with"
    for control in record.controls:
        if tampers and control.name == CONTROLS[0] and control.trials:
            loss = record.mean("clean", "r1") - mean(trial.r1 for trial in control.trials)
            if record.stealthy is not (loss <= STEALTH_LOSS):
                yield f"stealthy: {record.stealthy}, tampering alone costs {100 * loss:.2f} points of Rank-1"


def members(record: Record) -> Iterator[str]:
    """A battery has all its members, each as declared, none stronger in mAP, and their shares add up."""
    if declared_attack(record.config["attack"]["name"]):
        yield from _as_declared(record)
    if not record.members:
        return
    for name in ("won", "won_lost"):
        shares = [getattr(member, name) for member in record.members]
        if name == "won_lost" and all(share is None for share in shares):
            continue
        if None in shares or min(shares) < 0 or abs(sum(shares) - 1) > _ROUNDING:
            yield f"members.{name}: {shares} are no shares of one"
    for index, member in enumerate(record.members):
        own = mean(trial.map for trial in member.trials)
        if own < record.mean("adversarial", "map") - _ROUNDING:
            yield (
                f"members[{index}].trials: mAP {own:.6f} of {member.label} is below that of the worst case, "
                f"{record.mean('adversarial', 'map'):.6f}"
            )


def _as_declared(record: Record) -> Iterator[str]:
    expected = {}
    for card in record.config["attack"].get("members", []):
        declared = declared_attack(card["name"])
        if declared:
            known = declared.knowledge(card["settings"])
            expected[declared.label(card["settings"])] = (declared.universal, known)
    for name in record.left_out.keys() - expected:
        yield f"left_out: {name[:80]} is no member; there are {', '.join(expected) or 'none'}"
    wanted = [name for name in expected if name not in record.left_out]
    found = [member.label for member in record.members]
    if found != wanted:
        yield f"members: {', '.join(found)[:200] or 'none'}; should be {', '.join(wanted) or 'none'}"
        return
    for index, member in enumerate(record.members):
        if (member.universal, member.knowledge) != expected[member.label]:
            yield (
                f"members[{index}].knowledge: {member.knowledge}, universal {member.universal}; "
                f"{member.label} has {expected[member.label][1]}, universal {expected[member.label][0]}"
            )


def winners(record: Record, found: Queries) -> Iterator[str]:
    """The shares that members win are those of the queries."""
    if found.member is None:
        return
    count, member = len(record.members), found.member
    if ((member < 0) | (member >= count)).any():
        yield f"per_query.member: positions outside 0 .. {count - 1}"
        return
    if protocol_of(record) is None:
        # A set from outside may ask its queries in another order in each trial.
        return
    if (member != member[0]).any():
        yield "per_query.member: another member's image in another trial; a query is one image"
        return
    matched = (found.clean_rank > 0).any(0)
    gone = (found.clean_rank == 1) & (found.adversarial_rank > 1)
    won = np.bincount(member[0][matched], minlength=count) / max(1, matched.sum())
    lost = np.bincount(member[gone], minlength=count) / gone.sum() if gone.any() else [None] * count
    for index, one in enumerate(record.members):
        for name, share in (("won", won[index]), ("won_lost", lost[index])):
            said = getattr(one, name)
            if (said is None) != (share is None) or (share is not None and abs(said - share) > _ROUNDING):
                yield f"members[{index}].{name}: {said}, the queries give {share}"


def cost(record: Record) -> Iterator[str]:
    """Costs are not negative, and what is stated in two ways agrees."""
    found = record.cost
    for name, value in found.items():
        if value < 0:
            yield f"cost.{name}: {value:.6g} is negative"
    if record.config["threat"]["side"] != "query" or "attack_evaluations" not in found:
        return
    images = record.clean[0].queries + record.clean[0].skipped
    each = found.get("evaluations_per_image", 0.0)
    if abs(each * images - found["attack_evaluations"]) > _ROUNDING * max(1.0, found["attack_evaluations"]):
        yield (
            f"cost.evaluations_per_image: {each:.6g} of {images} queries is not attack_evaluations, "
            f"{found['attack_evaluations']:.6g}"
        )
    speed, seconds = found.get("images_per_second"), found.get("attack_seconds")
    if speed and seconds and abs(speed * seconds - images) > 0.01 * images:
        yield f"cost.images_per_second: {speed:.6g} over {seconds:.6g} attack_seconds is not {images} queries"
