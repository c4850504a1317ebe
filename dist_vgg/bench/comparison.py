"""Contenders measured in turns, and compared with each other and with the machine's peak.

A machine's speed drifts, and others use it too. So each round starts every contender once, in a
fresh process, and the next round begins with another one.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dist_vgg.base.command_line import plural
from dist_vgg.base.progress import Progress
from dist_vgg.base.table import table
from dist_vgg.bench.chart import Chart
from dist_vgg.bench.contenders import OURS, Contender
from dist_vgg.bench.processes import MeasurementFailed, result_of, worker_command
from dist_vgg.bench.readings import Readings
from dist_vgg.kernels.sets import BFLOAT16

HEADER = ("", "images/s", "a core", "of peak", "s to start", "GiB of a rank", "of all")
PEAK_SECONDS = 0.3  # that products of matrices are measured in each round, at most


@dataclass(frozen=True)
class Comparison:
    """What each contender has measured in each round."""

    contenders: Sequence[Contender]
    found: Mapping[str, Sequence[dict[str, Any]]]  # by the contender's name
    peaks: Mapping[int, Readings]  # GFLOP/s of matrix products, by number of cores
    tile_peaks: Mapping[int, Readings]  # of those in bfloat16, where that is what we compute in

    @property
    def flops(self) -> float:
        """Operations of an image."""
        return float(self.found[self.contenders[0].name][0]["flops"])

    def rate(self, name: str) -> Readings:
        """A contender's images/s."""
        return Readings.of(result["images_per_s"] for result in self.found[name])

    def report(self, chart: Chart) -> tuple[str, dict[str, Any]]:
        """The table of contenders and our ratios to others; the same for JSON and the chart."""
        rows, entries = [], {}
        for contender in self.contenders:
            rate = self.rate(contender.name)
            chart.add(contender.name, contender.family, rate)
            row, entries[contender.name] = self._entry(contender, rate)
            rows.append(row)
        ratios = self.ratios()
        lines = [table(HEADER[: len(rows[0])], rows), ""]
        lines += [
            f"{r['ours']} = {r['ratio']:.2f} x {r['other']} "
            f"(its best; {r['by_round'].low:.2f}–{r['by_round'].high:.2f} in each round)"
            for r in ratios
        ]
        lines += [f"peak of {plural(n, 'core')}: {peak} GFLOP/s" for n, peak in self.peaks.items()]
        for name, entry in entries.items():
            if "share_of_tile_peak" in entry:
                peak = self.tile_peaks[entry["cores"]]
                share = f"{entry['share_of_tile_peak']:.0%}"
                lines.append(f"peak in bfloat16: {peak} GFLOP/s, of which {name} makes {share}")
        lines.append(f"operations of an image: {self.flops / 1e9:.3f} GFLOP")
        return "\n".join(lines), dict(
            contenders=entries,
            ratios=ratios,
            peak_gflops=self.peaks,
            tile_peak_gflops=self.tile_peaks,
            flops_of_an_image=self.found[self.contenders[0].name][0]["flops"],
        )

    def _entry(self, contender: Contender, rate: Readings) -> tuple[list[str], dict[str, Any]]:
        """A contender's row of the table, and what JSON has of it."""
        runs, cores = self.found[contender.name], contender.cores
        gflops = rate.median * self.flops / 1e9
        share = gflops / self.peaks[cores].median
        to_start = Readings.of(run["seconds_to_first_step"] for run in runs)
        entry: dict[str, Any] = dict(
            family=contender.family,
            cores=cores,
            images_per_s=rate,
            images_per_s_a_core=rate.median / cores,
            gflops=gflops,
            share_of_peak=share,
            seconds_to_start=to_start,
        )
        if contender.family == OURS and self.tile_peaks:
            entry["share_of_tile_peak"] = gflops / self.tile_peaks[cores].median
        row = [contender.name, str(rate), f"{rate.median / cores:.1f}", f"{share:.0%}"]
        row.append(f"{to_start.median:.1f}")
        if "memory" in runs[0]:
            entry["memory_gib"] = [Readings.of(run["memory"][i] for run in runs) for i in (0, 1)]
            row += [f"{memory.median:.2f}" for memory in entry["memory_gib"]]
        if "route" in runs[0]:
            entry["route"] = runs[0]["route"]
        return row, entry

    def ratios(self) -> list[dict[str, Any]]:
        """The ratio of each of ours to the best of each other family, overall and by round."""
        families: dict[str, list[str]] = {}
        for contender in self.contenders:
            families.setdefault(contender.family, []).append(contender.name)
        ratios = []
        for name in families.pop(OURS):
            for names in families.values():
                best = max(names, key=lambda other: self.rate(other).median)
                ours, theirs = self.rate(name), self.rate(best)
                rounds = zip(ours.values, theirs.values, strict=True)
                ratio = ours.median / theirs.median
                by_round = Readings.of(a / b for a, b in rounds)
                ratios.append(dict(ours=name, other=best, ratio=ratio, by_round=by_round))
        return ratios


def compare(contenders: Sequence[Contender], options: argparse.Namespace) -> Comparison:
    """Let contenders take turns with products of matrices, on as many cores as each has."""
    commands = {c.name: c.command for c in contenders}
    peak_names = {n: f"products on {plural(n, 'core')}" for n in {c.cores for c in contenders}}
    seconds = min(PEAK_SECONDS, options.seconds)
    tiles = options.precision == BFLOAT16
    settings = dict(sizes=options.products, seconds=seconds, tiles=tiles)
    for cores, name in peak_names.items():
        commands[name] = worker_command(cores, "products", **settings)
    progress = Progress(len(commands) * options.repeat)

    def show(name: str, result: dict[str, Any]) -> None:
        rate = "{images_per_s:.1f} images/s" if "images_per_s" in result else "{gflops:.0f} GFLOP/s"
        progress.update(1, f"{name}: {rate.format(**result)}")

    try:
        found = in_turns(commands, options.repeat, show)
    finally:
        progress.close()
    sizes = {result["parameters"] for c in contenders for result in found[c.name]}
    if len(sizes) > 1:
        raise MeasurementFailed(f"the networks are not the same: {sizes} parameters")

    def rates(key: str) -> dict[int, Readings]:
        return {n: Readings.of(r[key] for r in found[name]) for n, name in peak_names.items()}

    return Comparison(contenders, found, rates("gflops"), rates("tile_gflops") if tiles else {})


def in_turns(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    show: Callable[[str, dict[str, Any]], object],
) -> dict[str, list[dict[str, Any]]]:
    """Run each command once a round, and `show` each result; returns all of them by name."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    names = list(commands)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            result = result_of(name, commands[name])
            results[name].append(result)
            show(name, result)
    return results
