"""What somebody asks to be run, as data: read from the command line, kept in a baseline, run again later."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from vbench.core.threat import ThreatModel
    from vbench.run.execute import Run
    from vbench.run.session import Session

_DEFAULT_EPS = "8/255"


class Request(BaseModel):
    """Victims x attacks on a dataset under a threat model; the options of ``vbench run`` by name.

    ``eps`` and ``side`` are None where nobody asked: 8/255 and query, unless an attack's preset brings its
    own. Where to run, with which seeds, and what becomes of the records is not part of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    victims: Annotated[tuple[str, ...], Field(min_length=1)]
    attacks: Annotated[tuple[str, ...], Field(min_length=1)]
    settings: dict[str, str] = {}
    dataset: str = "synthetic"
    root: Path | None = None
    layout: str = "sysu"
    size: tuple[int, int] | None = None
    protocols: tuple[str, ...] = ()
    weights: Path | None = None
    eps: str | None = None
    norm: str = "linf"
    side: str | None = None
    quantize: bool = True
    surrogates: tuple[str, ...] = ()
    surrogate_weights: tuple[Path, ...] = ()
    ignore_gates: bool = False
    precision: str = "auto"
    channels_last: bool | None = None

    def threat(self) -> ThreatModel:
        """The threat model where no preset has a say; raises :class:`BadInput` for a bad budget or side."""
        from vbench.core.threat import ThreatModel

        eps, side = self.eps or _DEFAULT_EPS, self.side or "query"
        return ThreatModel(eps, self.norm, side, self.quantize)

    def expanded(self) -> Request:
        """The same with ``all`` written out, so that it names as many runs tomorrow."""
        from vbench.attacks.build import expand
        from vbench.victims.build import victim_names

        victims, attacks = victim_names(self.victims), expand(list(self.attacks))
        return self.model_copy(update={"victims": tuple(victims), "attacks": tuple(attacks)})

    def series(
        self,
        runs: Path | None,
        device: str = "auto",
        force: bool = False,
        quiet: bool = False,
        keep: Collection[str] = (),
    ) -> Session:
        """The series that does the runs, with records in ``runs`` and beside them what ``keep`` names."""
        from vbench.run.prepare import Choice
        from vbench.run.session import Session

        choice = Choice(
            self.dataset,
            self.root,
            None,
            self.layout,
            self.size,
            self.weights,
            device,
            self.ignore_gates,
            self.surrogates,
            self.surrogate_weights,
            precision=self.precision,
            channels_last=self.channels_last,
        )
        stated = [name for name in ("eps", "side") if getattr(self, name) is not None]
        return Session(choice, self.threat(), runs, force=force, quiet=quiet, stated=stated, keep=keep)

    def each(
        self, seeds: Sequence[int], runs: Path | None, device: str = "auto", quiet: bool = False
    ) -> Iterator[tuple[str, str, Run]]:
        """Every run, ready to be done, with the texts of its victim and attack; see :meth:`Session.each`.

        ``runs`` must be a folder that can be written to, if given; no record in it is looked for.
        """
        series = self.series(runs, device, force=True, quiet=quiet)
        return series.each(self.victims, self.attacks, seeds, self.settings, self.protocols)
