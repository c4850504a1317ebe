"""The page as a person uses it: mouse, finger and keyboard, pictures, and what it looks like."""

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import STROKES, answer, choose, draw, draw_stroke, on_pad, opened
from drawings import seven, uneven
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from predicting import some_weights

from dist_vgg.formats.html import write_html
from dist_vgg.formats.trained import load_network


def picture(folder: Path, name: str = "seven.png") -> Path:
    path = folder / name
    Image.fromarray(uneven(seven())).save(path)
    return path


@pytest.fixture
def rgb(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page for pictures in colour of twelve named classes."""
    names = tuple(f"kind {index}" for index in range(12))
    weights = replace(some_weights(channels=3, classes=12), class_names=names, preparation="crop")
    write_html(tmp_path / "page.html", weights, load_network(weights, "numpy"))
    with opened(browser, (tmp_path / "page.html").as_uri()) as page:
        yield page


@pytest.mark.parametrize("digit", STROKES)
def test_a_digit_that_is_drawn_is_named(page: Page, digit: int) -> None:
    draw(page, digit)
    expect(page.locator("#answer strong")).to_have_text(str(digit))
    expect(page.get_by_role("status")).to_contain_text(f"{digit}, ")
    best = page.locator("#probabilities .best")
    expect(best.locator(".name")).to_have_text(str(digit))
    assert float(best.locator(".share").inner_text().rstrip("%")) > 50
    width, height = (
        page.locator("#seen canvas").get_attribute(side) for side in ("width", "height")
    )
    assert (width, height) == ("64", "64")


def test_probabilities_come_while_a_stroke_is_drawn(page: Page) -> None:
    first, *others = on_pad(page, STROKES[7][0])
    page.mouse.move(*first)
    page.mouse.down()
    for point in others:
        page.mouse.move(*point, steps=8)
    expect(page.locator(".answered #answer strong")).to_have_text("7")  # with the button down
    assert page.get_by_role("status").inner_text() == "Draw a digit."  # not read aloud yet
    page.mouse.up()
    expect(page.get_by_role("status")).to_contain_text("7, ")


def test_a_blank_pad_names_nothing(page: Page) -> None:
    expect(page.get_by_role("status")).to_have_text("Draw a digit.")
    assert page.locator("#answer strong").count() == 0
    draw_stroke(page, [(0.5, 0.5), (0.5, 0.5)])
    expect(page.get_by_role("status")).to_have_text("No digit found.")
    assert page.locator("#answer strong").count() == 0


def is_blank(page: Page) -> bool:
    return bool(
        page.evaluate(
            "pad.getContext('2d').getImageData(0, 0, pad.width, pad.height).data"
            ".every((level) => level === 255)"
        )
    )


@pytest.mark.parametrize("how", ["Escape", "Delete", "button"])
def test_the_pad_is_cleared(page: Page, how: str) -> None:
    draw(page, 1)
    answer(page)
    assert not is_blank(page)
    if how == "button":
        page.get_by_role("button", name="Clear").click()
    else:
        page.keyboard.press(how)
    assert is_blank(page)
    expect(page.get_by_role("status")).to_have_text("Draw a digit.")
    page.wait_for_timeout(300)  # an answer that was on its way says nothing of the blank pad
    assert page.locator("#answer strong").count() == 0


def test_a_finger_draws_and_does_not_scroll(browser: Browser, digits: str) -> None:
    view = {"width": 320, "height": 568}
    with opened(browser, digits, viewport=view, has_touch=True, is_mobile=True) as page:
        fingers = page.context.new_cdp_session(page)
        for stroke in STROKES[7]:
            kind = "touchStart"
            for start, end in pairwise(stroke):
                for part in np.linspace(0, 1, 6):
                    ((x, y),) = on_pad(
                        page, [tuple(np.array(start) * (1 - part) + np.array(end) * part)]
                    )
                    point = {"x": float(x), "y": float(y)}
                    fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
                    kind = "touchMove"
            fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert answer(page) == "7"
        assert page.evaluate("scrollY") == 0


def test_everything_is_reached_and_done_by_keyboard(page: Page) -> None:
    draw(page, 3)
    answer(page)
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached == ["file", "clear", "SUMMARY"]
    page.keyboard.press("Enter")
    grid = page.locator(".grid").first
    grid.wait_for()
    page.keyboard.press("Tab")
    expect(grid).to_be_focused()
    before = int(grid.get_attribute("aria-valuenow") or "")
    page.keyboard.press("ArrowLeft" if before == 8 else "ArrowRight")
    assert abs(int(grid.get_attribute("aria-valuenow") or "") - before) == 1


def test_the_feature_maps_of_each_block_are_shown(page: Page) -> None:
    draw(page, 5)
    answer(page)
    assert page.locator(".grid").count() == 0
    page.locator("summary").click()
    expect(page.locator(".grid")).to_have_count(5)
    expect(page.locator(".what").first).to_have_text(
        "8 maps of 32 × 32, behind conv1_2. Each value looks at 6 × 6 pixels."
    )
    grid, large = page.locator(".grid").first, page.locator(".large canvas").first
    assert (large.get_attribute("width"), large.get_attribute("height")) == ("32", "32")
    grid.click(position={"x": 310, "y": 10})
    assert grid.get_attribute("aria-valuetext") == "map 4 of 8"
    five = pixels(large)
    assert five.max() > 0
    page.keyboard.press("Escape")
    draw(page, 1)  # the maps follow
    expect(page.get_by_role("status")).to_contain_text("1, ")
    assert not np.array_equal(pixels(large), five)


def pixels(canvas: Locator) -> np.ndarray:
    """The grey levels on a canvas."""
    url = canvas.evaluate("each => each.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L"))


def test_a_picture_is_chosen_and_the_next_stroke_takes_its_place(
    page: Page, tmp_path: Path
) -> None:
    choose(page, picture(tmp_path))
    assert answer(page) == "7"
    expect(page.locator("#pad")).to_have_class("photo")
    draw(page, 1)
    expect(page.locator("#answer strong")).to_have_text("1")
    expect(page.locator("#pad")).to_have_class("")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(page: Page, tmp_path: Path, event: str) -> None:
    data = list(picture(tmp_path).read_bytes())
    page.evaluate(
        """([kind, data]) => {
            const brought = new DataTransfer();
            brought.items.add(new File([Uint8Array.from(data)], "seven.png"));
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(kind === "drop"
                ? new DragEvent(kind, { ...options, dataTransfer: brought })
                : new ClipboardEvent(kind, { ...options, clipboardData: brought }));
        }""",
        [event, data],
    )
    assert answer(page) == "7"


def huge() -> bytes:
    """A small file of many pixels."""
    file = io.BytesIO()
    Image.new("1", (6000, 6000)).save(file, "PNG")
    return file.getvalue()


def test_bad_pictures_get_a_line(page: Page, tmp_path: Path) -> None:
    whole = picture(tmp_path).read_bytes()
    reading = "is no picture that this browser can read; choose a PNG or JPEG file."
    for name, data, line in [
        ("words.png", b"no picture", reading),
        ("empty.png", b"", reading),
        ("half.png", whole[:60], reading),
        ("huge.png", huge(), "has 6000 × 6000 pixels; make it smaller."),
        ("lines.svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', reading),
    ]:
        (tmp_path / name).write_bytes(data)
        choose(page, tmp_path / name)
        expect(page.get_by_role("alert")).to_have_text(f"{name} {line}")
        assert page.locator("#answer strong").count() == 0
    choose(page, picture(tmp_path))  # and the page goes on
    assert answer(page) == "7"
    expect(page.get_by_role("alert")).to_have_text("")


def test_other_sets_get_a_drop_zone_and_names(rgb: Page, tmp_path: Path) -> None:
    expect(rgb.get_by_role("status")).to_have_text("Choose a picture.")
    draw(rgb, 3)  # there is nothing to draw on
    assert is_blank(rgb)
    noise = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(noise).save(path)
    choose(rgb, path)
    name = answer(rgb)
    assert name.startswith("kind ")
    rows = rgb.locator("#probabilities li")
    expect(rows).to_have_count(10)  # the likeliest first
    expect(rows.first).to_have_class("best")
    shares = [float(each.rstrip("%")) for each in rows.locator(".share").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert rows.first.locator(".name").inner_text() == name


LOOKS = {
    "phone": dict(viewport={"width": 320, "height": 568}),
    "desktop": dict(viewport={"width": 1280, "height": 800}),
    "dark": dict(viewport={"width": 1280, "height": 800}, color_scheme="dark"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_it_fits_and_can_be_read(browser: Browser, digits: str, look: str) -> None:
    with opened(browser, digits, **LOOKS[look]) as page:
        draw(page, 3)
        answer(page)
        page.locator("summary").click()
        expect(page.locator(".grid")).to_have_count(5)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        text, ground = (
            page.evaluate(f"getComputedStyle(document.documentElement).{name}")
            for name in ("color", "backgroundColor")
        )
        assert (brightness(text) > brightness(ground)) == (look == "dark")
        for selector in ("footer", ".note", ".says", "#answer", "#hint"):
            colour = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
            assert contrast(colour, ground) > 4.5, selector


def brightness(colour: str) -> float:
    """The relative luminance of "rgb(r, g, b)", as WCAG 2 defines it."""
    parts = np.array([int(part) for part in colour[4:-1].split(",")]) / 255
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(brightness, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("motion, seconds", [("reduce", "0s"), ("no-preference", "0.12s")])
def test_bars_jump_where_motion_is_to_be_reduced(
    browser: Browser, digits: str, motion: str, seconds: str
) -> None:
    with opened(browser, digits, reduced_motion=motion) as page:
        style = "getComputedStyle(document.querySelector('.bar'), '::before').transitionDuration"
        assert page.evaluate(style) == seconds
