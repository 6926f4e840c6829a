"""The ``vbench run`` command that reproduces a record, from its configuration alone.

Everything that the configuration depends on is given explicitly, defaults included. Folders, checkpoints and
perturbation files, which a record does not contain, are placeholders in capitals, with a note that gives
their hash. Records are untrusted, so every word is quoted for the shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from vbench.attacks.build import RESERVED
from vbench.attacks.registry import ATTACKS, attacks
from vbench.core.errors import BadInput
from vbench.core.registry import Registry
from vbench.core.settings import parse
from vbench.core.threat import budget_text, read_fraction
from vbench.data.registry import datasets
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.record import Asked, Record
from vbench.victims.registry import VICTIMS, victims


@dataclass(frozen=True)
class Command:
    """The words of a command line, and notes on its placeholders."""

    words: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The command on one line, quoted for a POSIX shell; empty if there is none."""
        return " ".join(self.parts)

    @property
    def parts(self) -> list[str]:
        """The text in pieces between which a line may break: an option stays with its value."""
        found: list[str] = []
        for word in self.words:
            alone = word.startswith("--") or not found or not found[-1].startswith("--")
            if alone or " " in found[-1] or "=" in found[-1]:
                found.append(shlex.quote(word))
            else:
                found[-1] += f" {shlex.quote(word)}"
        return found


def command(records: Sequence[Record], more: Sequence[str] = ()) -> Command:
    """The command that reproduces records whose configurations differ only in the seed, in their order.

    ``more``: words to append, such as ``--keep images``.
    """
    config = records[0].config
    data, victim, threat = (dict(config.get(part) or {}) for part in ("dataset", "victim", "threat"))
    options = dict(victim.get("options") or {})
    asked = records[0].asked or _guessed(records[0], options)
    size = asked.size if asked.synthetic else None
    notes: list[str] = []
    words = ["vbench", "run", *_data(data, asked, notes)]
    words += _option("victim", _victim(victim.get("name", ""), options, not asked.weights, notes, size))
    if asked.weights:
        words += _option("weights", "WEIGHTS")
        notes.append(
            f"WEIGHTS: a checkpoint of {victim.get('name')} whose weights have hash {victim.get('weights')}"
        )
    words += _option("attack", _attack(records[0], notes))
    words += _threat(threat)
    for seed in dict.fromkeys(str(record.config.get("seed", 0)) for record in records):
        words += _option("seed", seed)
    words += _surrogates(config.get("surrogate"), not asked.surrogate_weights, notes, size)
    if config.get("perturbation"):
        words += _option("perturbation", "PERTURBATION")
        notes.append(f"PERTURBATION: the learnt perturbation with digest {config['perturbation']}")
    words += _precision(victim.get("precision"), notes)
    words += ["--ignore-gates"] if asked.ignore_gates else []
    words += ["--allow-code"] if any(map(_is_program, words)) else []
    words += more
    if not all(word.isprintable() for word in words):
        return Command((), ("no command: the record's names hold control characters",))
    return Command(tuple(words), tuple(dict.fromkeys(notes)))


def _guessed(record: Record, options: Mapping[str, Any]) -> Asked:
    """A guess at ``asked`` for records of an older version, which lack it.

    Synthetic data with the built-in set's number of identities is taken for that set, with images of the
    victim's input size and the weights that vbench ships for it.
    """
    builtin = record.synthetic and options.get("num_classes", SyntheticSet.ids) == SyntheticSet.ids
    size = options.get("input_size") if builtin else None
    pair = tuple(size) if isinstance(size, (list, tuple)) and len(size) == 2 else None
    return Asked(synthetic=builtin, size=pair, weights=not builtin, surrogate_weights=not builtin)


def _option(name: str, value: object) -> list[str]:
    text = str(value)
    # A value that looks like an option must be joined with "=".
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


def _data(data: Mapping[str, Any], asked: Asked, notes: list[str]) -> list[str]:
    layout = data.get("name", "")
    if asked.synthetic:
        words = _option("dataset", "synthetic") + _option("layout", layout)
        words += _option("size", _size(asked.size)) if asked.size else []
    else:
        words = _option("dataset", layout) + _option("root", "FOLDER")
        _check_known(datasets, layout, notes)
        notes.append(f"FOLDER: {layout} data whose image lists have fingerprint {data.get('fingerprint')}")
    words += _option("protocol", data.get("protocol", ""))
    return words + (_option("queries", data["queries"]) if "queries" in data else [])


def _is_program(word: str) -> bool:
    name = word.partition("[")[0]
    return victims.is_file(name) and victims.by_path(name)


#: Options in a record that are not written in ``name[...]``: from elsewhere, or of the code.
_NOT_TYPED = ("num_classes", "input_size", "called", "file")


def _victim(
    name: str,
    options: Mapping[str, Any],
    thin: bool,
    notes: list[str],
    synthetic: tuple[int, int] | None = None,
) -> str:
    """The victim with its options, but for those implied by a checkpoint or by the built-in set.

    ``synthetic``: image size of the built-in set.
    """
    facts = VICTIMS.get(name)
    usual = [] if facts is None else [facts.thin] if thin else [facts.full, facts.thin]
    if "file" in options:
        notes.append(f"{name}: the model file whose SHA-256 begins with {options['file']}")
    else:
        _check_known(victims, name, notes)
    stated = {key: value for key, value in options.items() if key not in _NOT_TYPED}
    changed = min(
        ({key: value for key, value in stated.items() if of.get(key) != value} for of in usual),
        key=len,
        default=stated,
    )
    size = options.get("input_size")
    implied = synthetic if thin else facts.input_size if facts else None
    if size and implied != tuple(size) and (synthetic or not thin):
        changed = {"input_size": size, **changed}
    return _spec(name, changed)


def _attack(record: Record, notes: list[str]) -> str:
    """The record's label if its settings and version agree with the configuration; else every setting."""
    card = record.config.get("attack") or {}
    name, settings = str(card.get("name", "")), dict(card.get("settings") or {})
    _check_known(attacks, name, notes)
    try:
        labelled, given = parse(record.label, "attack")
    except BadInput:
        labelled, given = "", {}
    given = {key: value for key, value in given.items() if key not in RESERVED}
    declared = ATTACKS.get(name)
    # Another version may have had other defaults, which the label leaves out.
    same = declared is None or declared["version"] == card.get("version")
    if (
        same
        and labelled == name
        and all(key in settings and given[key].lower() == _text(settings[key]).lower() for key in given)
    ):
        return record.label
    return _spec(name, settings)


def _threat(threat: Mapping[str, Any]) -> list[str]:
    words = _option("eps", _eps(threat)) + _option("norm", threat.get("norm", "linf"))
    words += _option("side", threat.get("side", "query"))
    return [*words, "--quantize" if threat.get("quantize", True) else "--no-quantize"]


def _eps(threat: Mapping[str, Any]) -> str:
    """The budget as displayed, or with all digits if the displayed value is rounded."""
    shown, value = budget_text({"norm": "linf", "eps": "", **threat}), threat.get("eps_value")
    try:
        exact = value is None or float(read_fraction(shown)) == float(value)
    except (TypeError, ValueError, OverflowError):
        exact = True
    return shown if exact or value is None else repr(float(value))


def _surrogates(
    card: Any, thin: bool, notes: list[str], synthetic: tuple[int, int] | None = None
) -> list[str]:
    words: list[str] = []
    for member in (card or {}).get("options", {}).get("members", []):
        name = str(member.get("name", ""))
        options = {key: value for key, value in member.items() if key != "name"}
        words += _option("surrogate", _victim(name, options, thin, notes, synthetic))
        if not thin:
            words += _option("surrogate-weights", f"WEIGHTS_OF_{name.upper()}")
    if words and not thin:
        notes.append(
            f"WEIGHTS_OF_...: checkpoints of the surrogates; their weights have hash {card.get('weights')}"
        )
    return words


def _precision(card: Any, notes: list[str]) -> list[str]:
    card = card or {}
    layout = "--channels-last" if card.get("channels_last") else "--no-channels-last"
    products = (card.get("float32") or {}).get("matmul", "ieee")
    if products != "ieee":
        notes.append(f"torch multiplied float32 matrices in {products}; set that in torch before the run")
    dtype = card.get("dtype", "float32") if card.get("autocast", True) else "float32"
    return [*_option("precision", dtype), layout]


def _check_known(registry: Registry, name: str, notes: list[str]) -> None:
    if name not in VICTIMS and name not in ATTACKS and not _installed(registry, name):
        notes.append(
            f"{registry.kind} {name} is not known here: install its plugin, or write ./file.py:Class"
        )


@cache
def _installed(registry: Registry, name: str) -> bool:
    """Whether a plugin or a library provides the name; cached, because searching all packages is slow."""
    try:
        return registry.entry(name).origin != "path"
    except BadInput:
        return False


def _spec(name: str, settings: Mapping[str, Any]) -> str:
    inside = ",".join(
        f"{key}={_size(value) if key == 'input_size' else _text(value)}" for key, value in settings.items()
    )
    return f"{name}[{inside}]" if inside else name


def _size(value: Any) -> str:
    return "x".join(str(side) for side in value) if isinstance(value, (list, tuple)) else str(value)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
