"""Names as papers print them: of models, attacks and protocols."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vbench.core.errors import BadInput, unknown_name
from vbench.core.text import one_line
from vbench.data.protocols import DRAWS, all_protocols, parse_protocol

NAMES = {
    **{name: name.upper() for name in ("agw", "caj", "ddag", "mmn", "deen", "pmt", "mrcn")},
    **{name: name.upper() for name in ("fgsm", "pgd", "odfa", "sma", "fna", "lta", "uap", "cmps", "muap")},
    "mpanet": "MPANet",
    "hcloss": "HCLoss",
    "noise": "Noise",
    "mifgsm": "MI-FGSM",
    "metric_fgsm": "Metric-FGSM",
    "metric_ifgsm": "Metric-IFGSM",
    "metric_mifgsm": "Metric-MI-FGSM",
    "square": "Square",
    "simba": "SimBA",
    "deepfool_uap": "DeepFool-UAP",
    "mis_ranking": "Mis-Ranking",
    "fsam_uap": "FSAM-UAP",
    "ensemble": "Ensemble",
    "sysu": "SYSU-MM01",
    "regdb": "RegDB",
    "llcm": "LLCM",
}

#: The authors' repository of a model.
CODE = {
    "hcloss": "https://github.com/98zyx/Hetero-center-loss-for-cross-modality-person-re-id",
    "agw": "https://github.com/mangye16/Cross-Modal-Re-ID-baseline",
    "ddag": "https://github.com/mangye16/DDAG",
    "deen": "https://github.com/ZYK100/LLCM",
    "mpanet": "https://github.com/DoubtedSteam/MPANet",
    "pmt": "https://github.com/hulu88/PMT",
}

_SIDES = {"ir2vis": "infrared to visible", "vis2ir": "visible to infrared"}

# A name, its settings in brackets, and what follows, such as " (stealthy)".
_LABEL = re.compile(r"([^\[\s]+)(?:\[(.*)\])?(.*)", re.DOTALL)

_PAPER = re.compile(r"(?:after )?([^,]+), (.+?), (?:([^\d,]+) )?(\d{4})")

# A comma between settings, after which a line may break.
_BREAK = re.compile(r",(?=\S)")


def printed(label: str) -> str:
    """A label with the printed names of its models or attack; other labels are unchanged.

    >>> printed("fsam_uap[batch=16]"), printed("agw+ddag"), printed("mine")
    ('FSAM-UAP[batch=16]', 'AGW+DDAG', 'mine')
    """
    head, bracket, rest = label.partition("[")
    return re.sub(r"[^+\s]+", lambda word: NAMES.get(word[0], word[0]), head) + bracket + rest


def short_names(
    labels: Iterable[str], given: Mapping[str, str] | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """Each label's printed name without its settings, and a note on the settings of each that has some.

    Labels that differ in their settings alone get numbers. ``given``: names by label, or by the name at its
    beginning, to use instead. Raises :class:`BadInput` for a given name that no label has, and for two labels
    given one name.

    >>> short_names(["pgd[steps=3]", "uap", "uap[batch=16]"])[0]
    {'pgd[steps=3]': 'PGD', 'uap': 'UAP (1)', 'uap[batch=16]': 'UAP (2)'}
    """
    given, parts = given or {}, {}
    for label in dict.fromkeys(labels):
        found = _LABEL.fullmatch(label)
        parts[label] = found.groups() if found else (label, None, "")
    known = parts.keys() | {name for name, *_ in parts.values()}
    for name in given.keys() - known:
        raise unknown_name("name of --label", name, known)
    names = {
        label: given.get(label) or given.get(name, NAMES.get(name, name)) + rest
        for label, (name, _, rest) in parts.items()
    }
    short, notes = {}, {}
    for label, name in names.items():
        same = [other for other in names if names[other] == name]
        if len(same) > 1 and any(other in given for other in same):
            raise BadInput(f"--label gives {' and '.join(same)} one name, {name!r}; give each its own")
        short[label] = name if len(same) == 1 else f"{name} ({same.index(label) + 1})"
        if (len(same) > 1 or parts[label][1]) and label not in given:
            notes[label] = one_line(
                f"{short[label]}: {_BREAK.sub(', ', parts[label][1] or 'default settings')}"
            )
    return short, notes


def read_labels(given: Iterable[str]) -> dict[str, str]:
    """Names to print, from "uap=Our UAP"; raises :class:`BadInput` for a text without both parts."""
    found = {}
    for text in given:
        # Settings in brackets contain "=" too.
        name, _, shown = re.sub(r"\[[^\]]*\]", lambda part: part[0].replace("=", "\0"), text).partition("=")
        if not name.strip() or not shown.strip():
            raise BadInput(f"--label {text!r} is not NAME=TEXT, as in uap='Our UAP'")
        found[name.strip().replace("\0", "=")] = one_line(shown.strip().replace("\0", "="))
    return found


def read_paper(text: str) -> tuple[str, str, str, str] | None:
    """Authors, title, venue (may be empty) and year of a paper that a class names; None for other text.

    >>> read_paper("Ye et al., Channel Augmented Joint Learning, ICCV 2021")
    ('Ye et al.', 'Channel Augmented Joint Learning', 'ICCV', '2021')
    """
    found = _PAPER.fullmatch(text)
    return (found[1], found[2], found[3] or "", found[4]) if found else None


def protocol_words(protocol: str) -> str:
    """A protocol in words; one that is not vbench's is returned as it is.

    >>> protocol_words("sysu/all/single/ir2vis/seed10")
    'SYSU-MM01, all search, single-shot, infrared to visible'
    """
    if protocol not in all_protocols():
        return one_line(protocol)
    found = parse_protocol(protocol)
    words = [NAMES[found.layout]]
    words += [f"{found.mode} search"] if found.mode else []
    words += [f"{found.shots}-shot"] if found.shots else []
    words.append(_SIDES[found.direction])
    words += [f"split {found.trial} of {DRAWS}"] if found.trial else []
    words += ["the authors' galleries"] if found.galleries == "randperm10" else []
    return ", ".join(words)
