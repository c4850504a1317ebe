"""What a benchmark reports: a text, results for JSON, and a picture."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_vgg.base.files import write_text
from dist_vgg.bench.chart import Picture
from dist_vgg.bench.readings import Readings


@dataclass
class Report:
    """What a benchmark has found: the text to print, the results for JSON, and their picture."""

    text: str
    results: dict[str, Any]
    picture: Picture


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write results, which may hold Readings and paths, to a JSON file."""
    write_text(path, json.dumps(content, indent=2, default=_as_json) + "\n")


def _as_json(value: Any) -> dict[str, Any] | str:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Readings):
        return value.as_dict()
    raise TypeError(f"JSON has no place for {value!r}")
