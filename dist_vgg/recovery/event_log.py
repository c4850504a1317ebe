"""The supervisor's log: RUN/elastic.jsonl, a line for each start and end."""

import fcntl
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from dist_vgg.base.errors import UserError


class EventLog:
    """The open log of a run. Its lock keeps a second supervisor away from the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "elastic.jsonl").open("a")
        except OSError as error:
            raise UserError(f"can't use the run's folder {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another dist_vgg.elastic is at work in {folder}") from error
        except OSError:  # the file system knows no locks, so nobody can be kept out
            pass

    def write(self, event: str, **fields: Any) -> None:
        """Record an event, with its time in seconds since 1970."""
        with suppress(OSError):  # a full disk is no reason to give up
            record = dict(time=round(time.time(), 3), event=event, **fields)
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the log; where no run began, remove the log and its folder."""
        with suppress(OSError):  # the folder may have gone, or the disk be full
            if [path.name for path in self.folder.iterdir()] == ["elastic.jsonl"]:
                (self.folder / "elastic.jsonl").unlink()
                self.folder.rmdir()
        self._file.close()
