"""All options of training, as one frozen dataclass that is checked once and saved with the run.

The command line (options.py), recipes (recipes.py) and the documentation are made from its fields.
To add an option, add a field here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from dist_vgg.base.errors import UserError
from dist_vgg.data.augment import Augment
from dist_vgg.kernels import sets
from dist_vgg.runs.fields import describe_options, option

# Learning rates that train the full network from its initialisation, by optimizer.
RATES = {"sgd": 0.01, "adam": 1e-4, "adagrad": 1e-3}
NETWORKS = ("vgg11", "vgg13", "vgg16", "vgg19")  # network/vgg.py has their layers
CONVOLUTIONS = ("fast", "reference")
# The groups in which --help and the documentation list the options.
FILES, NETWORK, OPTIMIZER, RUN = "input and output", "network", "optimizer", "running"
IMAGES = "augmentation: each epoch draws every image anew"


@dataclass(frozen=True)
class TrainConfig:
    """Every option of training. Those that cannot change the result may differ on --resume."""

    data: str = option("data", FILES, "folder of shards", changes_result=False)
    out: str = option(
        "", FILES, "the run's folder; runs/DATE-TIME if not given", changes_result=False
    )
    limit: int = option(0, FILES, "train on the first N samples only; 0: on all", low=0)
    image_memory: float = option(
        0.0, FILES, "GiB of a host's memory that images may take; what is larger is read from the "
        "shards as it is needed; 0: half of the memory", low=0, changes_result=False,
    )  # fmt: skip
    keep: int = option(
        2, FILES, "how many of the newest checkpoints to keep", low=1, changes_result=False
    )
    checkpoint_every: int = option(
        0, FILES, "write a checkpoint every N steps; 0: after each epoch", low=0,
        changes_result=False,
    )  # fmt: skip
    checkpoint_minutes: float = option(
        0.0, FILES, "also write one when X minutes have passed since the last; 0: don't", low=0,
        changes_result=False,
    )  # fmt: skip

    network: str = option("vgg16", NETWORK, "which of the VGG family", NETWORKS)
    width: float = option(
        1.0, NETWORK, "multiply the width of every hidden layer by X", low=0, high=4, open_low=True
    )
    dropout: float = option(0.5, NETWORK, "dropout rate after fc6 and fc7", low=0, high=0.95)
    kernels: str = option(sets.AUTO, NETWORK, sets.HELP, sets.CHOICES)
    precision: str = option(
        sets.FLOAT32, NETWORK,
        "of the numbers that are multiplied, and of activations in memory; weights, gradients and "
        "sums are float32 with both; bfloat16 needs compiled kernels",
        (sets.FLOAT32, sets.BFLOAT16),
    )  # fmt: skip
    conv: str = option(
        "fast", NETWORK, "reference: an older way to say --kernels reference", CONVOLUTIONS
    )
    init: str = option(
        "", NETWORK,
        "start from the parameters of a file of weights, or of a run's folder; layers of another "
        "shape start fresh",
        metavar="FILE",
    )  # fmt: skip
    init_sha256: str = option(
        "", NETWORK,
        "the SHA-256 that the parameters of --init must have; without it, that of those found is "
        "recorded",
        metavar="HASH",
    )  # fmt: skip

    rotate: float = option(0.0, IMAGES, "turn by up to X degrees either way", low=0, high=180)
    scale: float = option(
        0.0, IMAGES, "stretch or shrink width and height, each by up to the factor 1 + X",
        low=0, high=1,
    )  # fmt: skip
    shear: float = option(0.0, IMAGES, "lean verticals by up to X degrees", low=0, high=60)
    shift: float = option(
        0.0, IMAGES, "move along each axis by up to X times the side", low=0, high=0.5
    )
    deform: float = option(
        0.0, IMAGES, "elastic deformation: RMS displacement along an axis is X times the side",
        low=0, high=0.2,
    )  # fmt: skip

    epochs: int = option(10, OPTIMIZER, "passes over the training set", low=1)
    micro_batch: int = option(4, OPTIMIZER, "samples that each shard contributes to a step", low=1)
    optimizer: str = option("sgd", OPTIMIZER, "update rule", tuple(RATES))
    lr: float = option(
        0.0,
        OPTIMIZER,
        "learning rate; 0 takes " + ", ".join(f"{lr:g} for {name}" for name, lr in RATES.items()),
        low=0,
    )
    lr_batch: int = option(
        0, OPTIMIZER, "scale --lr linearly from a global batch of N to this run's; 0: don't scale",
        low=0,
    )  # fmt: skip
    momentum: float = option(0.9, OPTIMIZER, "momentum of sgd; beta1 of adam", low=0, high=0.9999)
    nesterov: bool = option(False, OPTIMIZER, "use Nesterov momentum, for sgd")
    label_smoothing: float = option(
        0.0, OPTIMIZER, "share of the target that is spread over all classes", low=0, high=0.9
    )
    ema: float = option(
        0.0, OPTIMIZER, "decay of a moving average of the weights, kept beside them; 0: none",
        low=0, high=0.99999,
    )  # fmt: skip
    weight_decay: float = option(5e-4, OPTIMIZER, "L2 penalty on weights, not on biases", low=0)
    clip: float = option(5.0, OPTIMIZER, "clip the gradient to a global norm of X; 0: don't", low=0)
    schedule: str = option(
        "cosine", OPTIMIZER, "learning rate over time", ("constant", "step", "cosine")
    )
    warmup: int = option(20, OPTIMIZER, "steps in which the rate rises to --lr", low=0)
    warmup_epochs: float = option(
        0.0, OPTIMIZER, "epochs in which it rises, in place of --warmup; 0: --warmup", low=0
    )
    validate: int = option(
        0, OPTIMIZER, "score the held-out images of --data every N epochs; 0: never", low=0
    )
    patience: int = option(
        0, OPTIMIZER, "stop after N scores without a better one, keep best.h5; 0: never", low=0
    )
    seed: int = option(
        0, OPTIMIZER, "seed of weights, dropout, order and augmentation", low=0, high=2**63 - 1
    )

    route: str = option(
        "auto",
        RUN,
        "how gradients travel between ranks; the result is the same",
        ("auto", "flat", "node"),
        changes_result=False,
    )
    blas_threads: int = option(1, RUN, "BLAS threads of each rank", low=1, high=1024)
    standby: str = option(
        "auto",
        RUN,
        "auto: keep the last step in memory that outlives the processes, where there is room; "
        "off: don't",
        ("auto", "off"),
        changes_result=False,
    )
    audit: bool = option(
        True, RUN, "find flipped bits by checksums; --standby needs it", changes_result=False
    )
    stall_timeout: float = option(
        300.0, RUN, "give up a rank after X seconds without progress; 0: never", low=0,
        changes_result=False,
    )  # fmt: skip
    progress: str = option(
        "auto",
        RUN,
        "live: one line, kept up to date; plain: a line now and then; auto: live where a person "
        "watches, else plain",
        ("auto", "live", "plain", "none"),
        changes_result=False,
    )

    def __post_init__(self) -> None:
        for each in describe_options(self):
            each.check(getattr(self, each.name))

    def check(self) -> None:
        """Raise UserError for options that contradict each other.

        The caller decides when: a resumed run first adds the options of its checkpoint.
        """
        if self.init_sha256 and not self.init:
            raise UserError("--init-sha256 goes with --init FILE")
        if self.patience and not self.validate:
            raise UserError("--patience waits for better scores: add --validate 1")
        if self.validate > self.epochs:
            raise UserError(
                f"--validate {self.validate} would never score anything in --epochs {self.epochs}; "
                "give a smaller number"
            )

    def settled(self) -> "TrainConfig":
        """These options with the name of the kernels that they mean on this machine, not "auto".

        UserError where --conv, --kernels and --precision contradict each other.
        """
        meant = without_conv(self.as_dict())
        kernels = sets.resolve(meant["kernels"], self.precision)
        return replace(self, conv=meant["conv"], kernels=kernels)

    @property
    def kernel_set(self) -> str:
        """The name of the set that computes the network."""
        return sets.set_of(self.kernels, self.precision)

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
        """The options that the trained weights depend on, with the rate that an `lr` of 0 means."""
        values = {**self.as_dict(), "lr": self.base_lr}
        return {o.name: values[o.name] for o in describe_options(self) if o.changes_result}


def without_conv(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in which --conv reference has become what it means, --kernels reference.

    UserError where --kernels says something else.
    """
    if options.get("conv") != "reference":
        return dict(options)
    kernels = options.get("kernels", sets.AUTO)
    if kernels not in (sets.AUTO, sets.REFERENCE):
        raise UserError(f"--conv reference contradicts --kernels {kernels}: leave one of them out")
    return {**options, "conv": "fast", "kernels": sets.REFERENCE}
