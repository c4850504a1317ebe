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

from dist_vgg.base.command_line import Parser, guarded, tell
from dist_vgg.base.errors import KILLED_BY, STOPS, Diverged, UserError
from dist_vgg.base.files import write_text, written_beside
from dist_vgg.base.table import check_outputs, table
from dist_vgg.data.shards import SetInfo, open_set
from dist_vgg.recovery.options import find_mpirun
from dist_vgg.runs.config import TrainConfig, read_toml, train_parser
from dist_vgg.runs.folder import holds_steps, stored_options
from dist_vgg.runs.log import read_metrics

PYTHON = [sys.executable, "-m"]
Variant = dict[str, str]  # values of the options that vary, as on the command line
SCORE, HELD_OUT = "score.json", "held-out.json"  # of evaluate, in a run's folder
# Okabe and Ito's colours, which colour-blind people tell apart, too; yellow is too pale on white.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLES = ["solid", "dashed", "dotted", "dashdot"]
TRAINS = {"config", *TrainConfig.__dataclass_fields__} - {"seed"}  # options that go behind --


@dataclass(frozen=True)
class Run:
    """One training of a sweep."""

    variant: Variant
    seed: int
    folder: Path
    data: Path
    held_out: Path | None  # where other images of the training set are, to score as well
    options: list[str]  # of train
    config: TrainConfig

    def check(self, info: SetInfo) -> None:
        """Raise UserError where the folder holds another run than this one, finished or not.

        `info` is of the data set that this one is to be trained on.
        """
        left = ("weights.h5", SCORE)  # large files may have been removed since
        if not (any((self.folder / name).exists() for name in left) or holds_steps(self.folder)):
            return
        try:
            stored = json.loads((self.folder / "config.json").read_text())
            before = stored_options(stored["config"]).result_options()
            dataset = {name: stored["dataset"][name] for name in ("sha256", "shards", "request")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self.folder} is damaged ({error}); remove it") from error
        for name, value in self.config.result_options().items():
            if before[name] != value:
                raise UserError(
                    f"{self.folder} was trained with {name} {before[name]}, not {value}; "
                    "choose another --out, or remove it"
                )
        # The same images in other shards give other weights.
        if dataset != dict(sha256=info.digest, shards=info.shards, request=info.request):
            raise UserError(
                f"{self.folder} was trained on another data set, or other shards of it, than "
                f"{self.data} holds; choose another --out, or remove it"
            )

    def evaluated(self, shifts: int) -> dict[str, Any] | None:
        """What evaluate has found, by "test" and "held out"; None where that is still to be done.

        Raises UserError where that can't be read.
        """
        sets = {"test": (SCORE, self.data), "held out": (HELD_OUT, self.held_out)}
        paths = {key: self.folder / name for key, (name, data) in sets.items() if data}
        if not all(path.exists() for path in paths.values()):
            return None
        try:
            found = {key: json.loads(path.read_text()) for key, path in paths.items()}
            scores = found.values()
            done = {score.get("shifted", {}).get("shifts", 0) for score in scores}
            weights = {score["weights"] for score in scores}
            datasets = {key: score["dataset"] for key, score in found.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self.folder} is damaged ({error}); remove it") from error
        # Other images, or another score of them, are only another evaluation.
        for key, (_, data) in sets.items():
            if data and datasets[key] != open_set(data).digest:
                return None
        return found if len(weights) == 1 and (not shifts or done == {shifts}) else None


class Children:
    """Starts one command after the other, and passes on the signals that we get."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._passed = False
        for number in STOPS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
                signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, frame: object) -> None:
        self.signals.append(number)
        if self._child and self._child.poll() is None:
            self._child.send_signal(number)
            self._passed = True

    def run(self, command: Sequence[object]) -> int:
        """Run a command to its end; its status, or that of a signal that we have got."""
        if self.signals:
            return KILLED_BY + self.signals[0]
        words = list(map(str, command))
        # In a session of its own: a terminal's Ctrl-C would reach it twice, which means "at once".
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
        self._child = child
        if self.signals and not self._passed:  # it came while the child was being started
            child.send_signal(self.signals[0])
        status = child.wait()
        if self.signals:
            return KILLED_BY + self.signals[0]
        return KILLED_BY - status if status < 0 else status


def variants(given: Sequence[str]) -> list[Variant]:
    """All combinations of "name=value,value" options; UserError for one that makes no sense."""
    return [_joined(parts) for parts in itertools.product(*axes_of(given))]


def axes_of(given: Sequence[str]) -> list[list[Variant]]:
    """What varies, one list for each "name=value,value"; UserError for one that makes no sense.

    Options that vary together stand as one: "optimizer/lr=sgd/0.01,adam/1e-4".
    """
    axes: list[list[Variant]] = []
    seen: set[str] = set()
    for text in given:
        left, _, right = text.partition("=")
        names = [name.strip() for name in left.replace("_", "-").split("/")]
        # A single option's value may be a path.
        texts = [text.strip() for text in right.split(",")]
        choices = [text.split("/") if len(names) > 1 else [text] for text in texts]
        if any(len(values) != len(names) or not all([*names, *values]) for values in choices):
            raise UserError(
                f"--vary {text}: give an option's name and values, as in lr=0.1,0.2, "
                "or several that go together, as in optimizer/lr=sgd/0.1,adam/1e-3"
            )
        for name in names:
            if name in seen:
                raise UserError(f"--vary {text}: {name} varies twice; give all its values at once")
            seen.add(name)
        axes.append([dict(zip(names, values, strict=True)) for values in choices])
    return axes


def _joined(parts: Sequence[Variant]) -> Variant:
    return {name: value for part in parts for name, value in part.items()}


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
    runs: list[Run] = []
    ours = {"seed": "--seeds", "out": "--out of the sweep"}
    ours |= {"data": "--prepare"} if own.prepare is not None else {}
    for variant in variants(own.vary):
        given = vars(train_parser().parse_args([*rest, *as_options(variant)]))
        if {"resume", "debug", "pdb"} & given.keys():
            raise UserError("leave out --resume and --debug: a sweep goes on by itself")
        for name in ours.keys() & given.keys():
            raise UserError(f"leave out --{name} for train: that is what {ours[name]} is for")
        file = given.pop("config", None)
        given = {**(read_toml(file) if file else {}), **given}
        for seed in own.seeds:
            name = "-".join(f"{k}-{v}" for k, v in [*variant.items(), ("seed", str(seed))])
            folder = own.out / name.replace("/", "-")
            if folder in {run.folder for run in runs}:
                raise UserError(
                    f"{label(variant)}, seed {seed} would be there twice; leave one out"
                )
            options = [*rest, *as_options(variant), "--seed", str(seed), "--out", str(folder)]
            own_set = {}
            if own.prepare is not None:
                own_set = {"data": str(own.out / f"data-{seed}")}
                options += ["--data", own_set["data"]]
            config = TrainConfig(**{**given, "seed": seed, **own_set})
            config.check()
            held_out = own.out / f"held-out-{seed}" if own.held_out else None
            runs.append(Run(variant, seed, folder, Path(config.data), held_out, options, config))
    return runs


def prepare(own: argparse.Namespace, children: Children) -> int:
    """Make the data of each seed that aren't there yet; the first status that isn't 0.

    The held-out images are other training images, in place of the test set.
    """
    for seed in own.seeds if own.prepare is not None else []:
        made = [*PYTHON, "data_prep", *shlex.split(own.prepare), "--seed", seed, "--out"]
        # The held-out ones first: data_prep refuses where --limit leaves too few for them.
        if own.held_out:
            held_out = own.out / f"held-out-{seed}"
            if status := children.run([*made, held_out, "--held-out", own.held_out]):
                return status
        if status := children.run([*made, own.out / f"data-{seed}"]):
            return status
    return 0


def carry_out(
    own: argparse.Namespace, runs: Sequence[Run], children: Children
) -> tuple[int, list[Run]]:
    """Train and evaluate what hasn't been yet.

    Gives the status of the first command that failed, or 0, and the runs that diverged.
    """
    mpirun = [*find_mpirun(own.mpirun), "-n", own.n]
    diverged: list[Run] = []
    for run in runs:
        info = open_set(run.data)
        if not 0 <= own.shifts < info.size:
            raise UserError(
                f"--shifts {own.shifts} is out of range: it must be 0 to {info.size - 1}"
            )
        run.check(info)
    for number, run in enumerate(runs, start=1):
        if run.evaluated(own.shifts):
            continue
        which = f"{label(run.variant)}, seed {run.seed}"
        print(f"\n== run {number} of {len(runs)}: {which}", flush=True)
        supervisor = [*PYTHON, "dist_vgg.elastic", "-n", own.n]
        supervisor += ["--mpirun", own.mpirun] if own.mpirun else []
        status = children.run([*supervisor, "--", *run.options, "--resume", "if-any"])
        if status == Diverged.status:
            diverged.append(run)
            continue
        for data, name in ((run.held_out, HELD_OUT), (run.data, SCORE)):
            if data and not status:
                evaluate = [*PYTHON, "dist_vgg.evaluate", run.folder, "--data", data]
                wanted = ["--shifts", own.shifts, "--json", run.folder / name]
                status = children.run([*mpirun, *evaluate, *wanted])
        if status:
            return status, diverged
    return 0, diverged


def summary(run: Run, scores: Mapping[str, Any]) -> dict[str, Any]:
    """What the tables and the JSON have of a run; UserError for files that are not what they were.

    Minutes are those of its steps, without checkpoints and evaluation.
    """
    try:
        epochs = read_metrics(run.folder, "epoch")
        test = scores["test"]
        columns: dict[str, Any] = {}
        for name, score in scores.items():
            columns |= {name: score, f"{name}, shifted": score.get("shifted")}
        models: dict[str, dict[str, Any]] = {}
        for column, score in columns.items():
            for name in ("weights", "average", "best") if score else ():
                one = score if name == "weights" else score.get(name)
                if one:
                    model = models.setdefault(name, {"sha256": one["weights"]})
                    model[column] = one["accuracy"]
        return dict(
            variant=run.variant,
            seed=run.seed,
            folder=str(run.folder),
            images=test["images"],
            command="python -m dist_vgg.train " + shlex.join(run.options),
            minutes=sum(e["seconds"] for e in epochs) / 60,
            loss=[e["loss"] for e in epochs],
            models=models,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{run.folder} is damaged ({error}); remove it") from error


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of accuracies, in per cent."""
    if not values:
        return "-"
    deviation = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{deviation}"


def report(found: Sequence[Mapping[str, Any]]) -> str:
    """Two tables: each run, and each variant over its seeds."""
    columns = [
        (name, key)
        for name in ("weights", "average", "best")
        for key in ("held out", "held out, shifted", "test", "test, shifted")
        if any(key in one["models"].get(name, {}) for one in found)
    ]
    names = list(dict.fromkeys(name for name, _ in columns))
    heads = [f"{name}, {key} %" for name, key in columns]

    def values(ones: Sequence[Mapping[str, Any]], name: str, key: str) -> list[float]:
        models = [one["models"].get(name, {}) for one in ones]
        return [model[key] for model in models if key in model]

    rows = [
        [
            label(one["variant"]),
            str(one["seed"]),
            *(spread(values([one], name, key)) for name, key in columns),
            f"{one['minutes']:.1f}",
            *(one["models"].get(name, {}).get("sha256", "-")[:16] for name in names),
        ]
        for one in found
    ]
    text = table(["", "seed", *heads, "minutes", *(f"SHA-256, {name}" for name in names)], rows)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        groups.setdefault(label(one["variant"]), []).append(one)
    rows = [
        [
            name,
            str(len(ones)),
            *(spread(values(ones, model, key)) for model, key in columns),
            f"{mean(one['minutes'] for one in ones):.1f}",
        ]
        for name, ones in groups.items()
    ]
    images = " or the ".join(sorted({one["images"] for one in found}))
    return (
        f'{text}\n\n"test" is on the {images} images; over the seeds, mean ± standard '
        "deviation:\n\n" + table(["", "seeds", *heads, "minutes"], rows)
    )


def looks(axes: Sequence[Sequence[Variant]]) -> dict[str, tuple[int, int]]:
    """The number of a colour and of a line style for each variant, by label; no two are alike.

    Where several options vary, styles tell the values of the last one for which they suffice, and
    colours those of the others; where one varies, colours do. Variants of a colour come together.
    """
    varied = [place for place, axis in enumerate(axes) if len(axis) > 1]
    fit = [place for place in varied if len(axes[place]) <= len(STYLES)]
    styled = fit[-1] if fit and len(varied) > 1 else None
    colours: dict[tuple[int, ...], int] = {}
    found: dict[str, tuple[int, int]] = {}
    for numbers in itertools.product(*(range(len(axis)) for axis in axes)):
        others = tuple(number for place, number in enumerate(numbers) if place != styled)
        colour = colours.setdefault(others, len(colours))
        variant = _joined([axis[number] for axis, number in zip(axes, numbers, strict=True)])
        found[label(variant)] = colour, 0 if styled is None else numbers[styled]
    return dict(sorted(found.items(), key=lambda item: item[1]))


def draw(
    path: Path, found: Sequence[Mapping[str, Any]], varied: Sequence[Sequence[Variant]]
) -> None:
    """Training loss by epoch: a line for each variant, its seeds' mean, in a band of its range.

    `varied` is what `axes_of` gives, from which the lines have their looks.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    curves: dict[str, list[list[float]]] = {}
    for one in found:
        curves.setdefault(label(one["variant"]), []).append(one["loss"])
    look = looks(varied)
    palette: list[Any] = list(COLOURS)
    count = 1 + max(colour for colour, _ in look.values())
    if count > len(COLOURS):  # a scale has as many as it takes; its pale end is left out
        scale = matplotlib.colormaps["viridis"]
        palette = [scale(0.9 * number / (count - 1)) for number in range(count)]
    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    for name, (colour, style) in look.items():
        if name not in curves:  # all of its runs have diverged
            continue
        losses = curves[name]
        epochs = range(1, 1 + min(map(len, losses)))
        several = list(zip(*losses, strict=False))
        means, shown = list(map(mean, several)), palette[colour]
        axes.plot(epochs, means, label=name, color=shown, linestyle=STYLES[style])
        low, high = list(map(min, several)), list(map(max, several))
        axes.fill_between(epochs, low, high, color=shown, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    # Not from zero: label smoothing keeps losses far above it, and the curves would be flat.
    axes.set_ylabel("training loss")
    axes.spines[["top", "right"]].set_visible(False)
    # Beside the curves, where it hides none; long enough lines to see how they are dashed.
    figure.legend(loc="outside right upper", frameon=False, fontsize="small", handlelength=3)
    with written_beside(path) as beside:
        figure.savefig(beside, format=path.suffix[1:], dpi=150, bbox_inches="tight")
    pyplot.close(figure)


def read_own_options(argv: Sequence[str]) -> argparse.Namespace:
    """The options in front of `--`."""
    parser = Parser(
        prog="python -m dist_vgg.sweep",
        hints=dict.fromkeys(("ranks", "np", "workers", "world-size"), "did you mean -n?"),
        usage="%(prog)s --out DIR [options] -- [options of dist_vgg.train]",
        description=(__doc__ or "").split("\n")[0],
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for all runs")
    add("-n", type=int, default=2, metavar="N", help="ranks (default: 2)")
    add("--seeds", type=_seeds, default=[0], metavar="N,N", help="a run for each (default: 0)")
    add("--vary", action="append", default=[], metavar="NAME=X,Y", help="an option of train and "
        "its values; several --vary are combined, NAME/NAME=X/Y,X/Y go together")  # fmt: skip
    add("--prepare", metavar="OPTIONS", help="options of data_prep: each seed gets a data set, and "
        "so a subset, of its own")  # fmt: skip
    add("--held-out", type=int, default=0, metavar="N", help="also evaluate on N training images "
        "that --prepare leaves unused")  # fmt: skip
    add("--shifts", type=int, default=0, metavar="PIXELS", help="also evaluate over shifts")
    add("--json", type=Path, metavar="FILE", help="write what was found (default: OUT/sweep.json)")
    add("--plot", type=Path, metavar="FILE.png", help="draw the loss (with matplotlib)")
    add("--mpirun", metavar="COMMAND", help="the command that starts ranks (default: mpirun)")
    _, unknown = parser.parse_known_args(argv)
    for word in unknown[:1]:
        if word.startswith("--") and word[2:].split("=")[0].replace("-", "_") in TRAINS:
            raise UserError(
                f"{word} is an option of train: those go behind --, as in: --out sweep -- "
                f"--epochs 10; see {parser.prog} --help"
            )
    own = parser.parse_args(argv)
    if own.n < 1:
        raise UserError(f"-n {own.n}: it must be at least 1")
    if own.held_out < 0 or (own.held_out and own.prepare is None):
        raise UserError(f"--held-out {own.held_out}: a number of images, together with --prepare")
    try:
        words = shlex.split(own.prepare or "")
    except ValueError as error:
        raise UserError(f"--prepare {own.prepare}: {error}") from error
    given = {word.split("=")[0] for word in words}
    ours = {"--seed": "--seeds", "--out": "--out of the sweep"}
    ours |= {"--held-out": "--held-out of the sweep"} if own.held_out else {}
    for name in ours.keys() & given:
        raise UserError(f"leave out {name} in --prepare: that is what {ours[name]} is for")
    if own.held_out and "--limit" not in given:
        raise UserError(f"--held-out {own.held_out}: leave some images for it, with --limit N in "
                        "--prepare")  # fmt: skip
    return own


def _seeds(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(map(int, text.split(","))))
    except ValueError:
        message = f"must be whole numbers with commas between, not {text}"
        raise argparse.ArgumentTypeError(message) from None


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    return guarded("dist_vgg.sweep", lambda: sweep(argv))


def sweep(argv: Sequence[str]) -> int:
    """Do what the command line asks for; print it, and write it where that is wished."""
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
    diverged: list[Run] = []
    status = prepare(own, children)
    if not status:
        status, diverged = carry_out(own, runs, children)
    if status:
        if children.signals:
            tell(f"dist_vgg.sweep: stopped, with status {status}; the same command goes on")
        return status
    scores = [(one, one.evaluated(own.shifts)) for one in runs if one not in diverged]
    found = [summary(one, score) for one, score in scores if score]
    write_text(own.json, json.dumps(found, indent=2) + "\n")
    if found:
        print(f"\n{report(found)}", flush=True)
    for one in diverged:
        print(f"\ndiverged: {label(one.variant)}, seed {one.seed}", flush=True)
    if own.plot and found:
        draw(own.plot, found, axes_of(own.vary))
    return Diverged.status if diverged else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
