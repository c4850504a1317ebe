"""The two tables of a sweep: every run, and every variant averaged over its seeds."""

from collections.abc import Sequence
from statistics import mean, stdev

from dist_vgg.base.table import table
from dist_vgg.sweep.results import MODELS, Result
from dist_vgg.sweep.variants import label

SETS = ("held out", "held out, shifted", "test", "test, shifted")


def tables(results: Sequence[Result]) -> str:
    """Both tables, and a line between them that says which images "test" means."""
    columns = [
        (model, images)
        for model in MODELS
        for images in SETS
        if any(images in one["models"].get(model, {}) for one in results)
    ]
    test_images = " or the ".join(sorted({one["images"] for one in results}))
    return (
        f'{_runs(results, columns)}\n\n"test" is on the {test_images} images; over the seeds, '
        f"mean ± standard deviation:\n\n{_variants(results, columns)}"
    )


def _runs(results: Sequence[Result], columns: Sequence[tuple[str, str]]) -> str:
    """One line for each run, with the digests of its networks."""
    models = list(dict.fromkeys(model for model, _ in columns))
    digests = [f"SHA-256, {model}" for model in models]
    rows = [
        [
            label(one["variant"]),
            str(one["seed"]),
            *_scores([one], columns),
            f"{one['minutes']:.1f}",
            *(one["models"].get(model, {}).get("sha256", "-")[:16] for model in models),
        ]
        for one in results
    ]
    return table(["", "seed", *_heads(columns), "minutes", *digests], rows)


def _variants(results: Sequence[Result], columns: Sequence[tuple[str, str]]) -> str:
    """One line for each variant, over its seeds."""
    groups: dict[str, list[Result]] = {}
    for one in results:
        groups.setdefault(label(one["variant"]), []).append(one)
    rows = [
        [
            name,
            str(len(ones)),
            *_scores(ones, columns),
            f"{mean(one['minutes'] for one in ones):.1f}",
        ]
        for name, ones in groups.items()
    ]
    return table(["", "seeds", *_heads(columns), "minutes"], rows)


def _heads(columns: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{model}, {images} %" for model, images in columns]


def _scores(results: Sequence[Result], columns: Sequence[tuple[str, str]]) -> list[str]:
    """A cell for each column, over those results that have an accuracy there."""
    cells = []
    for model, images in columns:
        scores = [one["models"].get(model, {}) for one in results]
        cells.append(mean_and_deviation([score[images] for score in scores if images in score]))
    return cells


def mean_and_deviation(accuracies: Sequence[float]) -> str:
    """Mean and standard deviation in per cent; "-" for none."""
    if not accuracies:
        return "-"
    deviation = f" ± {100 * stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    return f"{100 * mean(accuracies):.2f}{deviation}"
