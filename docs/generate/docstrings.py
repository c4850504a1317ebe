"""A docstring of plain text as reStructuredText, which autodoc wants."""

import re
from collections.abc import Sequence

# What would be markup: emphasis, references, substitutions.
SPECIAL = re.compile(r"([\\*|_])")


def as_rst(lines: Sequence[str]) -> list[str]:
    """Paragraphs stay, what is indented becomes a literal block, and backticks enclose code."""
    found: list[str] = []
    for block in "\n".join(lines).split("\n\n"):
        rows = block.splitlines()
        if any(row.startswith(" ") for row in rows if row.strip()):
            found += ["::", "", *("    " + row for row in rows), ""]
        else:
            found += [_escaped(row) for row in rows] + [""]
    return found


def _escaped(row: str) -> str:
    """A line in which nothing is markup but code between backticks."""
    parts = row.split("`")
    if len(parts) % 2 == 0:
        return SPECIAL.sub(r"\\\1", row.replace("`", "'"))
    return "".join(
        f"``{part}``" if number % 2 else SPECIAL.sub(r"\\\1", part)
        for number, part in enumerate(parts)
    )
