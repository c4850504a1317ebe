"""Every file of the product can be read in one sitting: ruff has no rule for lengths in lines."""

import ast
from collections.abc import Iterator
from pathlib import Path

from launcher import ROOT

LINES = {ast.Module: 300, ast.FunctionDef: 50, ast.AsyncFunctionDef: 50, ast.ClassDef: 200}
EXCEPTIONS: dict[str, str] = {}  # file or file:name, and why a limit would make it worse


def too_long(path: Path) -> Iterator[str]:
    """What a file has that is over its limit, as file or file:name, each with its lines."""
    file, text = path.relative_to(ROOT).as_posix(), path.read_text()
    for node in ast.walk(ast.parse(text)):
        if limit := LINES.get(type(node)):
            first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", text.count("\n"))
            name = f"{file}:{node.name}" if hasattr(node, "name") else file
            if last - first + 1 > limit and name not in EXCEPTIONS:
                yield f"{name} has {last - first + 1} lines, more than {limit}"


def test_files_classes_and_functions_are_short() -> None:
    files = [path for room in ("dist_vgg", "data_prep") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 50
    assert not [line for path in sorted(files) for line in too_long(path)]
    assert len(EXCEPTIONS) <= 3
