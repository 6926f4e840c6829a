"""Does a stranger's run record hold? Checked from the record alone: no model, no data, no torch.

``check.verify`` is the door. Each file beside it looks at one part: ``config`` at the shape of what the
hash names, then ``identity``, ``budget``, ``whose`` (attack and victim), ``trials``, ``queries``,
``interval`` and ``parts``.
"""

from vbench.reports.verify.check import verify
from vbench.reports.verify.parse import parse
from vbench.reports.verify.verdict import Mark, Verdict

__all__ = ["Mark", "Verdict", "parse", "verify"]
