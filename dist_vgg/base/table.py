"""What a command shows and writes of its results: a table in text, JSON and a picture."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from dist_vgg.base.errors import UserError
from dist_vgg.base.files import check_writable


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as needed, the first to the left and the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def check_outputs(json_path: Path | None, plot: Path | None) -> None:
    """Raise UserError, before anything is measured, where a result could not be written."""
    for flag, path in (("--json", json_path), ("--plot", plot)):
        if path:
            check_writable(flag, path)
    if plot and plot.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"--plot {plot}: name a .png, .pdf or .svg file")
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib: pip install matplotlib")
