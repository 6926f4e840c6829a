"""The pages of docs/: their examples work, their links lead somewhere, and all of them are in the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from tiny import make_context

from vbench.attacks.build import build_attack
from vbench.attacks.registry import attacks
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
THREAT = ThreatModel("8/255")


def test_the_changelog_names_the_version_of_every_attack_that_has_changed():
    rows = re.findall(r"^\| (`[^|]+) \| ([\d, ]+) \|", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    said = {}
    for names, versions in rows:
        several, numbers = re.findall(r"`(\w+)`", names), versions.split(", ")
        said |= dict(zip(several, numbers * len(several) if len(numbers) == 1 else numbers, strict=True))
    versions = {name: str(attacks.load(name).version) for name in attacks.names()}
    assert said == {name: number for name, number in versions.items() if number != "1"}


@pytest.fixture
def example(tmp_path):
    """Write a code block of the page on attacks to its file; returns the folder."""

    def write(name: str) -> Path:
        text = (DOCS / "your-attack.md").read_text()
        (code,) = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", text, re.DOTALL)
        (tmp_path / name).write_text(code)
        return tmp_path

    return write


def test_the_image_by_image_example_moves_away_from_image_and_mirror(example, victim, images):
    attack = build_attack(f"{example('toward_mirror.py') / 'toward_mirror.py'}:TowardMirror[steps=20]")
    context = make_context(victim, images, Modality.INFRARED)
    shown = THREAT.enforce(images, attack.perturb(victim, images, Modality.INFRARED, context))
    noise = THREAT.enforce(images, images + context.uniform(images))
    with torch.no_grad():
        guides = [victim(view, Modality.INFRARED).embedding for view in (images, images.flip(3))]

        def distance(x):
            moved = victim(x, Modality.INFRARED).embedding
            return sum(((moved - guide) ** 2).sum(1) for guide in guides)

        assert bool((distance(shown) > distance(noise)).all())


def test_the_universal_example_learns_what_noise_does_not(example, victim, training):
    attack = build_attack(f"{example('push.py') / 'push.py'}:Push[evaluations=400,pairs=4]")
    learnt = attack.fit(victim, training, THREAT, torch.Generator().manual_seed(0), quiet=True)
    draws = torch.rand(learnt.delta.shape, generator=torch.Generator().manual_seed(1))
    noise = (draws * 2 - 1).sign() * THREAT.epsilon

    def moved(delta):
        total = 0.0
        for modality in Modality:
            view = training[modality]
            images = view.batch(torch.arange(len(view.images)))
            shown = THREAT.enforce(images, images + delta)
            with torch.no_grad():
                total += ((victim(shown, modality).embedding - view.embeddings) ** 2).sum().item()
        return total

    assert moved(learnt.delta) > 2 * moved(noise)


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\s-]", "", heading.lower()).strip()
    return re.sub(r"[\s]+", "-", kept)


def _prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", _prose(file), re.MULTILINE)
            assert anchor in [_anchor(heading) for heading in headings], f"{page.name}: {target}"


def _files(entries) -> list[str]:
    found = []
    for entry in entries:
        (value,) = entry.values()
        found += _files(value) if isinstance(value, list) else [value]
    return found


def test_every_page_is_in_the_site_once():
    nav = _files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(nav) == [page.name for page in sorted(DOCS.glob("*.md"))]


def test_the_citation_can_be_read():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    needed = {"cff-version", "message", "title", "authors"}
    assert needed <= set(citation) and citation["license"] == "MIT"
