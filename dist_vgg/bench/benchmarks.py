"""The benchmarks: what each one starts, and the table that comes of it."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import UserError
from dist_vgg.base.progress import Progress
from dist_vgg.base.table import table
from dist_vgg.bench.report import Chart, Report, Spread, cores, spread
from dist_vgg.bench.turns import PACKAGE, Failed, in_turns, measure, worker
from dist_vgg.runs.config import TrainConfig

MIB = 2**20
Found = Mapping[str, Sequence[dict[str, Any]]]  # the results of each contender, by its name


@dataclass(frozen=True)
class Contender:
    """Something that processes images, to be compared with others."""

    family: str
    label: str
    cores: int
    command: list[str]

    @property
    def name(self) -> str:
        return f"{self.family}, {self.label}"


OURS = "dist_vgg"


def step(options: argparse.Namespace) -> Report:
    """Whole training steps: images/s, and where their time goes."""
    settings = _settings(options, "micro_batch", "optimizer", "route", "width", "conv")
    for ranks in options.ranks:
        if ranks > options.shards:
            raise UserError(f"--ranks {ranks} is more than --shards {options.shards}")
    contenders = [
        Contender(
            OURS,
            plural(ranks, "rank"),
            min(ranks, cores()),
            worker(ranks, "step", shards=options.shards, seconds=options.seconds, **settings),
        )
        for ranks in options.ranks
    ]
    if options.against:
        common = ["--optimizer", options.optimizer, *_torch_common(options)]
        contenders += _torch_single(options, "train", common)
        for ranks in sorted({*options.ranks} - {1}):
            contenders += [
                Contender(
                    f"torch DDP, {ranks} ranks",
                    f"batch {batch} a rank",
                    min(ranks, cores()),
                    _torch(options, "train", "--ranks", ranks, "--batch", batch, *common),
                )
                for batch in options.ddp_batch
            ]
    found, peaks = _compare(contenders, options)
    chart = Chart("Training", "images/s")
    text, results = _compared(contenders, found, peaks, chart)
    text += "\n\n" + _shares([c for c in contenders if c.family == OURS], found, results)
    return Report(text, results, chart)


def evaluation(options: argparse.Namespace) -> Report:
    """Forward passes as evaluation makes them: images/s."""
    settings = _settings(options, "width", "conv")
    if options.images < max(options.ranks):
        raise UserError(f"--images {options.images} is fewer than --ranks {max(options.ranks)}")
    contenders = [
        Contender(
            OURS,
            plural(ranks, "rank"),
            min(ranks, cores()),
            worker(ranks, "evaluation", images=options.images, **settings),
        )
        for ranks in options.ranks
    ]
    if options.against:
        contenders += _torch_single(options, "infer", _torch_common(options))
    found, peaks = _compare(contenders, options)
    chart = Chart("Evaluation", "images/s")
    text, results = _compared(contenders, found, peaks, chart)
    return Report(text, results, chart)


def _compare(
    contenders: Sequence[Contender], options: argparse.Namespace
) -> tuple[Found, dict[int, Spread]]:
    """Let contenders take turns with products of matrices, on as many cores as each has.

    Returns what was found, and the peak rate by number of cores, in GFLOP/s.
    """
    commands = {c.name: c.command for c in contenders}
    peak_names = {n: f"products on {plural(n, 'core')}" for n in {c.cores for c in contenders}}
    seconds = min(0.3, options.seconds)
    for count, name in peak_names.items():
        commands[name] = worker(count, "products", sizes=options.products, seconds=seconds)
    progress = Progress(len(commands) * options.repeat)

    def say(name: str, result: dict[str, Any]) -> None:
        rate = "{images_per_s:.1f} images/s" if "images_per_s" in result else "{gflops:.0f} GFLOP/s"
        progress.update(1, f"{name}: {rate.format(**result)}")

    try:
        found = in_turns(commands, options.repeat, say)
    finally:
        progress.close()
    sizes = {r["parameters"] for c in contenders for r in found[c.name]}
    if len(sizes) > 1:
        raise Failed(f"the networks are not the same: {sizes} parameters")
    return found, {n: spread(r["gflops"] for r in found[name]) for n, name in peak_names.items()}


def _compared(
    contenders: Sequence[Contender], found: Found, peaks: Mapping[int, Spread], chart: Chart
) -> tuple[str, dict[str, Any]]:
    """The table of contenders and our ratios to the best of each other family."""
    rates = {c.name: spread(r["images_per_s"] for r in found[c.name]) for c in contenders}
    flops = found[contenders[0].name][0]["flops"]
    rows, results = [], {}
    for c in contenders:
        rate, runs = rates[c.name], found[c.name]
        chart.add(c.name, c.family, rate)
        share = rate.median * flops / 1e9 / peaks[c.cores].median
        results[c.name] = entry = dict(
            family=c.family,
            cores=c.cores,
            images_per_s=rate,
            images_per_s_a_core=rate.median / c.cores,
            gflops=rate.median * flops / 1e9,
            share_of_peak=share,
            seconds_to_start=spread(r["seconds_to_first_step"] for r in runs),
        )
        row = [c.name, str(rate), f"{rate.median / c.cores:.1f}", f"{share:.0%}"]
        row.append(f"{entry['seconds_to_start'].median:.1f}")
        if "memory" in runs[0]:
            entry["memory_gib"] = [spread(r["memory"][i] for r in runs) for i in (0, 1)]
            row += [f"{s.median:.2f}" for s in entry["memory_gib"]]
        if "route" in runs[0]:
            entry["route"] = runs[0]["route"]
        rows.append(row)
    header = ["", "images/s", "a core", "of peak", "s to start", "GiB of a rank", "of all"]
    lines = [table(header[: len(rows[0])], rows), ""]
    ratios = _ratios(contenders, rates)
    lines += [
        f"{r['ours']} = {r['ratio']:.2f} x {r['other']} "
        f"(its best; {r['by_round'].low:.2f}–{r['by_round'].high:.2f} in each round)"
        for r in ratios
    ]
    lines += [f"peak of {plural(n, 'core')}: {peak} GFLOP/s" for n, peak in peaks.items()]
    lines.append(f"operations of an image: {flops / 1e9:.3f} GFLOP")
    return "\n".join(lines), dict(
        contenders=results, ratios=ratios, peak_gflops=peaks, flops_of_an_image=flops
    )


def _ratios(contenders: Sequence[Contender], rates: Mapping[str, Spread]) -> list[dict[str, Any]]:
    """Of each of ours to the best of each other family; the spread is over the rounds."""
    families: dict[str, list[str]] = {}
    for c in contenders:
        families.setdefault(c.family, []).append(c.name)
    ratios = []
    for name in families.pop(OURS):
        for names in families.values():
            best = max(names, key=lambda other: rates[other].median)
            rounds = zip(rates[name].values, rates[best].values, strict=True)
            ratio = rates[name].median / rates[best].median
            by_round = spread(a / b for a, b in rounds)
            ratios.append(dict(ours=name, other=best, ratio=ratio, by_round=by_round))
    return ratios


def _shares(ours: Sequence[Contender], found: Found, results: dict[str, Any]) -> str:
    """The share of the step that each part takes, the mean of the ranks."""
    columns = []
    for c in ours:
        runs = [run["shares"] for run in found[c.name]]
        shares = {part: spread(run[part] for run in runs).median for part in runs[0]}
        both = spread(run.get("exchange", 0) + run.get("update", 0) for run in runs)
        shares["exchange and update"] = both.median
        results["contenders"][c.name]["shares"] = shares
        columns.append(shares)
    rows = [[part, *(f"{shares[part]:.1%}" for shares in columns)] for part in columns[0]]
    return table(["share of the step", *(c.label for c in ours)], rows)


def kernels(options: argparse.Namespace) -> Report:
    """Each distinct layer forward and backward, with each kernel."""
    settings = _settings(options, "micro_batch", "width", "conv")
    settings |= dict(repeat=options.repeat, sizes=options.products)
    found = measure("kernels", worker(1, "layers", **settings))
    peak = spread(found["peaks"])
    chart = Chart(
        f"Each layer, forward and backward; {options.micro_batch} images at a time on one core",
        "ms an image",
    )
    rows, totals = [], {"as trained": 0.0, "im2col alone": 0.0}
    for layer in found["layers"]:
        # Of each kernel: milliseconds an image, of one layer.
        layer["ms"] = times = {
            kernel: [spread(1e3 * s / options.micro_batch for s in one_way) for one_way in both]
            for kernel, both in layer.pop("seconds").items()
        }
        # What trains, and what to compare it with; the same where there is but one.
        kernel, plain = next(iter(times)), list(times)[-1]
        count = len(layer["names"])
        label = layer["names"][0] + f" x{count}" * (count > 1)
        for name, chosen in zip(totals, (kernel, plain), strict=True):
            totals[name] += count * sum(s.median for s in times[chosen])
        for name, both in times.items():
            pairs = zip(*(s.values for s in both), strict=True)
            chart.add(label, name or "other layers", spread(count * sum(pair) for pair in pairs))
        rows += _layer_rows(label, layer, kernel, plain, peak)
    header = ["layer", "", "kernel", "ms", "im2col ms", "ratio", "GFLOP/s", "of peak", "error"]
    lines = [
        table(header, rows),
        "",
        "ms: of one image in one such layer; ratio: of im2col, the direct convolution, to this",
        "error: the largest, against float64, as a share of the largest number",
        f"peak, the best of large products of matrices: {peak} GFLOP/s",
        "",
    ]
    for name, total in totals.items():
        lines.append(f"{name}: {total:.1f} ms an image, {1e3 / total:.1f} images/s a core")
    results = dict(layers=found["layers"], peak_gflops=peak, ms_an_image=totals)
    return Report("\n".join(lines), results, chart)


def _layer_rows(
    label: str, layer: Mapping[str, Any], kernel: str, plain: str, peak: Spread
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


def exchange(options: argparse.Namespace) -> Report:
    """The sum over ranks alone: milliseconds, and bytes a second."""
    if min(options.ranks) < 2:
        raise UserError("--ranks 1: an exchange needs at least 2")
    chart = Chart("Sum over ranks, and back to all of them", "ms")
    progress = Progress(len(options.ranks) * len(options.sizes))
    rows, results = [], []
    for ranks in options.ranks:
        for count in options.sizes:
            name = f"{ranks} ranks, {count:,} numbers"
            settings = dict(
                count=count, repeat=options.repeat, stream=options.stream, cores=cores()
            )
            try:
                found = measure(name, worker(ranks, "exchange", **settings))
            except BaseException:
                progress.close()
                raise
            progress.update(1, name)
            bandwidth = spread(value / 1e9 for value in found["bandwidth"])
            # What each rank must send, on whatever route: its share of the sum, twice.
            sent = 2 * (ranks - 1) / ranks * 4 * count
            for kind, seconds in found["seconds"].items():
                times = spread(1e3 * value for value in seconds)
                rate = sent / times.median * 1e3
                share = ranks * rate / 1e9 / bandwidth.median
                gigabytes = (rate / 1e9, ranks * rate / 1e9, bandwidth.median)
                rows.append(
                    [name, kind, str(times), *(f"{gb:.2f}" for gb in gigabytes), f"{share:.0%}"]
                )
                results.append(
                    dict(
                        ranks=ranks,
                        numbers=count,
                        route=kind,
                        ms=times,
                        bytes_a_rank=sent,
                        gb_per_s_a_rank=rate / 1e9,
                        memory_gb_per_s=bandwidth,
                        share_of_memory=share,
                    )
                )
                chart.add(name, kind, times)
    progress.close()
    lines = [
        table(["", "route", "ms", "GB/s a rank", "of all", "of memory", "all / memory"], rows),
        "",
        "bytes: those that each rank must send where nothing is shared, 2 (ranks - 1) / ranks of",
        "the vector; memory: adding two arrays into a third on all cores at once; the route node",
        "shares memory and may pass 100%; mpi: MPI_Allreduce; every sum was checked",
    ]
    return Report("\n".join(lines), dict(exchanges=results), chart)


def audit(options: argparse.Namespace) -> Report:
    """What it costs a step to notice flipped bits and to keep it in memory."""
    settings = _settings(options, "micro_batch", "optimizer", "route", "width", "conv")
    if options.ranks > options.shards:
        raise UserError(f"--ranks {options.ranks} is more than --shards {options.shards}")
    found = measure(
        "audit",
        worker(options.ranks, "audit", shards=options.shards, repeat=options.repeat, **settings),
    )
    step = spread(1e3 * value for value in found["step"])
    names = dict(both="audited and kept", neither="neither")
    times = {key: spread(1e3 * turn[key] for turn in found["seconds"]) for key in names}
    more = spread(1e3 * (turn["both"] - turn["neither"]) for turn in found["seconds"])
    share = more.median / step.median
    chart = Chart(f"A step without its computation, {plural(options.ranks, 'rank')}", "ms")
    for key, name in names.items():
        chart.add("exchange and update", name, times[key])
    rows = [
        ["a whole step", str(step), ""],
        *([f"exchange and update alone, {names[key]}", str(times[key]), ""] for key in names),
        ["the difference, turn by turn", str(more), f"{share:.1%} of a step"],
    ]
    kept = "" if found["kept"] else "; not kept: shared memory is too small"
    lines = [table(["", "ms", ""], rows), "", f"route {found['route']}{kept}"]
    return Report("\n".join(lines), {**found, "ms": times, "more": more, "share": share}, chart)


def memory(options: argparse.Namespace) -> Report:
    """Where the memory of a training run goes, by rank and by node."""
    settings = _settings(options, "micro_batch", "optimizer", "route", "width", "conv")
    if options.ranks > options.shards:
        raise UserError(f"--ranks {options.ranks} is more than --shards {options.shards}")
    found = measure("memory", worker(options.ranks, "memory", shards=options.shards, **settings))
    stages = found["stages"]
    chart = Chart(f"Memory of {plural(options.ranks, 'rank')}, route {found['route']}", "MiB")
    rows, before = [], dict(rank=0, all=0)
    for part, held in stages.items():
        more = {name: held[name] - before[name] for name in held}
        for name, words in (("rank", "largest rank"), ("all", "all ranks")):
            chart.add(part, words, spread([more[name] / MIB]))
        rows.append([part, *(f"{more[name] / MIB:,.0f}" for name in ("rank", "all"))])
        before = held
    rows.append(["peak", *(f"{before[name] / MIB:,.0f}" for name in ("rank", "all"))])
    rows.append(["as train says", *(f"{value / MIB:,.0f}" for value in found["reported"])])
    lines = [
        table(["MiB", "largest rank", "all ranks"], rows),
        "",
        f"route {found['route']}; what ranks share counts once for all ranks, and for a rank",
        "once it has touched it; train's sum counts libraries for each rank",
        *(f"{name}: {value / MIB:,.0f} MiB" for name, value in found["alone"].items()),
    ]
    return Report("\n".join(lines), found, chart)


def _settings(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Options that training has as well, within training's bounds."""
    settings = {name: getattr(options, name) for name in names}
    TrainConfig(**settings)
    return settings


def _torch_single(
    options: argparse.Namespace, what: str, common: Sequence[object]
) -> list[Contender]:
    """PyTorch in one process on all cores, with each batch."""
    return [
        Contender(
            f"torch, {plural(cores(), 'thread')}",
            f"batch {batch}",
            cores(),
            _torch(options, what, "--threads", cores(), "--batch", batch, *common),
        )
        for batch in options.torch_batch
    ]


def _torch_common(options: argparse.Namespace) -> list[object]:
    return ["--width", options.width, "--seconds", options.seconds]


def _torch(options: argparse.Namespace, *arguments: object) -> list[str]:
    return [options.torch_python, str(PACKAGE / "against_torch.py"), *map(str, arguments)]
