"""Each distinct layer forward and backward, with each kernel."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dist_vgg.base.table import table
from dist_vgg.bench import products
from dist_vgg.bench.chart import Chart
from dist_vgg.bench.layer_probes import LayerProbes
from dist_vgg.bench.options import add_network, add_number, add_products, network_settings
from dist_vgg.bench.processes import result_of, worker_command
from dist_vgg.bench.readings import Readings
from dist_vgg.bench.report import Report
from dist_vgg.runs.config import TrainConfig

if TYPE_CHECKING:
    from mpi4py import MPI

HEADER = ("layer", "", "kernel", "ms", "im2col ms", "ratio", "GFLOP/s", "of peak", "error")
NOTES = """\
ms: of one image in one such layer; ratio: of im2col, the direct convolution, to this
error: the largest, against float64, as a share of the largest number"""
PEAK_SECONDS = 0.2  # that products of matrices are measured between two rounds of the layers


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_number(parser, "--micro-batch", 32, "images at a time")
    add_number(parser, "--repeat", 5, "readings of each layer")
    add_network(parser)
    add_products(parser)


def run(options: argparse.Namespace) -> Report:
    """Compare the kernels of each layer with each other and with the machine's peak."""
    TrainConfig(micro_batch=options.micro_batch)
    settings = dict(micro_batch=options.micro_batch, **network_settings(options))
    settings |= dict(repeat=options.repeat, sizes=options.products)
    found = result_of("kernels", worker_command(1, "kernels", **settings))
    peak = Readings.of(found["peaks"])
    chart = Chart(
        f"Each layer, forward and backward; {options.micro_batch} images at a time on one core",
        "ms an image",
    )
    rows, totals = [], {"as trained": 0.0, "im2col alone": 0.0}
    for layer in found["layers"]:
        # By kernel: milliseconds an image of one layer, forward and backward.
        layer["ms"] = times = {
            kernel: [Readings.of(1e3 * s / options.micro_batch for s in way) for way in both]
            for kernel, both in layer.pop("seconds").items()
        }
        # The kernel that trains, and the one to compare it with; the same where there is but one.
        kernel, plain = next(iter(times)), list(times)[-1]
        count = len(layer["names"])
        label = layer["names"][0] + f" x{count}" * (count > 1)
        for name, chosen in zip(totals, (kernel, plain), strict=True):
            totals[name] += count * sum(way.median for way in times[chosen])
        for name, both in times.items():
            pairs = zip(*(way.values for way in both), strict=True)
            chart.add(label, name or "other layers", Readings.of(count * sum(p) for p in pairs))
        rows += _layer_rows(label, layer, kernel, plain, peak)
    lines = [table(HEADER, rows), "", NOTES]
    lines += [f"peak, the best of large products of matrices: {peak} GFLOP/s", ""]
    for name, total in totals.items():
        lines.append(f"{name}: {total:.1f} ms an image, {1e3 / total:.1f} images/s a core")
    results = dict(layers=found["layers"], peak_gflops=peak, ms_an_image=totals)
    return Report("\n".join(lines), results, chart)


def _layer_rows(
    label: str, layer: Mapping[str, Any], kernel: str, plain: str, peak: Readings
) -> list[list[str]]:
    """The lines of a layer: one forward and one backward."""
    errors = layer["errors"].get(kernel, {})
    shown = [" ".join(f"{part} {errors[part]:.1e}" for part in parts if part in errors)
             for parts in (["y"], ["dx", "dw"])]  # fmt: skip
    rows = []
    for i, direction in enumerate(("forward", "backward")):
        ms, direct = layer["ms"][kernel][i], layer["ms"][plain][i]
        gflops = layer["flops"][i] / ms.median / 1e6
        compared = [str(direct), f"{direct.median / ms.median:.2f}"]
        rates = [f"{gflops:.0f}", f"{gflops / peak.median:.0%}"]
        rows.append([
            "" if i else label,
            direction,
            kernel,
            str(ms),
            *(compared if kernel != plain else ["", ""]),
            *(rates if gflops else ["", ""]),
            shown[i],
        ])  # fmt: skip
    return rows


def measure(
    comm: "MPI.Intracomm", repeat: int, sizes: Sequence[int], **settings: Any
) -> dict[str, Any]:
    """Run each distinct layer on its own, and between two rounds measure products of matrices."""
    probes = LayerProbes(**settings)
    probes.measure()
    probes.forget()  # that round warmed up
    peaks = []
    for _ in range(repeat):
        peaks.append(products.measure(comm, sizes, PEAK_SECONDS)["gflops"])
        probes.measure()
    return dict(peaks=peaks, layers=probes.results())
