"""What ends a run early, and the exit status that says which it was.

If a signal kills a rank, MPICH's mpirun exits with the number of the signal, so no status of ours
lies between 3 and 64.
"""

import signal

SUPERVISED = "DIST_VGG_ELASTIC"  # in the environment of all that a supervisor has started
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)  # ask a run to stop
KILLED_BY = 128  # a status above this is that of a signal: 130 is 128 + SIGINT


def signal_name(number: int) -> str:
    """A signal as people know it."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


class UserError(Exception):
    """One clear line for the user: what is wrong, where, and how to mend it.

    Commands print it without a traceback and exit with its status. Raise it on all ranks. Any
    other exception but `RankError` is a fault of the program and keeps its traceback.
    """

    status = 2


class Diverged(UserError):
    """Numbers of the training are not finite or have exploded; trying again would not help."""

    status = 70


class RankError(Exception):
    """One clear line about what a single rank has found; it ends the whole job with `status`."""

    STALLED = 71  # a rank makes no progress
    CORRUPT = 72  # a checksum or a replica is not what it should be

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status


class Interrupted(KeyboardInterrupt):
    """A second signal: end at once."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
