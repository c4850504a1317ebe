"""The folders of the product and what each of their files is, from the docstrings."""

import ast
from pathlib import Path

from .markdown import code, prose, table, text

PROJECT = Path(__file__).parents[2]
PRODUCT = ("dist_vgg", "data_prep")


def rooms() -> dict[str, Path]:
    """The folders with code, by the name that imports use; the package's own files first."""
    found = [PROJECT / name for name in PRODUCT]
    found += sorted(path.parent for path in (PROJECT / "dist_vgg").glob("*/**/__init__.py"))
    return {".".join(path.relative_to(PROJECT).parts): path for path in found}


def files(folder: Path) -> list[Path]:
    """The modules of a room; `__init__.py` only says what the room is."""
    return sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")


def docstring(path: Path) -> str:
    """What a file says of itself; it is not imported for that."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def room_table() -> str:
    """Each room with its files and the first sentence of each."""
    parts = []
    for name, folder in rooms().items():
        parts.append(f"## {code(name)}\n\n{_summary(docstring(folder / '__init__.py'))}")
        rows = [
            [f"[{code(path.name)}](#{_anchor(name, path)})", _summary(docstring(path))]
            for path in files(folder)
        ]
        parts.append(table(["file", "what"], rows, left=2))
    return "\n\n".join(parts)


def room_pages() -> dict[str, str]:
    """A page for each room, with every file's public names by autodoc."""
    pages = {}
    for name, folder in rooms().items():
        parts = [f"# {code(name)}", prose(docstring(folder / "__init__.py"))]
        for path in files(folder):
            module = f"{name}.{path.stem}"
            parts.append(f"({_anchor(name, path)})=\n## {code(path.name)}")
            parts.append(prose(docstring(path)))
            if path.stem == "__main__":  # a command, see the page of commands
                continue
            parts.append(f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```")
        pages[name.replace("_", "-").replace(".", "-")] = "\n\n".join(parts) + "\n"
    return pages


def _anchor(name: str, path: Path) -> str:
    return f"file-{name}-{path.stem}".replace("_", "-").replace(".", "-").lower()


def _summary(words: str) -> str:
    """The first paragraph of a docstring, in one line."""
    return text(" ".join(words.partition("\n\n")[0].split()))
