"""When the last checkpoint was written, whether the clock asks for the next, and the standby."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Saves:
    """When steps are kept: on disk, and in memory that outlives the processes."""

    minutes: float  # of --checkpoint-minutes; 0: the clock asks for no checkpoint
    step: int = 0  # the last one that is on disk; before the first step nothing can be lost
    keep: Callable[[], object] = lambda: None  # mark the last step as whole in memory
    arriving: bool = False  # its parameters are still on their way
    _tried: float = field(default_factory=time.monotonic)

    def arrived(self) -> None:
        """Keep the last step, if it could not be kept before its parameters arrived."""
        if self.arriving:
            self.arriving = False
            self.keep()

    def due(self) -> bool:
        """Whether the last try was so many minutes ago."""
        return self.minutes > 0 and time.monotonic() - self._tried >= 60 * self.minutes

    def note_try(self) -> None:
        """Note an attempt, successful or not: a full disk must not be tried at every step."""
        self._tried = time.monotonic()
