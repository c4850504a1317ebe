"""What the tests of the pages share: Chromium, a page in it, and a hand that draws."""

import base64
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

Stroke = Sequence[tuple[float, float]]
# Strokes of digits as a person draws them, on a pad of side 1.
STROKES: dict[int, list[Stroke]] = {
    1: [[(0.42, 0.3), (0.52, 0.2), (0.51, 0.5), (0.5, 0.8)]],
    3: [
        [(0.33, 0.27), (0.45, 0.19), (0.6, 0.24), (0.62, 0.36), (0.47, 0.46)],
        [(0.47, 0.46), (0.64, 0.54), (0.66, 0.68), (0.5, 0.79), (0.33, 0.72)],
    ],
    5: [
        [(0.36, 0.22), (0.34, 0.46)],
        [(0.34, 0.46), (0.5, 0.42), (0.64, 0.53), (0.63, 0.7), (0.48, 0.79), (0.33, 0.73)],
        [(0.36, 0.22), (0.64, 0.21)],
    ],
    7: [[(0.31, 0.24), (0.67, 0.23), (0.56, 0.5), (0.45, 0.8)]],
}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window; the test is skipped where it is not installed.

    The one that has no windows at all takes half of the time.
    """
    found = (shutil.which(name) for name in ("chromium-headless-shell", "chromium"))
    path = next(filter(None, found), None) or pytest.skip("Chromium is not installed")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser,
    url: str,
    allowed: str = "",
    route: Callable[[Route], None] | None = None,
    **options: Any,
) -> Iterator[Page]:
    """A page, which must neither complain nor request anything from elsewhere.

    It may log what begins with `allowed`; `route` answers its requests in a server's place; the
    options are those of a browser's context.
    """
    context = browser.new_context(**options)
    if route:
        context.route("**", route)
    complaints: list[str] = []
    context.on("request", lambda request: complaints.append(request.url))
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    yield page
    context.close()
    own = tuple(filter(None, (url, "blob:", "data:", allowed)))
    assert not [each for each in complaints if not each.startswith(own)]


def draw(page: Page, digit: int) -> None:
    """Draw a digit on the pad with the mouse."""
    for stroke in STROKES[digit]:
        draw_stroke(page, stroke)


def draw_stroke(page: Page, stroke: Stroke) -> None:
    """Draw one stroke on the pad, whose points are in parts of its side."""
    first, *others = on_pad(page, rounded(stroke))
    page.mouse.move(*first)
    page.mouse.down()
    for point in others:
        page.mouse.move(*point)
    page.mouse.up()


def rounded(stroke: Stroke, steps: int = 8) -> Stroke:
    """The stroke with so many points for each, on the curve of Catmull and Rom through them."""
    p = np.array([stroke[0], *stroke, stroke[-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    curves = [
        b + t / 2 * (c - a) + t**2 / 2 * (2 * a - 5 * b + 4 * c - d)
        + t**3 / 2 * (3 * b - a - 3 * c + d)
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]  # fmt: skip
    return [(float(x), float(y)) for x, y in (*np.concatenate(curves), stroke[-1])]


def on_pad(page: Page, stroke: Stroke) -> Stroke:
    """The points in pixels of the window."""
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()
    assert box
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]


def answer(page: Page) -> str:
    """The class that the page names, once it names one."""
    return page.locator(".answered #answer strong").inner_text()


def choose(page: Page, path: Path) -> None:
    """Choose a picture in the page's file input."""
    page.set_input_files("#file", path)


def engine(page: Page, data: bytes, name: str) -> dict[str, Any]:
    """What the page's engine answers to an image file: pixels as lists, or the line of an error."""
    found = page.evaluate(
        """async ([data, name]) => {
            const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
            try {
                const { probabilities, seen } = await engine.answer(new File([bytes], name));
                if (seen) seen.pixels = Array.from(seen.pixels);
                return { probabilities, seen };
            } catch (error) {
                return { error: error.message };
            }
        }""",
        [base64.b64encode(data).decode(), name],
    )
    assert isinstance(found, dict)
    return found
