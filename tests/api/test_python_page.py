"""The page on Python shows what its code prints."""

from pathlib import Path

import launcher
import pytest
from pages import executed


def test_a_page_has_the_outputs_of_its_code() -> None:
    page = "# A\n\n```python\nx = 2\n```\n\nb\n\n```python\nprint(x)\n```\n\n```text\n3\n```\n\nc\n"
    assert executed(page) == page.replace("\n3\n", "\n2\n")
    assert executed(page.replace("\n```text\n3\n```\n", "")) == page.replace("\n3\n", "\n2\n")


def test_the_page_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is renewed by: python tests/pages.py docs/learn/python.md"""
    page = (launcher.ROOT / "docs" / "learn" / "python.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert executed(page) == page
