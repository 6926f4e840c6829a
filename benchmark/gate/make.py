"""Making a baseline, and checking against one: what the commands do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vbench.attacks.registry import attacks
from vbench.data.registry import datasets
from vbench.errors import BadInput, VbenchError
from vbench.gate.baseline import Baseline, now
from vbench.gate.check import Gate, compare
from vbench.gate.measure import Takings, measure
from vbench.gate.paths import resolved, stored
from vbench.request import Request
from vbench.spec import parse
from vbench.victims.registry import victims


def make_baseline(
    request: Request,
    seeds: Sequence[int],
    folder: Path,
    false_alarm: float,
    device: str = "auto",
    quiet: bool = False,
    keep: Path | None = None,
) -> Baseline:
    """Run everything with every seed, for a baseline that will lie in ``folder``.

    Raises :class:`VbenchError` when a run fails: there is nothing to compare with then.
    """
    request = request.expanded()
    takings = measure(request, seeds, device, quiet, keep)
    kept, drawn = stored(request, folder)
    return _from(takings, kept, drawn, seeds, false_alarm)


def check_against(
    baseline: Baseline,
    folder: Path,
    seeds: Sequence[int],
    root: Path | None = None,
    weights: Path | None = None,
    device: str = "auto",
    quiet: bool = False,
    keep: Path | None = None,
) -> tuple[Gate, Takings]:
    """Run a baseline's configurations again and compare; ``folder`` is where the baseline lies."""
    request = resolved(baseline, folder, root, weights, quiet)
    takings = measure(request, seeds, device, quiet, keep)
    return compare(baseline, takings, seeds), takings


def updated(baseline: Baseline, takings: Takings, seeds: Sequence[int]) -> Baseline:
    """The baseline that a re-run would have made. Raises :class:`VbenchError` when a run failed."""
    return _from(takings, baseline.request, baseline.drawn, seeds, baseline.false_alarm)


def seeds_for(baseline: Baseline, count: int | None, first: int | None) -> tuple[int, ...]:
    """``count`` seeds (all of the baseline's unless told), the baseline's own or counted from ``first``."""
    count = len(baseline.seeds) if count is None else count
    if count < 1:
        raise BadInput(f"--seeds {count}: a gate needs at least one seed")
    if first is not None:
        return tuple(range(first, first + count))
    further = max(baseline.seeds) + 1
    return (*baseline.seeds, *range(further, further + count))[:count]


def code_named(request: Request) -> list[str]:
    """What of a request is a class given by path or module: to run it is to run its code."""
    texts = [(victims, text) for text in (*request.victims, *request.surrogates)]
    texts += [(attacks, text) for text in request.attacks]
    texts.append((datasets, request.dataset))
    return [text for registry, text in texts if registry.by_path(parse(text, registry.kind)[0])]


def _from(
    takings: Takings, request: Request, drawn: object, seeds: Sequence[int], false_alarm: float
) -> Baseline:
    failures = takings.failures
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise VbenchError(f"no baseline without every run: {failures[0]}{more}")
    return Baseline(
        created=now(),
        request=request,
        drawn=drawn,
        seeds=tuple(seeds),
        false_alarm=false_alarm,
        victims=[one.measured() for one in takings.victims],
        attacks=[one.measured() for one in takings.attacks],
        environment=takings.environment,
    )
