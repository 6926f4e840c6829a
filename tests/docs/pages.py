"""What the pages for users show: code blocks, and the commands in them.

Every block is one of these, by its language: ``python``; ``sh``, ``bash`` (commands); ``yaml`` (a suite, or a
workflow whose ``run`` lines are commands); ``text`` or none (output, where a line like ``$ vbench ...`` is a
command). A block whose first line is ``# NAME`` is the file NAME, which later blocks and commands use.

``<!-- not run: REASON -->`` on the line before a block says why it cannot be run as it is: Python is parsed
only, commands are checked up to the start of work, and ``make test-docs`` leaves them out.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("**/*.md"))]

_MARK = re.compile(r"<!-- not run: (\S.*?) -->")
_FILE = re.compile(r"# ([\w-]+\.(?:py|yaml))")
#: Languages of blocks that are commands.
SHELL = ("sh", "bash")
_OUTPUT = ("", "text")
#: What ends a command in a line of shell; what follows a redirection is a file.
_ENDS, _REDIRECTIONS = (";", "&&", "||", "|", "&"), (">", ">>")


@dataclass(frozen=True)
class Command:
    """One command as words; ``reason`` as of its block."""

    where: str
    words: tuple[str, ...]
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.where} {shlex.join(self.words)}"


@dataclass(frozen=True)
class Block:
    """A code block of a page; ``reason`` says why it cannot be run, empty for one that can."""

    page: Path
    line: int
    language: str
    text: str
    reason: str = ""

    @property
    def where(self) -> str:
        """Page and line, as in README.md:37."""
        return f"{self.page.name}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, if it is one."""
        found = _FILE.fullmatch(self.text.partition("\n")[0])
        return found[1] if found else None

    def lines(self) -> list[str]:
        """The lines of shell in it; continued ones are joined."""
        if self.language in SHELL:
            return self.text.replace("\\\n", " ").splitlines()
        if self.language in _OUTPUT:
            return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
        return _runs(yaml.safe_load(self.text)) if self.language == "yaml" else []

    def commands(self) -> list[Command]:
        """The commands in it."""
        return [Command(self.where, words, self.reason) for line in self.lines() for words in _simple(line)]


def blocks(page: Path) -> list[Block]:
    """Every code block of a page, in order."""
    found, mark = [], None
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            language = token.info.strip() if token.type == "fence" else "indented"
            found.append(Block(page, token.map[0] + 1, language, token.content, mark[1] if mark else ""))
        mark = _MARK.fullmatch(token.content.strip()) if token.type == "html_block" else None
    return found


def unknown(block: Block) -> bool:
    """Whether nothing runs or checks blocks of its language."""
    return block.language not in ("python", "yaml", *SHELL, *_OUTPUT)


def _runs(workflow: object) -> list[str]:
    """The ``run`` lines of a workflow of GitHub Actions."""
    jobs = workflow.get("jobs", {}) if isinstance(workflow, dict) else {}
    steps = [step for job in jobs.values() for step in job["steps"]]
    return [line for step in steps for line in step.get("run", "").splitlines()]


def _simple(line: str) -> list[tuple[str, ...]]:
    """The commands of a line of shell, without redirections and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    redirected = False
    for word in lexer:
        if word in _ENDS:
            found.append([])
        elif not redirected and word not in _REDIRECTIONS:
            found[-1].append(word)
        redirected = word in _REDIRECTIONS
    return [tuple(words) for words in found if words]
