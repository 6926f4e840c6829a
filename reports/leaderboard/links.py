"""Names of the site's pages: made here, never taken from a record as they are."""

from __future__ import annotations

from vbench.record import Record
from vbench.reports.leaderboard.boards import Board
from vbench.reports.leaderboard.shown import Slugs

INDEX, REFUSED, CSV, JSONL = "index.html", "refused.html", "records.csv", "records.jsonl"


class Links:
    """The page of each board, of its runs, of a victim and of an attack; all in one folder."""

    def __init__(self) -> None:
        self._slugs = {kind: Slugs() for kind in ("board", "runs", "victim", "attack")}

    def board(self, board: Board) -> str:
        """Tables by victim and by attack."""
        return self._page("board", board.key)

    def runs(self, board: Board) -> str:
        """Every run on a board."""
        return self._page("runs", board.key)

    def victim(self, record: Record) -> str:
        """All results of victims of this name."""
        return self._page("victim", record.config["victim"]["name"])

    def attack(self, record: Record) -> str:
        """All results of attacks of this name."""
        return self._page("attack", record.config["attack"]["name"])

    def _page(self, kind: str, text: str) -> str:
        return f"{kind}-{self._slugs[kind].of(text)}.html"
