"""The tables of results, from the files that the commands write (`--json`, `sweep.json`).

docs/results/ has these files as they were written, and about.json says of each what the file does
not: the command, the machine, the day, and whether the program has changed since.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from .bench import audit_table, compared_table, deploy_table, scaling_table
from .chaos import chaos_table
from .markdown import code, fence, folded, table, text

ABOUT = "about.json"
MODELS = ("weights", "average", "best")  # of a run: the last step's, their average, the best
KEYS = ("held out", "held out, loss", "held out, shifted", "test", "test, shifted")
Found = Any  # what a file holds


def result_pages(folder: Path) -> dict[str, str]:
    """For each result file the Markdown that pages include, as `results-NAME`."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    pages = {}
    for path in sorted(folder.glob("*.json")):
        if path.name != ABOUT:
            found = json.loads(path.read_text(encoding="utf-8"))
            said = {"name": path.stem, **about.get(path.stem, {})}
            pages[f"results-{path.stem}"] = f"{render(found, said)}\n{source(found, said)}"
    return pages


def render(found: Found, about: Mapping[str, Any]) -> str:
    """The tables of a file, by what has written it."""
    if isinstance(found, list):
        return sweep_tables(found, about)
    if "trials" in found or "families" in found:
        return chaos_table(found)
    if found.get("benchmark") in ("step", "evaluation"):
        return compared_table(found)
    if found.get("benchmark") == "audit":
        return audit_table(found)
    if found.get("benchmark") == "deploy":
        return deploy_table(found)
    if found.get("benchmark") == "scaling":
        return scaling_table(found)
    if "accuracy" in found:
        return score_table(found)
    raise ValueError("no command writes a file such as this")


def source(found: Found, about: Mapping[str, Any]) -> str:
    """Where figures come from: the command, the machine, and whether the program has changed."""
    own = found if isinstance(found, dict) else {}
    facts = {
        "Recorded": about.get("date", ""),
        "Machine": own.get("machine", {}).get("processor") or about.get("machine", ""),
        "Software": about.get("software", ""),
        "Of an earlier version": about.get("earlier", ""),
    }
    lines = [f"{name}: {text(value.rstrip('.'))}." for name, value in facts.items() if value]
    command = about.get("command") or own.get("command", "")
    parts = [fence(command, "sh")] if command else []
    if lines:
        parts.append(":::{container} provenance\n" + "\n".join(lines) + "\n:::\n")
    return "\n".join(parts)


def sweep_tables(runs: list[dict[str, Any]], about: Mapping[str, Any]) -> str:
    """A row for each variant over its seeds; then each run with its accuracies and hashes.

    Where the accuracies of single runs are not known, about.json has their means.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(label(run["variant"]), []).append(run)
    columns = [(name, key) for name in MODELS for key in KEYS if _known(runs, name, key)]
    heads = [key if name == "weights" else f"{name}, {key}" for name, key in columns]
    means = about.get("means", {})
    rows = []
    for name, ones in groups.items():
        cells = [_cell(ones, *column) for column in columns]
        rows.append([text(name or about["name"]), str(len(ones)), *cells])
        rows[-1] += [means[name]] if name in means else []
    parts = [table(["", "seeds", *heads, *(["test"] if means else [])], rows)]
    if any(len(ones) > 1 for ones in groups.values()):
        parts.append("± is the sample standard deviation over the seeds.\n")
    if any("sha256" in model for run in runs for model in run["models"].values()):
        parts.append(folded("Each run and its hash", _run_table(runs, columns, heads, about)))
    return "\n".join(parts)


def _run_table(
    runs: list[dict[str, Any]],
    columns: list[tuple[str, str]],
    heads: list[str],
    about: Mapping[str, Any],
) -> str:
    """Each run with its own accuracies and the SHA-256 of its parameters."""
    models = [name for name in MODELS if any(name in run["models"] for run in runs)]
    rows = []
    for run in runs:
        own = run["models"]
        rows.append([
            f"{text(label(run['variant']) or about['name'])}, seed {run['seed']}",
            *(code(own[name]["sha256"][:16]) if name in own else "–" for name in models),
            *(_cell([run], *column) for column in columns),
        ])  # fmt: skip
    hashes = [f"SHA-256, {name}" for name in models]
    return table(["run", *hashes, *heads], rows, left=1 + len(models))


def _known(runs: list[dict[str, Any]], name: str, key: str) -> bool:
    return any(key in run["models"].get(name, {}) for run in runs)


def _cell(runs: list[dict[str, Any]], name: str, key: str) -> str:
    """What runs have in a column: a loss, or accuracies with their mean and deviation."""
    values = [run["models"].get(name, {}).get(key) for run in runs]
    if key.endswith("loss"):
        return f"{mean(values):.4g}"
    return spread(values)


def score_table(found: Mapping[str, Any]) -> str:
    """What evaluate has found of each set of weights that a run has, and the confusion matrix."""
    scores = {"weights": found, **{name: found[name] for name in MODELS[1:] if name in found}}
    rows = [
        [
            name,
            code(one["weights"][:16]),
            spread([one["accuracy"]]),
            f"{one['loss']:.4f}" if "loss" in one else "–",
        ]
        for name, one in scores.items()
    ]
    parts = [table(["", "SHA-256", f"{found['images']} images", "loss"], rows, 2)]
    if "confusion" in found:
        classes = range(len(found["confusion"]))
        matrix = [
            [f"**{k}**", *map(str, row), f"{row[k] / sum(row):.1%}" if sum(row) else "–"]
            for k, row in enumerate(found["confusion"])
        ]
        head = ["true, predicted", *map(str, classes), "recall"]
        parts.append(folded("The confusion matrix", table(head, matrix)))
    return "\n".join(parts)


def label(variant: Mapping[str, str]) -> str:
    """What a run has of its own, as the tables of sweep name it; "" where nothing varies."""
    return ", ".join(f"{name} {value}" for name, value in variant.items())


def spread(values: list[float | None]) -> str:
    """Mean and standard deviation of accuracies, in per cent; a dash where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    deviation = f" ± {100 * stdev(known):.2f}" if len(known) > 1 else ""
    return f"{100 * mean(known):.2f}{deviation}%"
