"""Each distinct layer forward and backward, with each kernel set side by side."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dist_vgg.base.table import table
from dist_vgg.bench import products
from dist_vgg.bench.chart import Chart
from dist_vgg.bench.layer_probes import LayerProbes
from dist_vgg.bench.options import add_network, add_number, add_products, network_settings
from dist_vgg.bench.processes import result_of, worker_command
from dist_vgg.bench.readings import Readings
from dist_vgg.bench.report import Report
from dist_vgg.kernels import sets
from dist_vgg.kernels.sets import AUTO, BFLOAT16, CHOICES, COMPILED, REFERENCE
from dist_vgg.runs.config import TrainConfig

if TYPE_CHECKING:
    from mpi4py import MPI

ALL = "all"  # of --kernels: each set that is installed
HELP = "all: each set that is installed; a name: that set, beside the reference"
NOTES = """\
ms: of one image in one such layer, the median; --json has every reading
of peak: operations of the direct convolution, whatever computes it; of bfloat16, of its own peak
error: the largest, against float64, as a share of the largest number"""
DIRECTIONS = {"forward": ("y",), "backward": ("dx", "dw")}  # and what each computes
PEAK_SECONDS = 0.2  # that products of matrices are measured between two rounds of the layers


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_number(parser, "--micro-batch", 32, "images at a time")
    add_number(parser, "--repeat", 5, "readings of each layer")
    add_network(parser, ALL, help=HELP)
    add_products(parser)


def run(options: argparse.Namespace) -> Report:
    """Compare kernel sets, layer by layer, with each other and with the machine's peak."""
    TrainConfig(micro_batch=options.micro_batch)
    settings = dict(micro_batch=options.micro_batch, width=options.width, kernels=_sets(options))
    settings |= dict(repeat=options.repeat, sizes=options.products)
    found = result_of("kernels", worker_command(1, "kernels", **settings))
    peak = Readings.of(found["peaks"])
    tiles = Readings.of(found["tile_peaks"]) if found["tile_peaks"] else peak
    peaks = {name: tiles if name == BFLOAT16 else peak for name in settings["kernels"]}
    chart = Chart(
        f"Each layer, forward and backward; {options.micro_batch} images at a time on one core",
        "ms an image",
    )
    rows, totals = [], dict.fromkeys(settings["kernels"], 0.0)
    for layer in found["layers"]:
        # By set: milliseconds an image of one layer, forward and backward.
        layer["ms"] = {
            name: [Readings.of(1e3 * s / options.micro_batch for s in way) for way in both]
            for name, both in layer.pop("seconds").items()
        }
        count = len(layer["names"])
        label = layer["names"][0] + f" x{count}" * (count > 1)
        for name, both in layer["ms"].items():
            totals[name] += count * sum(way.median for way in both)
            pairs = zip(*(way.values for way in both), strict=True)
            chart.add(label, name, Readings.of(count * sum(p) for p in pairs))
        rows += _layer_rows(label, layer, peaks)
    header = ["layer", ""]
    for name in totals:
        header += [f"{name}, ms", "of peak", "error"]
    lines = [table(header, rows), "", NOTES, *_peaks(peak, peaks), ""]
    for name, total in totals.items():
        errors = [layer["errors"][name] for layer in found["layers"] if layer["errors"]]
        error = max(max(parts.values()) for parts in errors)
        lines.append(
            f"{name}: {total:.1f} ms an image, {1e3 / total:.1f} images/s a core, "
            f"{totals[REFERENCE] / total:.2f} x {REFERENCE}; largest error {error:.1e}"
        )
    # The first two are what --json had when there were no more than two.
    ms = {"as trained": next(iter(totals.values())), "im2col alone": totals[REFERENCE], **totals}
    results = dict(layers=found["layers"], peak_gflops=peak, ms_an_image=ms)
    if found["products"]:
        results["products"] = inside = _readings(found["products"])
        side = max(options.products)
        lines.append(
            f"products inside the compiled kernels: {inside['gflops']} GFLOP/s, "
            f"{inside['share'].median:.0%} of our own {side}x{side}x{side} product"
        )
    return Report("\n".join(lines), results, chart)


def _peaks(peak: Readings, peaks: Mapping[str, Readings]) -> Iterator[str]:
    """The lines about the rates that shares are taken of: float32's, and by the name of a set."""
    yield f"peak, the best of large products of matrices: {peak} GFLOP/s"
    if BFLOAT16 in peaks:
        how = ", ".join(sets.unit(sets.load(BFLOAT16)))
        yield f"peak of bfloat16, products in the cache: {peaks[BFLOAT16]} GFLOP/s ({how})"


def _readings(pairs: Sequence[tuple[float, float]]) -> dict[str, Readings]:
    """GFLOP/s of the products in a step and of a large one, and their quotient in each round."""
    step, square = zip(*pairs, strict=True)
    share = (a / b for a, b in pairs)
    return dict(gflops=Readings.of(step), of_large=Readings.of(square), share=Readings.of(share))


def _sets(options: argparse.Namespace) -> list[str]:
    """The names of the sets to measure, the reference last."""
    everything = options.kernels == ALL
    usual = {**vars(options), "kernels": AUTO if everything else options.kernels}
    chosen = network_settings(argparse.Namespace(**usual))["kernels"]
    if everything and chosen != REFERENCE:  # which --conv can ask for
        every = [name for name in CHOICES if name != AUTO and not sets.why_missing(name)]
        return list(dict.fromkeys([*([chosen] if chosen == BFLOAT16 else []), *every]))
    return list(dict.fromkeys([chosen, REFERENCE]))


def _layer_rows(
    label: str, layer: Mapping[str, Any], peaks: Mapping[str, Readings]
) -> list[list[str]]:
    """The lines of a layer: one forward and one backward."""
    rows = []
    for i, (direction, parts) in enumerate(DIRECTIONS.items()):
        row = ["" if i else label, direction]
        for name, both in layer["ms"].items():
            ms, flops = both[i].median, layer["flops"][i]
            row.append(str(both[i]).partition(" ")[0])
            row.append(f"{flops / ms / 1e6 / peaks[name].median:.0%}" if flops else "")
            errors = layer["errors"].get(name)
            row.append(f"{max(errors[part] for part in parts):.1e}" if errors else "")
        rows.append(row)
    return rows


def measure(
    comm: "MPI.Intracomm",
    repeat: int,
    sizes: Sequence[int],
    kernels: Sequence[str],
    micro_batch: int,
    width: float,
) -> dict[str, Any]:
    """Run each distinct layer on its own, and between two rounds measure products of matrices."""
    probes = LayerProbes(micro_batch, kernels, width)
    probes.measure()
    probes.forget()  # that round warmed up
    peaks, tile_peaks = [], []
    for _ in range(repeat):
        peaks.append(products.measure(comm, sizes, PEAK_SECONDS)["gflops"])
        if BFLOAT16 in kernels:
            from dist_vgg.bench import tile_products  # which needs llvmlite

            tile_peaks.append(tile_products.measure(PEAK_SECONDS))
        probes.measure()
    found = dict(peaks=peaks, tile_peaks=tile_peaks, layers=probes.results(), products=[])
    if COMPILED in kernels:
        from dist_vgg.bench.product_share import ProductShare  # which needs llvmlite

        share = ProductShare(micro_batch, width, max(sizes))
        found["products"] = [share.measure() for _ in range(1 + repeat)][1:]
    return found
