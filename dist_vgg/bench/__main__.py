"""Measure what this project claims of its speed and memory, on any machine.

python -m dist_vgg.bench kernels                         each layer, with each kernel set
python -m dist_vgg.bench step --ranks 1,2 --shards 8     whole training steps
python -m dist_vgg.bench step --against torch            the same, and PyTorch, in turns
python -m dist_vgg.bench evaluation --against torch,onnxruntime,openvino
python -m dist_vgg.bench scaling                         strong and weak scaling
python -m dist_vgg.bench exchange --ranks 2,8            the sum over ranks, alone
python -m dist_vgg.bench audit --ranks 8                 what auditing and keeping a step costs
python -m dist_vgg.bench memory --ranks 8                where the memory goes
python -m dist_vgg.bench deploy runs/A runs/B            trained networks as they travel

Start it without mpirun: it starts its own ranks. A number is a median, with the lowest and the
highest reading behind it; `scaling` puts the median's confidence interval there. Operations are
those of the direct convolution, two for each multiply-add, whatever kernel computes it.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dist_vgg.base.command_line import Parser, guarded
from dist_vgg.base.errors import UserError
from dist_vgg.base.table import check_outputs
from dist_vgg.bench import audit, deploy, evaluation, exchange, kernels, memory, scaling, step
from dist_vgg.bench.against import versions
from dist_vgg.bench.chart import draw
from dist_vgg.bench.hardware import machine_words, this_machine
from dist_vgg.bench.processes import interruptible, result_of, worker_command
from dist_vgg.bench.report import Report, write_json

BENCHMARKS = (kernels, step, scaling, evaluation, exchange, audit, memory, deploy)
OUR_OPTIONS = ("run", "json", "plot")  # that say nothing of what is measured


def main(argv: Sequence[str]) -> int:
    """Measure what the command line asks for; print the report and write it where asked to."""
    with interruptible():
        options = own_parser().parse_args(argv)
        if {"PMI_RANK", "OMPI_COMM_WORLD_RANK"} & set(os.environ):
            raise UserError("start it without mpirun: it starts its own ranks (see --ranks)")
        check_outputs(options.json, options.plot)
        others = versions(options)  # refuses what is missing before anything is measured
        machine = {**this_machine(), **result_of("hardware", worker_command(1, "hardware"))}
        machine["versions"].update(others)
        command = shlex.join(["python", "-m", "dist_vgg.bench", *argv])
        head = f"{machine_words(machine)}\ncommand   {command}"
        print(head + "\n", flush=True)
        started = time.perf_counter()
        report: Report = options.run(options)
        print(f"\n{report.text}\n\n{time.perf_counter() - started:.0f} s in all")
        if options.json:
            asked = {k: v for k, v in vars(options).items() if k not in OUR_OPTIONS}
            content = dict(benchmark=options.benchmark, command=command, options=asked)
            write_json(options.json, {**content, "machine": machine, "results": report.results})
        if options.plot:
            draw(options.plot, report.picture, head)
    return 0


def own_parser() -> Parser:
    """The command line: a subcommand for each benchmark."""
    parser = Parser(
        prog="python -m dist_vgg.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for benchmark in BENCHMARKS:
        words = (benchmark.__doc__ or "").rstrip(".")
        name = benchmark.__name__.rpartition(".")[2]
        sub = commands.add_parser(name, help=words[0].lower() + words[1:])
        sub.set_defaults(run=benchmark.run)
        sub.add_argument("--json", type=Path, metavar="FILE", help="write every reading there")
        sub.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it (with matplotlib)")
        benchmark.add_options(sub)
    return parser


if __name__ == "__main__":
    sys.exit(guarded("dist_vgg.bench", lambda: main(sys.argv[1:])))
