"""LaTeX that compiles whatever a name holds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vbench.printable import one_line

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # A cell that starts with a bracket would be read as the length that \\ may take.
    "[": "{[}",
    "]": "{]}",
    "±": r"$\pm$",
    "→": r"$\to$",
    "·": r"$\cdot$",
}
_ANY = re.compile("->|" + "|".join(re.escape(plain) for plain in _SPECIAL))


def escape(text: str) -> str:
    """Text as LaTeX prints it, in one line, special characters included; "->" and "→" become an arrow."""
    return _ANY.sub(lambda found: _SPECIAL.get(found[0], r"$\to$"), one_line(text))


def environment(
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    sides: Sequence[str],
    caption: str,
    label: str,
    notes: Sequence[str] = (),
) -> str:
    """A whole ``table``: cells escaped already, caption and notes not yet; sides are "left" or "right".

    Needs booktabs, and graphicx for a width that fits any column.
    """
    columns = "".join(side[0] for side in sides)
    rows = [" & ".join(line) + r" \\" for line in lines]
    return "\n".join(
        [
            r"% \usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{{label}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            *(rf"\par\smallskip{{\footnotesize {escape(note)}\par}}" for note in notes),
            r"\end{table}",
        ]
    )


def label(*parts: str) -> str:
    """A label of letters, digits and hyphens: "tab:vbench-sysu-all-8-255"."""
    return "tab:vbench-" + re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")
