"""Train with several seeds and options, evaluate every run, and compare them in one table.

python -m dist_vgg.sweep --out sweep -n 2 --seeds 0,1,2 --prepare "--limit 1000" \\
    --vary optimizer=sgd,adam,adagrad --vary dropout=0,0.5 --plot sweep/loss.png -- --epochs 10

Each run is a folder in --out, and `dist_vgg.elastic` keeps it alive. The same command goes on where
it was stopped; runs that have been evaluated are not repeated.
"""

import argparse
import itertools
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from dist_vgg.bench.report import check_outputs, table
from dist_vgg.comm import tell
from dist_vgg.config import Parser, TrainConfig, read_toml, train_parser
from dist_vgg.elastic import find_mpirun
from dist_vgg.errors import KILLED_BY, STOPS, UserError
from dist_vgg.files import write_text, written_beside
from dist_vgg.runlog import read_metrics
from dist_vgg.shards import open_set

PYTHON = [sys.executable, "-m"]
Variant = dict[str, str]  # values of the options that vary, as on the command line
SCORE, HELD_OUT = "score.json", "held-out.json"  # of evaluate, in a run's folder


@dataclass(frozen=True)
class Run:
    """One training of a sweep."""

    variant: Variant
    seed: int
    folder: Path
    data: Path
    options: list[str]  # of train
    config: TrainConfig

    @property
    def score(self) -> dict[str, Any] | None:
        """What evaluate has found, where the run has come so far; UserError if it is another's."""
        if not (self.folder / SCORE).exists():
            return None
        try:
            stored = json.loads((self.folder / "config.json").read_text())["config"]
            before = TrainConfig(**stored).result_options()
            content: dict[str, Any] = json.loads((self.folder / SCORE).read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.folder} is damaged ({error}); remove it") from error
        for name, value in self.config.result_options().items():
            if before[name] != value:
                raise UserError(
                    f"{self.folder} was trained with {name} {before[name]}, not {value}; "
                    "choose another --out, or remove it"
                )
        if self.data.is_dir() and content["dataset"] != open_set(self.data).digest:
            raise UserError(
                f"{self.folder} was trained on another data set than {self.data} holds; "
                "choose another --out, or remove it"
            )
        return content


class Children:
    """Starts one command after the other, and passes on the signals that we get."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None
        for number in STOPS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
                signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, frame: object) -> None:
        self.signals.append(number)
        if self._child and self._child.poll() is None:
            self._child.send_signal(number)

    def run(self, command: Sequence[object]) -> int:
        """Run a command to its end; its status, or that of a signal that we have got."""
        if not self.signals:
            self._child = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL)
            status = self._child.wait()
            if not self.signals:
                return KILLED_BY - status if status < 0 else status
        return KILLED_BY + self.signals[0]


def variants(given: Sequence[str]) -> list[Variant]:
    """All combinations of "name=value,value" options; UserError for one that makes no sense."""
    axes = []
    for text in given:
        name, _, values = text.partition("=")
        if not name or not all(values.split(",")):
            raise UserError(f"--vary {text}: give an option's name and values, as in lr=0.1,0.2")
        axes.append([(name.replace("_", "-"), value) for value in values.split(",")])
    return [dict(chosen) for chosen in itertools.product(*axes)]


def as_options(variant: Variant) -> list[str]:
    """The variant's part of train's command line."""
    words: list[str] = []
    for name, value in variant.items():
        if value in ("true", "false"):
            words.append(f"--{name}" if value == "true" else f"--no-{name}")
        else:
            words += [f"--{name}", value]
    return words


def label(variant: Variant) -> str:
    """A short name, for folders and tables."""
    return ", ".join(f"{name} {value}" for name, value in variant.items()) or "as given"


def plan(own: argparse.Namespace, rest: Sequence[str]) -> list[Run]:
    """All runs, after checking that train will take their options."""
    runs = []
    for variant in variants(own.vary):
        for seed in own.seeds:
            name = "-".join(f"{k}-{v}" for k, v in [*variant.items(), ("seed", str(seed))])
            folder = own.out / name.replace("/", "-")
            options = [*rest, *as_options(variant), "--seed", str(seed), "--out", str(folder)]
            if own.prepare is not None:
                options += ["--data", str(own.out / f"data-{seed}")]
            options = [word.replace("{seed}", str(seed)) for word in options]
            given = vars(train_parser().parse_args(options))
            if {"resume", "debug", "pdb"} & given.keys():
                raise UserError("leave out --resume and --debug: a sweep goes on by itself")
            file = given.pop("config", None)
            config = TrainConfig(**{**(read_toml(file) if file else {}), **given})
            runs.append(Run(variant, seed, folder, Path(config.data), options, config))
    return runs


def prepare(own: argparse.Namespace, children: Children) -> int:
    """Make the data of each seed that aren't there yet; the first status that isn't 0."""
    # The held-out images are other training images, in place of the test set.
    wanted = {"data": [], "held-out": ["--held-out", own.held_out]}
    for seed in own.seeds if own.prepare is not None else []:
        for name, more in list(wanted.items())[: 2 if own.held_out else 1]:
            words = [*shlex.split(own.prepare), *more, "--seed", seed]
            folder = own.out / f"{name}-{seed}"
            if status := children.run([*PYTHON, "data_prep", *words, "--out", folder]):
                return status
    return 0


def carry_out(own: argparse.Namespace, runs: Sequence[Run], children: Children) -> int:
    """Train and evaluate what hasn't been yet; the first status that isn't 0."""
    mpirun = [*find_mpirun(own.mpirun), "-n", own.n]
    for number, run in enumerate(runs, start=1):
        if run.score:
            continue
        which = f"{label(run.variant)}, seed {run.seed}"
        print(f"\n== run {number} of {len(runs)}: {which}", flush=True)
        supervisor = [*PYTHON, "dist_vgg.elastic", "-n", own.n]
        supervisor += ["--mpirun", own.mpirun] if own.mpirun else []
        if status := children.run([*supervisor, "--", *run.options, "--resume", "if-any"]):
            return status
        evaluate = [*mpirun, *PYTHON, "dist_vgg.evaluate", run.folder, "--data"]
        if own.held_out:
            data = own.out / f"held-out-{run.seed}"
            if status := children.run([*evaluate, data, "--json", run.folder / HELD_OUT]):
                return status
        score = run.folder / SCORE
        if status := children.run([*evaluate, run.data, "--shifts", own.shifts, "--json", score]):
            return status
    return 0


def summary(run: Run) -> dict[str, Any]:
    """What the tables and the JSON have of a run."""
    score = run.score
    assert score
    epochs = read_metrics(run.folder, "epoch")
    others = [name for name in ("average", "best") if name in score]
    models: dict[str, Any] = {"weights": score, **{name: score[name] for name in others}}
    shifted = score.get("shifted", {})
    shown: dict[str, dict[str, Any]] = {
        name: dict(accuracy=model["accuracy"], sha256=model["weights"])
        for name, model in models.items()
    }
    held_out = {}
    if (run.folder / HELD_OUT).exists():
        held_out = json.loads((run.folder / HELD_OUT).read_text())
    for name in shown:
        for key, scores in (("shifted", shifted), ("held out", held_out)):
            one = scores if name == "weights" else scores.get(name, {})
            if one:
                shown[name][key] = one["accuracy"]
    return dict(
        variant=run.variant,
        seed=run.seed,
        folder=str(run.folder),
        images=score["images"],
        command="python -m dist_vgg.train " + shlex.join(run.options),
        minutes=sum(e["seconds"] for e in epochs) / 60,
        loss=[e["loss"] for e in epochs],
        models=shown,
    )


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of accuracies, in per cent."""
    deviation = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{deviation}"


def report(found: Sequence[Mapping[str, Any]]) -> str:
    """Two tables: each run, and each variant over its seeds."""
    models = found[0]["models"]
    names = list(models)
    columns = [
        (name, key)
        for name in names
        for key in ("accuracy", "held out", "shifted")
        if key in models[name]
    ]
    heads = [f"{name}{'' if key == 'accuracy' else f', {key}'} %" for name, key in columns]
    rows = [
        [
            label(one["variant"]),
            str(one["seed"]),
            *(f"{100 * one['models'][name][key]:.2f}" for name, key in columns),
            f"{one['minutes']:.1f}",
            *(one["models"][name]["sha256"][:16] for name in names),
        ]
        for one in found
    ]
    digests = [f"SHA-256, {name}" for name in names]
    text = table(["run", "seed", *heads, "minutes", *digests], rows)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        groups.setdefault(label(one["variant"]), []).append(one)
    rows = [
        [
            name,
            str(len(ones)),
            *(spread([one["models"][model][key] for one in ones]) for model, key in columns),
            f"{mean(one['minutes'] for one in ones):.1f}",
        ]
        for name, ones in groups.items()
    ]
    images = found[0]["images"]
    return (
        f"{text}\n\naccuracy on the {images} images: mean ± standard deviation over seeds\n\n"
        + table(["", "seeds", *heads, "minutes"], rows)
    )


def draw(path: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """Training loss by epoch: a line for each variant, its seeds' mean, in a band of its range."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves: dict[str, list[list[float]]] = {}
    for one in found:
        curves.setdefault(label(one["variant"]), []).append(one["loss"])
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, losses in curves.items():
        epochs = range(1, 1 + min(map(len, losses)))
        several = list(zip(*losses, strict=False))
        (line,) = axes.plot(epochs, list(map(mean, several)), label=name)
        low, high = list(map(min, several)), list(map(max, several))
        axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    with written_beside(path) as beside:
        figure.savefig(beside, format=path.suffix[1:], dpi=150, bbox_inches="tight")
    pyplot.close(figure)


def read_own_options(argv: Sequence[str]) -> argparse.Namespace:
    """The options in front of `--`."""
    parser = Parser(
        prog="python -m dist_vgg.sweep",
        usage="%(prog)s --out DIR [options] -- [options of dist_vgg.train]",
        description=(__doc__ or "").split("\n")[0],
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for all runs")
    add("-n", type=int, default=2, metavar="N", help="ranks (default: 2)")
    add("--seeds", default="0", metavar="N,N", help="a run for each (default: 0)")
    add("--vary", action="append", default=[], metavar="NAME=X,Y", help="an option of train and "
        "its values; several are combined")  # fmt: skip
    add("--prepare", metavar="OPTIONS", help="options of data_prep: each seed gets a data set, and "
        "so a subset, of its own")  # fmt: skip
    add("--held-out", type=int, default=0, metavar="N", help="also evaluate on N training images "
        "that --prepare leaves unused")  # fmt: skip
    add("--shifts", type=int, default=0, metavar="PIXELS", help="also evaluate over shifts")
    add("--json", type=Path, metavar="FILE", help="write what was found (default: OUT/sweep.json)")
    add("--plot", type=Path, metavar="FILE.png", help="draw the loss (with matplotlib)")
    add("--mpirun", metavar="COMMAND", help="the command that starts ranks (default: mpirun)")
    own = parser.parse_args(argv)
    if own.n < 1:
        raise UserError(f"-n {own.n}: it must be at least 1")
    if own.held_out < 0 or (own.held_out and own.prepare is None):
        raise UserError(f"--held-out {own.held_out}: a number of images, together with --prepare")
    try:
        own.seeds = [int(seed) for seed in own.seeds.split(",")]
        shlex.split(own.prepare or "")
    except ValueError as error:
        raise UserError(f"--seeds or --prepare can't be read: {error}") from error
    return own


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    try:
        cut = list(argv).index("--") if "--" in argv else len(argv)
        own = read_own_options(argv[:cut])
        runs = plan(own, argv[cut + 1 :])
        try:
            own.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"can't make --out {own.out}: {error.strerror}") from error
        own.json = own.json or own.out / "sweep.json"
        check_outputs(own.json, own.plot)
        children = Children()
        if status := prepare(own, children) or carry_out(own, runs, children):
            tell(f"dist_vgg.sweep: stopped, with status {status}; the same command goes on")
            return status
        found = [summary(run) for run in runs]
        write_text(own.json, json.dumps(found, indent=2) + "\n")
        if own.plot:
            draw(own.plot, found)
        print(f"\n{report(found)}")
        return 0
    except UserError as error:
        tell(f"dist_vgg.sweep: error: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
