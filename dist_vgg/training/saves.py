"""When the last checkpoint was written, and whether the clock asks for the next."""

import time
from dataclasses import dataclass, field


@dataclass
class Saves:
    """When checkpoints were written, and whether --checkpoint-minutes are over."""

    minutes: float  # between two of them; 0: the clock asks for none
    step: int = 0  # the last one that is on disk; before the first step nothing can be lost
    _tried: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether the last try was so many minutes ago."""
        return self.minutes > 0 and time.monotonic() - self._tried >= 60 * self.minutes

    def note_try(self) -> None:
        """Note an attempt, successful or not: a full disk must not be tried at every step."""
        self._tried = time.monotonic()
