"""Plain text as Markdown: what is special in Markdown stays what it was."""

import re
from collections.abc import Sequence
from pathlib import Path

SPECIAL = re.compile(r"([\\`*_{}\[\]<>|$~#])")


def text(plain: str) -> str:
    """A line of plain text; what stands between backticks is code."""
    parts = plain.split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner
        return SPECIAL.sub(r"\\\1", plain)
    return "".join(
        f"`{part}`" if number % 2 else SPECIAL.sub(r"\\\1", part)
        for number, part in enumerate(parts)
    )


def sentence(plain: str) -> str:
    """A line of help as a sentence: it opens with a capital and ends with a full stop."""
    plain = plain.strip()
    return plain[:1].upper() + plain[1:] + ("" if plain.endswith((".", "!", "?")) else ".")


def code(plain: str) -> str:
    """Code within a line, also within a table."""
    return f"`{plain}`".replace("|", r"\|")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table of Markdown cells; the first `left` columns are set left, the others right."""
    marks = ["---"] * left + ["---:"] * (len(header) - left)
    lines = [header, marks, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def fence(content: str, language: str = "text") -> str:
    """A block of code."""
    return f"```{language}\n{content}\n```\n"


def folded(title: str, content: str) -> str:
    """A part that opens at a click."""
    return f"<details>\n<summary>{title}</summary>\n\n{content}\n</details>\n"


def prose(docstring: str) -> str:
    """A docstring as Markdown: paragraphs of text, and blocks of what is indented or a command."""
    parts = []
    for block in re.split(r"\n\s*\n", docstring.strip("\n")):
        lines = block.splitlines()
        if all(line.startswith((" ", "python ", "mpirun ", "launch/")) for line in lines):
            parts.append(fence(_undented(block)))
        else:
            parts.append("\n".join(text(line.strip()) for line in lines) + "\n")
    return "\n".join(parts)


def _undented(block: str) -> str:
    """A block without the indentation that all of its lines share."""
    lines = block.splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[indent:] for line in lines)


def write_if_changed(path: Path, content: str) -> None:
    """Write a file, unless it has just this content."""
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
