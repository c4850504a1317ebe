"""A contact sheet: pairs of small pictures side by side, each with two lines of text below."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

CELL, GAP, LINE = 128, 8, 13  # pixels: of a picture's cell, between cells, of a line of text
COLUMNS = 3
LETTER = 6  # pixels, the width of one
GROUND, FRAME = (64, 64, 64), (96, 96, 96)


class Panel(NamedTuple):
    """A pair of pictures; one that is missing leaves its cell empty."""

    left: Image.Image | None
    right: Image.Image | None
    lines: tuple[str, str]


def contact_sheet(panels: Sequence[Panel]) -> Image.Image:
    """All panels in one RGB picture, three in a row."""
    columns = min(COLUMNS, len(panels))
    width, height = 2 * (CELL + GAP) + GAP, CELL + 2 * LINE + 2 * GAP
    size = width * columns + GAP, height * -(-len(panels) // columns) + GAP
    sheet = Image.new("RGB", size, GROUND)
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        _draw_panel(sheet, panel, column * width + GAP, row * height + GAP, width)
    return sheet


def _draw_panel(sheet: Image.Image, panel: Panel, left: int, top: int, width: int) -> None:
    pen = ImageDraw.Draw(sheet)
    for place, image in enumerate((panel.left, panel.right)):
        x = left + place * (CELL + GAP)
        pen.rectangle((x, top, x + CELL - 1, top + CELL - 1), outline=FRAME)
        if image:
            fitted = fit(image, Image.Resampling.NEAREST)
            across, down = (CELL - fitted.width) // 2, (CELL - fitted.height) // 2
            sheet.paste(fitted, (x + across, top + down))
    for number, text in enumerate(panel.lines):
        plain = text.encode("ascii", "replace").decode()  # what every font has
        room = (width - GAP) // LETTER
        pen.text((left, top + CELL + 2 + LINE * number), plain[:room], fill="white")


def fit(image: Image.Image, resampling: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """Resize an image to fill a cell along its longer side; the other keeps at least a pixel."""
    scale = CELL / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), resampling)
