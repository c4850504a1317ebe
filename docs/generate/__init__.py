"""What the site shows of the program itself: written anew at each build, never by hand.

`write_all` writes Markdown that the pages of docs/ include:

    _build/generated/    tables and lists, from options, parsers and result files
    reference/rooms/     a page for each folder of the product, from its docstrings
"""

from pathlib import Path

from .api import api
from .commands import all_commands
from .markdown import write_if_changed
from .options import train_options
from .results import result_pages
from .rooms import room_pages, room_table

DOCS = Path(__file__).parents[1]


def write_all() -> None:
    """Write every generated page; one that has not changed keeps its time, for quick rebuilds."""
    generated, rooms = DOCS / "_build" / "generated", DOCS / "reference" / "rooms"
    pages = {
        generated / "train-options.md": train_options(),
        generated / "api.md": api(),
        generated / "commands.md": all_commands(),
        generated / "rooms.md": room_table(),
        **{generated / f"{name}.md": text for name, text in result_pages(DOCS / "results").items()},
        **{rooms / f"{name}.md": text for name, text in room_pages().items()},
    }
    for path, text in pages.items():
        write_if_changed(path, text)
    for path in set(rooms.glob("*.md")) - set(pages):  # of a room that is no more
        path.unlink()
