"""Measure what this project claims of its speed and memory, on any machine.

python -m dist_vgg.bench kernels                         each layer, with each kernel
python -m dist_vgg.bench step --ranks 1,2 --shards 8     whole training steps
python -m dist_vgg.bench step --against torch            the same, and PyTorch, in turns
python -m dist_vgg.bench evaluation --against torch      forward passes
python -m dist_vgg.bench exchange --ranks 2,8            the sum over ranks, alone
python -m dist_vgg.bench memory --ranks 8                where the memory goes

It is started without mpirun, and starts its own ranks. A number is a median, with the lowest
and highest reading behind it. Operations are those of the direct convolution, two for each
multiply-add, whatever kernel computes it.
"""

import argparse
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dist_vgg.base.command_line import Parser
from dist_vgg.base.errors import UserError
from dist_vgg.base.table import check_outputs
from dist_vgg.bench import benchmarks
from dist_vgg.bench.report import (
    Report,
    draw,
    machine_words,
    this_machine,
    write_json,
)
from dist_vgg.bench.turns import Failed, interruptible, measure, worker
from dist_vgg.runs.config import CONVOLUTIONS, RATES
from dist_vgg.runs.fields import LARGEST


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit status."""
    try:
        with interruptible():
            run(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
    except UserError as error:
        print(f"dist_vgg.bench: error: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"dist_vgg.bench: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dist_vgg.bench: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone, as in `| head`; there is nobody to tell.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"dist_vgg.bench: error: can't use {error.filename}: {error.strerror}", file=sys.stderr
        )
        return 2
    return 0


def run(argv: Sequence[str]) -> None:
    """Measure what the command line asks for; print it, and write it where that is wished."""
    options = parser().parse_args(argv)
    if {"PMI_RANK", "OMPI_COMM_WORLD_RANK"} & set(os.environ):
        raise UserError("start it without mpirun: it starts its own ranks (see --ranks)")
    check_outputs(options.json, options.plot)
    versions = {}
    if getattr(options, "against", None):
        versions["torch"] = torch_version(options.torch_python)
    machine = {**this_machine(), **measure("machine", worker(1, "machine"))}
    machine["versions"].update(versions)
    command = shlex.join(["python", "-m", "dist_vgg.bench", *argv])
    head = f"{machine_words(machine)}\ncommand   {command}"
    print(head + "\n", flush=True)
    started = time.perf_counter()
    report: Report = options.work(options)
    print(f"\n{report.text}\n\n{time.perf_counter() - started:.0f} s in all")
    if options.json:
        asked = {k: v for k, v in vars(options).items() if k not in ("work", "json", "plot")}
        content = dict(benchmark=options.benchmark, command=command, options=asked)
        write_json(options.json, {**content, "machine": machine, "results": report.results})
    if options.plot:
        draw(options.plot, report.chart, head)


def parser() -> Parser:
    """The command line."""
    main = Parser(
        prog="python -m dist_vgg.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)

    def benchmark(work: Callable[[argparse.Namespace], Report]) -> argparse.ArgumentParser:
        words = (work.__doc__ or "").rstrip(".")
        sub = commands.add_parser(work.__name__, help=words[0].lower() + words[1:])
        sub.set_defaults(work=work)
        sub.add_argument("--json", type=Path, metavar="FILE", help="write every reading there")
        sub.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it (with matplotlib)")
        return sub

    sub = benchmark(benchmarks.kernels)
    _number(sub, "--micro-batch", 32, "images at a time")
    _number(sub, "--repeat", 5, "readings of each layer")
    _network(sub)
    _products(sub)

    sub = benchmark(benchmarks.step)
    _numbers(sub, "--ranks", [2], "ranks; several are compared")
    _training(sub, micro_batch=32)
    _compared(sub)
    _numbers(sub, "--ddp-batch", [16, 32, 128], "images of each rank of torch's DDP")

    sub = benchmark(benchmarks.evaluation)
    _numbers(sub, "--ranks", [2], "ranks; several are compared")
    _number(sub, "--images", 512, "images of all ranks together")
    _network(sub)
    _compared(sub)

    sub = benchmark(benchmarks.exchange)
    _numbers(sub, "--ranks", [2, 4, 8], "ranks")
    _numbers(sub, "--sizes", [1_000_000, 10_000_000, 39_928_522], "numbers in the vector")
    _number(sub, "--repeat", 10, "readings of each")
    _number(
        sub, "--stream", 1 << 30, "bytes of all arrays together that show the memory's bandwidth"
    )

    sub = benchmark(benchmarks.audit)
    _number(sub, "--ranks", 8, "ranks")
    _number(sub, "--repeat", 20, "readings of each, in turns")
    _training(sub, micro_batch=16)

    sub = benchmark(benchmarks.memory)
    _number(sub, "--ranks", 8, "ranks")
    _training(sub, micro_batch=16)
    return main


def _network(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--width", type=float, default=1.0, metavar="X", help="factor on hidden widths (default: 1)"
    )
    _choice(sub, "--conv", CONVOLUTIONS, "kernels of the convolutions")


def _training(sub: argparse.ArgumentParser, micro_batch: int) -> None:
    _number(sub, "--shards", 8, "shards, however many ranks host them")
    _number(sub, "--micro-batch", micro_batch, "images of each shard in a step")
    _choice(sub, "--optimizer", tuple(RATES), "the rule of update")
    _choice(sub, "--route", ("auto", "flat", "node"), "how gradients travel")
    _network(sub)


def _compared(sub: argparse.ArgumentParser) -> None:
    _number(sub, "--repeat", 5, "rounds, in which all take turns")
    sub.add_argument(
        "--seconds", type=_seconds, default=2.0, metavar="X", help="to measure each (default: 2)"
    )
    _products(sub)
    sub.add_argument("--against", choices=("torch",), help="compare with PyTorch on all cores")
    sub.add_argument(
        "--torch-python", default=sys.executable, metavar="PATH",
        help="the Python that has torch (default: this one)",
    )  # fmt: skip
    _numbers(sub, "--torch-batch", [16, 32, 64, 128], "images of torch in one process")


def _products(sub: argparse.ArgumentParser) -> None:
    help = "sides of the square matrices whose product's best rate is the peak"
    _numbers(sub, "--products", [2048, 4096], help, high=1 << 15)


def _choice(sub: argparse.ArgumentParser, flag: str, choices: Sequence[str], help: str) -> None:
    """An option whose first choice is the default."""
    default = choices[0]
    sub.add_argument(flag, choices=choices, default=default, help=f"{help} (default: {default})")


def _number(sub: argparse.ArgumentParser, flag: str, default: int, help: str) -> None:
    help = f"{help} (default: {default})"
    sub.add_argument(flag, type=_count, default=default, metavar="N", help=help)


def _numbers(
    sub: argparse.ArgumentParser, flag: str, default: list[int], help: str, high: int = LARGEST
) -> None:
    help = f"{help} (default: {','.join(map(str, default))})"
    counts = partial(_counts, high=high)
    sub.add_argument(flag, type=counts, default=default, metavar="N,N", help=help)


def _count(text: str, high: int = LARGEST) -> int:
    """A whole number above 0; also one such as 1e6."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (1 <= value <= high and value.is_integer()):
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 to {high}")
    return int(value)


def _counts(text: str, high: int) -> list[int]:
    """Whole numbers above 0 with commas between them, each once."""
    return list(dict.fromkeys(_count(part, high) for part in text.split(",")))


def _seconds(text: str) -> float:
    """A time from a millisecond to a day."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1e-3 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0.001 to 86400")
    return value


def torch_version(python: str) -> str:
    """The version of the PyTorch that an interpreter has."""
    ask = "import torch; print(torch.__version__)"
    try:
        answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"--against torch: {python} has no PyTorch; install it in an environment of its own "
            "(python -m venv torch-env && torch-env/bin/pip install torch) and name that with "
            "--torch-python torch-env/bin/python"
        ) from error
    return answer.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
