"""The kinds of fault: when each may strike, whom, and what must come of it."""

import errno
from dataclasses import dataclass
from math import inf
from signal import SIGINT, SIGKILL, SIGTERM, SIGUSR1, Signals

from dist_vgg.base.errors import RankError, signal_name

# Moments of a step, in order, and of saving a checkpoint; `hooks` knows where each of them is.
START_UP = "start-up"
ARRIVE = "arrive"  # in the forward pass, before the parameters of a layer are needed
IN_STEP = ("step", "forward", "backward", "exchange", "update", "share")
GATHER, WRITE, WRITTEN, RENAMED = IN_SAVING = ("gather", "write", "written", "renamed")
REDUCED, SHARED = "reduced", "shared"  # after the reduce-scatter, and after the all-gather
AGREED = "agreed"  # once all ranks have agreed on the step, and so have kept the one before
OPEN, FLUSH = "open", "flush"  # before a checkpoint's file is opened, and before it is flushed

ANY, FIRST, ALONE, TWO = "any", "rank 0", "the only rank", "two"  # whom a fault may strike
AWAY = "a rank on another host than rank 0's"
NOTHING, ANY_STATUS = "nothing", "any status"  # how ranks end, besides a status
RANK_AND_HOST = (r"rank {rank} on {host}\b", r"step \d+")
LAYERS = ("conv1_2", "conv3_1", "conv5_3", "fc6", "fc8")


@dataclass(frozen=True)
class Fault:
    """One kind of fault, and what must come of training that it strikes."""

    name: str
    about: str
    action: str = ""  # a method of FaultInjector; without one the trial does the harm itself
    moments: tuple[str, ...] = ("",)  # a trial draws one of them
    victim: str = ANY
    least: int = 1  # ranks that it takes
    statuses: tuple[int, ...] = (0,)  # of the supervisor, one for each time that it starts
    lost: int | str = NOTHING  # the status of ranks that the supervisor starts again
    words: tuple[str, ...] = ()  # patterns that the output must have
    vector: str = ""  # in which a bit is flipped
    harm: str = ""  # what the trial does to files: "cut" or "flip" a checkpoint, "shard"
    signal: int = 0
    soon: float = inf  # seconds from the strike to the next step, at most

    @property
    def of_host(self) -> bool:
        """Whether it is a whole host that is struck, by a command of the user's."""
        return self.action in ("off", "cut")

    @property
    def most_lost(self) -> float:
        """The most steps that ranks may have to compute again."""
        stopped = self.action in ("kill", "kill_two", "stop", "signal") and not self.harm
        return 1 if stopped else inf

    @property
    def survives(self) -> bool:
        """Whether training must reach its end, with the weights of an undisturbed run."""
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
    # Other ranks notice it; where there are none, the supervisor does.
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
        _kill("arrive", "while parameters arrive in the forward pass", ARRIVE),
        _kill("reduced", "between the sum over ranks and the update", REDUCED),
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
            "flip_and_kill", (AGREED,), lost=ANY_STATUS,
            words=("damaged|is not what was kept",), vector="params",
        ),
        Fault(
            "flip-shard", "a flipped bit in a shard", statuses=(2,),
            words=(r"shard \S*{path}",), harm="shard",
        ),
    )
}  # fmt: skip


def _host(name: str, about: str, action: str, *moments: str) -> Fault:
    return Fault(
        f"host-{name}", about, action, moments, AWAY, least=2, lost=ANY_STATUS,
        words=(r"no answer from {host}\b",), soon=30,
    )  # fmt: skip


# For several hosts, and a command that strikes one.
HOST_FAULTS = {
    fault.name: fault
    for fault in (
        _host("off-early", "a host is switched off before the first step", "off", START_UP),
        _host("off", "a host is switched off in a step", "off", *IN_STEP),
        _host("off-saving", "a host is switched off as a checkpoint is gathered", "off", GATHER),
        _host("cut-early", "a host's network is cut before the first step", "cut", START_UP),
        _host("cut", "a host's network is cut in a step", "cut", *IN_STEP),
        _host("cut-saving", "a host's network is cut as a checkpoint is gathered", "cut", GATHER),
    )
}
KINDS = FAULTS | HOST_FAULTS
ERRORS = {"disk-full": errno.ENOSPC, "io-error": errno.EIO, "read-only": errno.EROFS}
