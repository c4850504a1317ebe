"""The kinds of fault, what must come of each, and which one a trial gets."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from signal import SIGINT, SIGKILL, SIGTERM, SIGUSR1, Signals

from dist_vgg.base.errors import RankError, UserError, signal_name
from dist_vgg.base.random import generator

# Moments of a step, in order, and those of saving; `faulty` knows where each of them is.
START_UP = "start-up"
IN_STEP = ("step", "forward", "backward", "exchange", "update", "share")
GATHER, WRITE, WRITTEN, RENAMED = IN_SAVING = ("gather", "write", "written", "renamed")
REDUCED, SHARED = "reduced", "shared"  # the end of reduce, and of share
OPEN, FLUSH = "open", "flush"  # of a checkpoint's file

ANY, FIRST, ALONE, TWO = "any", "rank 0", "the only rank", "two"  # whom it may strike
NOTHING, ANY_STATUS = "nothing", "any status"  # with what ranks are lost, besides a number
RANK_AND_HOST = (r"rank {rank} on {host}\b", r"step \d+")
LAYERS = ("conv1_2", "conv3_1", "conv5_3", "fc6", "fc8")


@dataclass(frozen=True)
class Fault:
    """One kind of fault and what is expected of training that it strikes."""

    name: str
    about: str
    action: str = ""  # a method of `faulty.Faulty`; without one the trial does all by itself
    moments: tuple[str, ...] = ("",)  # one of them is drawn
    victim: str = ANY
    least: int = 1  # ranks
    statuses: tuple[int, ...] = (0,)  # of the supervisor, each time that it is started
    lost: int | str = NOTHING  # how the ranks end before the supervisor starts them again
    words: tuple[str, ...] = ()  # patterns that must be found in what was said
    vector: str = ""  # what a bit is flipped in
    harm: str = ""  # what the trial does to files: "cut" or "flip" a checkpoint, "shard"
    signal: int = 0

    @property
    def most_lost(self) -> float:
        """The most steps that may have to be computed again."""
        stopped = self.action in ("kill", "kill_two", "stop", "signal") and not self.harm
        return 1 if stopped else inf

    @property
    def survives(self) -> bool:
        """Whether training must come to its end, with the weights of an undisturbed run."""
        return self.statuses[-1] == 0


def _kill(name: str, about: str, *moments: str, victim: str = ANY) -> Fault:
    action = "kill_two" if victim == TWO else "kill"
    least = 2 if victim == TWO else 1
    return Fault(f"kill-{name}", f"SIGKILL {about}", action, moments, victim, least,
                 lost=ANY_STATUS)  # fmt: skip


def _signal(number: Signals) -> Fault:
    return Fault(
        number.name.lower(), f"{number.name} to mpirun or the supervisor, which is started again",
        "signal", ("step", START_UP), statuses=(128 + number, 0),
        words=(f"stopped by {signal_name(number)} after step",), signal=number,
    )  # fmt: skip


def _stop(name: str, about: str, victim: str = ANY) -> Fault:
    words = (*RANK_AND_HOST, r"pid \d+")
    moments = (*IN_STEP, GATHER)
    # The others are the ones to see it; where there are none, it is the supervisor.
    least, lost = (1, ANY_STATUS) if victim == ALONE else (2, RankError.STALLED)
    return Fault(f"stop{name}", f"SIGSTOP of {about}", "stop", moments, victim, least,
                 lost=lost, words=words)  # fmt: skip


def _disk(name: str, about: str, action: str, moment: str, words: str) -> Fault:
    return Fault(name, about, action, (moment,), FIRST, words=(words,))


def _damage(name: str, about: str, harm: str) -> Fault:
    return Fault(
        f"checkpoint-{name}", f"the newest checkpoint {about}, while nothing runs", "signal",
        ("step",), statuses=(128 + SIGTERM, 0), words=(r"checkpoint \S+ is damaged",), harm=harm,
        signal=SIGTERM,
    )  # fmt: skip


def _flip(
    name: str,
    about: str,
    *moments: str,
    vector: str = "",
    victim: str = ANY,
    place: str = r"bucket \d+",
) -> Fault:
    return Fault(
        f"flip-{name}",
        f"a flipped bit in {about}",
        "flip",
        moments,
        victim,
        lost=RankError.CORRUPT,
        words=(*RANK_AND_HOST, place),
        vector=vector or name,
    )


FAULTS = {
    fault.name: fault
    for fault in (
        _kill("start-up", "before the first step", START_UP),
        _kill("first-step", "anywhere in the first step", *IN_STEP),
        _kill("forward", "in the forward pass", "forward"),
        _kill("backward", "in the backward pass", "backward"),
        _kill("exchange", "amid the sum over ranks", "exchange"),
        _kill("update", "with some slices updated", "update"),
        _kill("share", "with own slices updated, others' not", "share"),
        _kill("gather", "where a checkpoint is gathered", GATHER),
        _kill("write", "amid the writing of a checkpoint", WRITE, victim=FIRST),
        _kill("written", "between write and rename", WRITTEN, victim=FIRST),
        _kill("renamed", "right after the rename", RENAMED, victim=FIRST),
        _kill("two", "of two ranks at once", *IN_STEP, GATHER, victim=TWO),
        Fault(
            "kill-supervisor", "SIGKILL of the supervisor, which is started again", "signal",
            ("step", START_UP), statuses=(-SIGKILL, 0), signal=SIGKILL,
        ),
        _signal(SIGTERM),
        _signal(SIGINT),
        _signal(SIGUSR1),
        _stop("", "a rank"),
        _stop("-first", "rank 0", FIRST),
        _stop("-alone", "the only rank", ALONE),
        Fault("slow", "a rank that takes 0.3 s longer in each step", "sleep", ("step",)),
        _disk("disk-full", "no space for checkpoints, then some", "free", "step", "No space left"),
        _disk("io-error", "checkpoints can't be flushed, then can", "refuse", FLUSH,
              "Input/output error"),
        _disk("read-only", "checkpoints can't be opened, then can", "refuse", OPEN, "Read-only"),
        _damage("cut", "is cut short", "cut"),
        _damage("flip", "has a flipped bit", "flip"),
        _flip("params", "a replica's parameters", "step", "forward", "backward", SHARED),
        _flip("gradient", "the summed gradient", REDUCED),
        _flip("state", "the optimizer's state", "step", "backward", SHARED),
        _flip("saved", "parameters that have just been checked to be saved", GATHER,
              vector="params", victim=FIRST),
        _flip("sample", "an image that a rank has read", "step",
              place=r"sample \d+ of shard \d+"),
        Fault(
            "flip-kept", "a flipped bit in the state kept in memory, and SIGKILL",
            "flip_and_kill", ("step",), lost=ANY_STATUS,
            words=("damaged|is not what was kept",), vector="params",
        ),
        Fault(
            "flip-shard", "a flipped bit in a shard", statuses=(2,),
            words=(r"shard \S*{path}",), harm="shard",
        ),
    )
}  # fmt: skip
ERRORS = {"disk-full": errno.ENOSPC, "io-error": errno.EIO, "read-only": errno.EROFS}


@dataclass(frozen=True)
class Scale:
    """How large the trials are. A step's number counts from 1."""

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
    """All that a trial draws: whom the fault strikes, when, and how."""

    kind: str
    trial: int
    ranks: int
    rank: int  # the one that is struck
    other: int  # a second one; the same, but where two are
    step: int  # 0: whenever the moment comes
    moment: str
    action: str
    layer: str  # of the network, for the moments "forward" and "backward"
    route: str
    whom: str  # "supervisor" or "mpirun", for signals
    attempts: int  # that fail, where a disk does
    place: float  # in a vector or file, 0..1
    bit: int

    @property
    def fault(self) -> Fault:
        return FAULTS[self.kind]


def choose_kinds(wanted: str) -> list[str]:
    """The kinds in a list with commas; "kill" stands for all kinds that begin with "kill-"."""
    if not wanted:
        return list(FAULTS)
    kinds = []
    for word in wanted.split(","):
        found = [name for name in FAULTS if name == word or name.startswith(word + "-")]
        if not found:
            raise UserError(f"--kinds has {word!r}; the kinds are {', '.join(FAULTS)}")
        kinds += [name for name in found if name not in kinds]
    return kinds


def draw(seed: int, trial: int, kinds: Sequence[str], scale: Scale, most_ranks: int = 8) -> Plan:
    """A trial's plan, from these numbers alone. Each round has all kinds once, in any order."""
    turn, place = divmod(trial, len(kinds))
    order = generator(seed, "chaos order", turn).permutation(len(kinds))
    fault = FAULTS[kinds[order[place]]]
    rng = generator(seed, "chaos", trial)
    # Each number is drawn for every kind, so that none moves the others.
    ranks = int(rng.integers(fault.least, max(fault.least, most_ranks) + 1))
    rank = int(rng.integers(8)) % ranks
    other = (rank + 1 + int(rng.integers(7)) % max(1, ranks - 1)) % ranks
    moment = fault.moments[int(rng.integers(60)) % len(fault.moments)]
    fraction = rng.random()
    ranks = 1 if fault.victim == ALONE else ranks
    rank = 0 if fault.victim in (FIRST, ALONE) else rank
    layer, route = LAYERS[rng.integers(len(LAYERS))], ("auto", "flat")[rng.integers(2)]
    # Open MPI's mpirun makes SIGTERM of a SIGINT, which a terminal sends to the supervisor alone.
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
        # One attempt to save has failed by then, and another one is to come.
        steps = range(scale.every + 1, scale.steps - scale.every)
    elif fault.vector == "sample":
        # Within an epoch each image is used.
        steps = range(2, scale.steps - scale.steps // scale.epochs + 1)
    elif fault.signal:
        # A checkpoint exists already, and the signal's own way takes a step or two.
        steps = range(scale.every + 1, scale.steps - 2)
    else:
        steps = range(2, scale.steps)
    return steps[int(fraction * len(steps))]
