"""The plan of a trial: which fault strikes whom, and when; drawn from a seed and a number."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from signal import SIGINT, SIGKILL

from dist_vgg.base.errors import UserError
from dist_vgg.base.random import generator
from dist_vgg.chaos.faults import (
    ALONE,
    FAULTS,
    FIRST,
    FLUSH,
    IN_SAVING,
    KINDS,
    LAYERS,
    OPEN,
    START_UP,
    TWO,
    Fault,
)


@dataclass(frozen=True)
class Scale:
    """How much a trial trains."""

    size: int  # of an image
    images: int
    width: float
    micro_batch: int
    epochs: int
    steps: int
    every: int  # steps between checkpoints
    stall: float  # seconds without progress that count as a stall
    limit: float  # seconds that a trial may take


NARROW = Scale(32, 61, 0.02, 3, 5, 15, 4, 2, 120)
FULL = Scale(64, 64, 1, 2, 3, 12, 3, 60, 1800)


@dataclass(frozen=True)
class Plan:
    """All that a trial draws: whom its fault strikes, when, and how. Steps count from 1."""

    kind: str
    trial: int
    ranks: int
    rank: int  # that is struck
    other: int  # the second rank, where two are struck; else the same one
    step: int  # 0: whenever the moment comes
    moment: str
    action: str
    layer: str  # of the network, for the moments "forward" and "backward"
    route: str
    whom: str  # a signal goes to: "supervisor" or "mpirun"
    attempts: int  # to write that fail, where a disk does
    place: float  # in a vector or file, 0..1
    bit: int

    @property
    def fault(self) -> Fault:
        return KINDS[self.kind]


def choose_kinds(wanted: str, known: Collection[str] = tuple(FAULTS)) -> list[str]:
    """The kinds in a list with commas; "kill" stands for all whose names begin with "kill-"."""
    if not wanted:
        return list(known)
    kinds = []
    for word in wanted.split(","):
        found = [name for name in known if name == word or name.startswith(word + "-")]
        if not found:
            raise UserError(f"--kinds has {word!r}; the kinds are {', '.join(known)}")
        kinds += [name for name in found if name not in kinds]
    return kinds


def draw(seed: int, trial: int, kinds: Sequence[str], scale: Scale, most_ranks: int = 8) -> Plan:
    """The plan of a trial, from these numbers alone. Each round has every kind once, shuffled."""
    turn, place = divmod(trial, len(kinds))
    order = generator(seed, "chaos order", turn).permutation(len(kinds))
    fault = KINDS[kinds[order[place]]]
    rng = generator(seed, "chaos", trial)
    # Every kind draws every number, so that a kind may ignore one without changing the others.
    ranks = int(rng.integers(fault.least, max(fault.least, most_ranks) + 1))
    rank = int(rng.integers(8)) % ranks
    other = (rank + 1 + int(rng.integers(7)) % max(1, ranks - 1)) % ranks
    moment = fault.moments[int(rng.integers(60)) % len(fault.moments)]
    fraction = rng.random()
    ranks = 1 if fault.victim == ALONE else ranks
    rank = 0 if fault.victim in (FIRST, ALONE) else rank
    layer, route = LAYERS[rng.integers(len(LAYERS))], ("auto", "flat")[rng.integers(2)]
    # Open MPI's mpirun turns a SIGINT into SIGTERM; a terminal sends SIGINT to the supervisor only.
    whom = ("supervisor", "mpirun")[rng.integers(2)]
    return Plan(
        kind=fault.name,
        trial=trial,
        ranks=ranks,
        rank=rank,
        other=other if fault.victim == TWO else rank,
        step=_step(fault, moment, fraction, scale),
        moment=moment,
        action=fault.action,
        layer=layer,
        route=route,
        whom=whom if fault.signal not in (SIGKILL, SIGINT) else "supervisor",
        attempts=int(rng.integers(1, 3)),
        place=rng.random(),
        bit=int(rng.integers(32)),
    )


def _step(fault: Fault, moment: str, fraction: float, scale: Scale) -> int:
    """The step to strike in, from a number in 0..1."""
    if fault.name == "kill-first-step":
        return 1
    if moment in ("", START_UP, OPEN, FLUSH) or fault.action == "sleep":
        return 0
    if moment in IN_SAVING:
        steps = range(scale.every, scale.steps, scale.every)
    elif fault.action == "free":
        # By then one attempt to save has failed, and another one is to come.
        steps = range(scale.every + 1, scale.steps - scale.every)
    elif fault.vector == "sample":
        # In the rest of the run every image is used once more, so the flip is noticed.
        steps = range(2, scale.steps - scale.steps // scale.epochs + 1)
    elif fault.signal:
        # A checkpoint exists by then, and ranks receive a signal a step or two after it is sent.
        steps = range(scale.every + 1, scale.steps - 2)
    else:
        steps = range(2, scale.steps)
    return steps[int(fraction * len(steps))]
