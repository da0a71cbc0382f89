"""What is cited is there: every tag of a reading, and every paper under its own authors' names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READINGS = ROOT / "results" / "published" / "readings.md"
TAG = re.compile(r"(?<![\w.\\])[JIRPLXUG]\.\d{1,2}(?![\w.]*\d)")
WITHOUT_DOT = re.compile(r"(?<![\w.\\<-])[JIRPXUG]\d{1,2}(?!\w)")
SUFFIXES = (".py", ".toml", ".md", ".tex")
OUTSIDE = re.compile(r"DESIG[N]|HOUSE[.]md|settings[.]md|systems[.]md")
"""Documents that are not in the repository."""


def texts() -> dict[str, str]:
    """Of every file that people write or read, by its path."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = (
        listed.stdout.split() if listed.returncode == 0 else [str(path) for path in ROOT.rglob("*") if path.is_file()]
    )
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names if name.endswith(SUFFIXES)}


TEXTS = texts()


def test_every_tag_has_its_heading() -> None:
    headings = re.findall(r"^#### (\S+)$", READINGS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) == len(set(headings)) > 150
    cited = {(name, tag) for name, text in TEXTS.items() for tag in TAG.findall(text)}
    assert len(cited) > 100
    assert sorted((name, tag) for name, tag in cited if tag not in headings) == []


def test_tags_are_spelled_in_one_way() -> None:
    assert sorted((name, tag) for name, text in TEXTS.items() for tag in WITHOUT_DOT.findall(text)) == []


def test_nothing_cites_what_is_not_in_the_repository() -> None:
    assert sorted((name, found) for name, text in TEXTS.items() for found in OUTSIDE.findall(text)) == []


@pytest.mark.parametrize("paper", ["journal", "ICASSP"])
def test_papers_are_credited_to_their_authors(paper: str) -> None:
    """The journal paper and the ICASSP paper are BLORC's; Crockett and Fessler wrote the review."""
    wrong = re.compile(rf"Crockett (?:&|and) Fessler,? {paper}")
    assert [name for name, text in TEXTS.items() if wrong.search(text)] == []
