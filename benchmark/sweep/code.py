"""Suites come from anywhere, and a class given by path is code: it runs if somebody says so."""

from __future__ import annotations

from vbench.attacks.registry import attacks
from vbench.data.registry import datasets
from vbench.spec import parse
from vbench.sweep.load import SuiteFile
from vbench.victims.registry import victims

_REASON = "names code by path; running it runs that code. If it is yours, give --allow-code"


def refuse_code(file: SuiteFile) -> None:
    """Raise :class:`BadInput` with the line of every victim, attack and reader that is a class by path."""
    suite = file.suite
    named = [(("attacks", index), attacks, entry.name) for index, entry in enumerate(suite.attacks)]
    named += [(("datasets", index), datasets, entry.name) for index, entry in enumerate(suite.datasets)]
    named += [(("victims", index), victims, entry.name) for index, entry in enumerate(suite.victims)]
    named += [
        (("surrogates", index, at), victims, entry.name)
        for index, ensemble in enumerate(suite.surrogates)
        for at, entry in enumerate(ensemble)
    ]
    file.refuse(
        (place, _REASON) for place, registry, text in named if registry.by_path(parse(text, registry.kind)[0])
    )
