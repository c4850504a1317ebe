"""Run the Python of a page of the docs, and compare or renew the outputs that it shows.

python tests/pages.py docs/learn/python.md     write what the blocks print into the page

A block ```python is followed by a block ```text where it prints something. All blocks of a page
share their names, as the cells of a notebook do.
"""

import os
import re
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n.*?```\n)?", re.DOTALL)


def executed(page: str) -> str:
    """The page with the outputs that its blocks have now; they run in the current folder."""
    names: dict[str, Any] = {"__name__": "page"}

    def run(block: re.Match[str]) -> str:
        line = page.count("\n", 0, block.start()) + 1
        printed = StringIO()
        with redirect_stdout(printed):
            # Behind so many line ends, a traceback has the line of the page.
            exec(compile("\n" * line + block[1], "<page>", "exec"), names)
        output = printed.getvalue()
        return f"```python\n{block[1]}```\n" + (f"\n```text\n{output}```\n" if output else "")

    return BLOCK.sub(run, page)


if __name__ == "__main__":
    path = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        path.write_text(executed(path.read_text(encoding="utf-8")), encoding="utf-8")
