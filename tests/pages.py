"""Reads the code blocks of the project's Markdown pages, so that tests can run them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(
    r"(?:^`(?P<path>[^`\n]+)`\n\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced code block: its language, its text, and the file name above it."""

    language: str
    body: str
    path: str | None


def fences(markdown: Path) -> Iterator[Fence]:
    """Yields the fenced blocks of a page, in order."""
    for match in _FENCE.finditer(markdown.read_text("utf-8")):
        yield Fence(match["language"], match["body"], match["path"])


def commands(markdown: Path) -> list[str]:
    """Returns the commands of a page's `sh` blocks, comments left out."""
    lines = [
        line.strip()
        for fence in fences(markdown)
        if fence.language == "sh"
        for line in fence.body.replace("\\\n", " ").splitlines()
    ]
    return [line for line in lines if line and not line.startswith("#")]
