"""Opens pages in headless Chromium for tests, keeps pictures of them, and draws figures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import FloatRect, Locator, Page, expect, sync_playwright

from tests import fetch
from tests.conftest import ROOT

ARTEFACTS = ROOT / "artefacts"
"""Where tests leave pictures; git ignores it."""

WAIT_S = 120.0
"""How long anything on a page may take: other tests may keep the machine busy."""

_INLINE = ("data:", "blob:")
_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True, slots=True)
class Tab:
    """A page of a browser with a new profile, and what happened on it so far.

    `errors` are those that its scripts logged or did not catch, `requests` the addresses of files
    and servers that it asked.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def keep(self, name: str) -> None:
        """Keeps a picture of what is shown, as an artefact."""
        ARTEFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / name)

    def keep_figure(self, name: str, of: Locator, numbered: Sequence[Locator | FloatRect]) -> None:
        """Keeps a figure of an element as an artefact: SVG that holds the picture.

        Args:
            name: its name.
            of: the element.
            numbered: what is framed, with the numbers 1, 2 and on.
        """
        inside = rect(of)
        jpeg = self.page.screenshot(type="jpeg", quality=60, clip=inside)
        ARTEFACTS.mkdir(exist_ok=True)
        framed = [rect(one) for one in numbered]
        (ARTEFACTS / name).write_text("\n".join(_figure(jpeg, inside, framed)) + "\n")


@contextmanager
def opened(width: int, height: int) -> Iterator[Tab]:
    """Opens a browser with a page of so many px, and closes it at the end of the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=fetch.chromium(), args=_ARGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(WAIT_S * 1000)
        expect.set_options(timeout=WAIT_S * 1000)
        tab = Tab(page)
        page.on("pageerror", lambda error: tab.errors.append(error.message))
        page.on("console", lambda said: _add(tab.errors, said.text, said.type == "error"))
        page.on("request", lambda one: _add(tab.requests, one.url, one.url[:5] not in _INLINE))
        try:
            yield tab
        finally:
            browser.close()


def _add(texts: list[str], text: str, wanted: bool) -> None:
    if wanted:
        texts.append(text)


def rect(element: Locator | FloatRect) -> FloatRect:
    """Returns where something is on the page."""
    found = element.bounding_box() if isinstance(element, Locator) else element
    assert found is not None
    return found


_COLOUR, _RADIUS, _APART = "#c2185b", 14, 4


def _figure(jpeg: bytes, inside: FloatRect, framed: Sequence[FloatRect]) -> Iterator[str]:
    """Yields the lines of an SVG of a picture with numbered frames."""
    size = f'width="{inside["width"]:.0f}" height="{inside["height"]:.0f}"'
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" '
        'font-size="18" font-weight="bold" text-anchor="middle">'
    )
    yield f'<image {size} href="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"/>'
    for number, rect in enumerate(framed, start=1):
        x, y = rect["x"] - inside["x"] - _APART, rect["y"] - inside["y"] - _APART
        width, height = rect["width"] + 2 * _APART, rect["height"] + 2 * _APART
        yield (
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="4" '
            f'fill="none" stroke="{_COLOUR}" stroke-width="2"/>'
        )
        x, y = max(x - _RADIUS / 2, _RADIUS), max(y - _RADIUS / 2, _RADIUS)
        yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{_RADIUS}" fill="{_COLOUR}"/>'
        yield f'<text x="{x:.0f}" y="{y + 6:.0f}" fill="white">{number}</text>'
    yield "</svg>"
