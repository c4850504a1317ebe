"""What a run is told to do: one frozen dataclass, validated once and saved with the run.

The command line, the TOML file and the help text are all made from its fields.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from dist_vgg.base.command_line import Parser, nearest
from dist_vgg.base.errors import UserError
from dist_vgg.data.augment import Augment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def option(
    default: Any,
    group: str,
    help: str,
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    changes_result: bool = True,
) -> Any:
    """A field with what the command line must know of it; low and high bound its value."""
    if type(default) is int and high is None:
        high = LARGEST
    return field(
        default=default,
        metadata=dict(
            group=group,
            help=help,
            choices=tuple(choices),
            low=low,
            high=high,
            open_low=open_low,
            changes_result=changes_result,
        ),
    )


# Learning rates that train the full network from its initialisation, by optimizer.
RATES = {"sgd": 0.01, "adam": 1e-4, "adagrad": 1e-3}
MAX_TOML = 1 << 15  # bytes; tomllib takes seconds for 32,000 dots in a key, and minutes for more
MAX_TEXT = 4096  # characters, as many as a path has
LARGEST = 2**31 - 1  # of whole numbers without a bound of their own
# What those look for who come from other programs.
RANKS = "mpirun starts the ranks: mpirun -n N python -m dist_vgg.train"
HINTS = {
    name: hint
    for names, hint in (
        (
            "batch batch-size global-batch bs b",
            "the batch of a step is --micro-batch N of each shard",
        ),
        ("learning-rate base-lr eta", "did you mean --lr?"),
        ("workers num-workers ranks np n nproc procs world-size nodes hostfile", RANKS),
        ("gpu gpus cuda no-cuda device devices", f"it trains on CPUs; {RANKS}"),
        ("threads num-threads", "did you mean --blas-threads?"),
        ("wd l2", "did you mean --weight-decay?"),
        ("opt optim", "did you mean --optimizer?"),
        ("model arch", "the network is VGG16, and --width X makes it narrower"),
        ("output output-dir save-dir save log-dir logdir name", "did you mean --out?"),
        ("dataset data-dir data-path input", "did you mean --data?"),
        ("steps iterations max-steps num-epochs n-epochs", "did you mean --epochs?"),
        ("checkpoint load restore continue weights", "a run goes on with --resume --out RUN"),
        ("augment augmentation", "it is --rotate, --scale, --shear, --shift and --deform"),
        ("beta1 betas", "did you mean --momentum? It is Adam's beta1, too"),
        ("grad-clip clip-grad max-grad-norm", "did you mean --clip?"),
        ("scheduler lr-scheduler lr-schedule", "did you mean --schedule?"),
        ("val eval", "did you mean --validate?"),
        ("early-stopping", "did you mean --patience?"),
        ("random-seed manual-seed", "did you mean --seed?"),
        ("quiet verbose", "did you mean --progress?"),
    )
    for name in names.split()
}
CONVOLUTIONS = ("fast", "reference")
RECIPES = Path(__file__).parents[1] / "recipes"  # a TOML file for each, installed with the package
FILES, NETWORK, OPTIMIZER, RUN = "input and output", "network", "optimizer", "running"
IMAGES = "augmentation: each epoch draws every image anew"


@dataclass(frozen=True)
class TrainConfig:
    """Every option of training. Those that can't change the result may differ on --resume."""

    data: str = option("data", FILES, "folder of shards", changes_result=False)
    out: str = option(
        "", FILES, "the run's folder; runs/DATE-TIME if not given", changes_result=False
    )
    limit: int = option(0, FILES, "train on the first so many samples only; 0 takes all", low=0)
    keep: int = option(2, FILES, "checkpoints to keep", low=1, changes_result=False)
    checkpoint_every: int = option(
        0, FILES, "steps between checkpoints; 0 for one each epoch", low=0, changes_result=False
    )
    checkpoint_minutes: float = option(
        0.0, FILES, "also write one where so many minutes have passed; 0: don't", low=0,
        changes_result=False,
    )  # fmt: skip

    width: float = option(1.0, NETWORK, "factor on all hidden widths", low=0, high=4, open_low=True)
    dropout: float = option(0.5, NETWORK, "dropout rate after fc6 and fc7", low=0, high=0.95)
    conv: str = option(
        "fast", NETWORK, "convolution: Winograd's where it is faster, or direct", CONVOLUTIONS
    )

    rotate: float = option(0.0, IMAGES, "degrees, up to so many either way", low=0, high=180)
    scale: float = option(
        0.0, IMAGES, "width and height each up to so much larger or smaller; 0.1: by a tenth",
        low=0, high=1,
    )  # fmt: skip
    shear: float = option(0.0, IMAGES, "degrees that verticals lean, at most", low=0, high=60)
    shift: float = option(0.0, IMAGES, "part of the side, at most, either way", low=0, high=0.5)
    deform: float = option(
        0.0,
        IMAGES,
        "elastic deformation: RMS of a pixel's move along an axis, of the side",
        low=0,
        high=0.2,
    )

    epochs: int = option(10, OPTIMIZER, "passes over the training set", low=1)
    micro_batch: int = option(4, OPTIMIZER, "samples of each shard in a step", low=1)
    optimizer: str = option("sgd", OPTIMIZER, "the rule of update", tuple(RATES))
    lr: float = option(
        0.0,
        OPTIMIZER,
        "learning rate; 0 takes " + ", ".join(f"{lr:g} for {name}" for name, lr in RATES.items()),
        low=0,
    )
    lr_batch: int = option(
        0, OPTIMIZER, "global batch that --lr is meant for, to scale it linearly; 0: as is", low=0
    )
    momentum: float = option(0.9, OPTIMIZER, "of sgd; beta1 of adam", low=0, high=0.9999)
    nesterov: bool = option(False, OPTIMIZER, "Nesterov's momentum, for sgd")
    label_smoothing: float = option(
        0.0, OPTIMIZER, "part of the target that all classes share", low=0, high=0.9
    )
    ema: float = option(
        0.0, OPTIMIZER, "decay of a moving average of the weights, kept beside them; 0: none",
        low=0, high=0.99999,
    )  # fmt: skip
    weight_decay: float = option(5e-4, OPTIMIZER, "L2 penalty, on weights but not biases", low=0)
    clip: float = option(5.0, OPTIMIZER, "largest global norm of the gradient; 0: any", low=0)
    schedule: str = option(
        "cosine", OPTIMIZER, "learning rate over time", ("constant", "step", "cosine")
    )
    warmup: int = option(20, OPTIMIZER, "steps in which the rate rises to --lr", low=0)
    warmup_epochs: float = option(0.0, OPTIMIZER, "epochs for that instead; 0: --warmup", low=0)
    validate: int = option(
        0, OPTIMIZER, "epochs between scores on the held-out images of --data; 0: none", low=0
    )
    patience: int = option(
        0, OPTIMIZER, "stop after so many scores without a better one, keep best.h5; 0: never",
        low=0,
    )  # fmt: skip
    seed: int = option(
        0, OPTIMIZER, "of weights, dropout, order and augmentation", low=0, high=2**63 - 1
    )

    route: str = option(
        "auto",
        RUN,
        "how gradients travel; the result is the same",
        ("auto", "flat", "node"),
        changes_result=False,
    )
    blas_threads: int = option(1, RUN, "BLAS threads of each rank", low=1, high=1024)
    standby: str = option(
        "auto",
        RUN,
        "keep the last step in memory that outlives the processes, where there is space, or not",
        ("auto", "off"),
        changes_result=False,
    )
    audit: bool = option(
        True, RUN, "notice flipped bits by checksums; standby needs them", changes_result=False
    )
    stall_timeout: float = option(
        300.0, RUN, "seconds without progress after which a rank is given up; 0: never", low=0,
        changes_result=False,
    )  # fmt: skip
    progress: str = option(
        "auto",
        RUN,
        "a live line where a person watches, else plain lines now and then",
        ("auto", "live", "plain", "none"),
        changes_result=False,
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            _check(f, getattr(self, f.name))

    def check(self) -> None:
        """Raise UserError for options that make no sense together.

        Not done by itself, since a run that goes on has others from its checkpoint.
        """
        if self.patience and not self.validate:
            raise UserError("--patience waits for better scores: add --validate 1")
        if self.validate > self.epochs:
            raise UserError(
                f"--validate {self.validate} would never score anything in --epochs {self.epochs}; "
                "give a smaller number"
            )

    @property
    def base_lr(self) -> float:
        """The learning rate before scaling and schedule."""
        return self.lr or RATES[self.optimizer]

    @property
    def augment(self) -> Augment:
        """How images are varied."""
        return Augment(self.rotate, self.scale, self.shear, self.shift, self.deform)

    def as_dict(self) -> dict[str, Any]:
        """The options by name, as config.json and --config have them."""
        return asdict(self)

    def result_options(self) -> dict[str, Any]:
        """The options that the trained weights depend on; a rate of 0 as what it stands for."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        found["lr"] = self.base_lr
        return {f.name: found[f.name] for f in fields(self) if f.metadata["changes_result"]}


def train_parser() -> Parser:
    """The command line of `python -m dist_vgg.train`."""
    parser = Parser(
        prog="python -m dist_vgg.train",
        hints=HINTS,
        description="Train VGG16 on the shards of a data folder, on any number of MPI ranks.",
        epilog="The trained weights are the same bits at any number of ranks.",
        argument_default=argparse.SUPPRESS,  # for the others, which TrainConfig doesn't have
    )
    running = add_options(parser, [f.name for f in fields(TrainConfig)])[RUN]
    running.add_argument(
        "--config",
        metavar="FILE.toml",
        help="take options from a file, by their names, or from a recipe that is installed with "
        f"dist_vgg ({', '.join(recipes())}); those given here win",
    )
    running.add_argument(
        "--resume",
        nargs="?",
        const="yes",
        choices=("yes", "if-any"),
        help="go on from the newest whole state of --out (or of the newest run); "
        "if-any: begin where there is none",
    )
    debug = parser.add_argument_group("debugging, in one process without mpirun")
    debug.add_argument(
        "--debug",
        action="store_true",
        help="host all shards; check gradients and every array, and show each layer",
    )
    debug.add_argument("--pdb", action="store_true", help="with --debug: debugger where it fails")
    return parser


def add_options(parser: Parser, names: Sequence[str]) -> dict[str, Any]:
    """Let a command line have options of TrainConfig; gives their groups, by title.

    Those that are not given on the command line are not in the result of parsing it.
    """
    groups: dict[str, Any] = {}
    for f in fields(TrainConfig):
        if f.name not in names:
            continue
        title = f.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        kind: dict[str, Any] = {"type": type(f.default), "metavar": _metavar(f)}
        if isinstance(f.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif f.metadata["choices"]:
            kind = {"choices": f.metadata["choices"]}
        # 0 == False, hence the types.
        hidden = f.default == "" or isinstance(f.default, bool)
        shown = "" if hidden else f" (default: {f.default})"
        help = f.metadata["help"] + shown
        groups[title].add_argument(flag(f.name), help=help, default=argparse.SUPPRESS, **kind)
    return groups


def recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_toml(path: str) -> dict[str, Any]:
    """The options of a TOML file or of a recipe: the names of the command line, with - or _.

    Raises UserError for a file that can't be read, an unknown name or a value of wrong type.
    """
    try:
        place = _config_file(path)
        if not place.is_dir() and not place.is_file() and place.exists():
            raise UserError(f"can't read --config {path}: it is no file")
        with place.open("rb") as file:
            data = file.read(MAX_TOML + 1)
        if len(data) > MAX_TOML:
            raise UserError(f"--config {path} is longer than {MAX_TOML:,} bytes; shorten it")
        given = tomllib.loads(data.decode().replace("\r\n", "\n"))
    except FileNotFoundError as error:
        name = Path(path).stem
        hint = f"; did you mean --config {name}?" if name in recipes() else ""
        raise UserError(f"can't read --config {path}: {error.strerror}{hint}") from error
    except OSError as error:
        raise UserError(f"can't read --config {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is one, a number too long too
        raise UserError(f"--config {path} is not TOML: {_shown(str(error))}") from error
    known = {f.name: f for f in fields(TrainConfig)}
    options = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name not in known:
            names = [name.replace("_", "-") for name in known]
            hint = nearest(name.replace("_", "-"), names, HINTS)
            raise UserError(f"--config {path} has the unknown option {_shown(key)}{hint}")
        wanted = type(known[name].default)
        if wanted is float and type(value) is int:
            value = float(value) if abs(value) < LARGEST else float("inf")
        if type(value) is int and abs(value) >= 2**64:  # Python doesn't show the longest
            raise UserError(f"--config {path}: {key} is out of range")
        if type(value) is not wanted:
            # Not what a table or array has within: a number there may be too long to show.
            found = "..." if isinstance(value, (dict, list)) else _shown(repr(value))
            raise UserError(f"--config {path}: {key} = {found} should be of type {wanted.__name__}")
        if type(value) is str and not (value.isprintable() and len(value) <= MAX_TEXT):
            raise UserError(
                f"--config {path}: {key} has characters that can't be shown, or more than "
                f"{MAX_TEXT:,}"
            )
        if name in options:
            raise UserError(
                f"--config {path} has the option {key} twice, once with - and once with _"
            )
        options[name] = value
    return options


def _config_file(text: str) -> Path:
    """The file that --config means: a path, or the name of a recipe."""
    # A folder may well be called after its recipe, and is never meant.
    if "/" in text or text.endswith(".toml") or (Path(text).exists() and not Path(text).is_dir()):
        return Path(text)
    if text not in recipes():
        raise UserError(
            f"--config {_shown(text)} is no file and no recipe; the recipes are "
            f"{', '.join(recipes())}{nearest(text, recipes())}"
        )
    return RECIPES / f"{text}.toml"


def _check(f: Field[Any], value: Any) -> None:
    """Raise UserError for a value out of its option's range."""
    low, high, name = f.metadata["low"], f.metadata["high"], flag(f.name)
    choices = f.metadata["choices"]
    if choices and value not in choices:
        raise UserError(f"{name} {value}: choose one of {', '.join(choices)}")
    # "not inside" instead of "outside", so that NaN is refused too.
    above = low is None or (value > low if f.metadata["open_low"] else value >= low)
    if not (above and (high is None or value <= high) and value != float("inf")):
        least = f"above {low}" if f.metadata["open_low"] else f"at least {low}"
        finite = " and finite" if isinstance(value, float) else ""
        most = finite if high is None else f" and at most {high}"
        raise UserError(f"{name} {value} is out of range: it must be {least}{most}")


def _shown(text: str) -> str:
    """What a file has, fit for a line on a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 100 else line[:100] + "..."


def flag(name: str) -> str:
    """An option as it stands on the command line."""
    return "--" + name.replace("_", "-")


def _metavar(f: Field[Any]) -> str:
    if isinstance(f.default, str):
        return "DIR"
    return "N" if isinstance(f.default, int) else "X"
