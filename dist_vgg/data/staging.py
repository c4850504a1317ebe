"""Shards are written to a folder beside the old ones, and replace them when all are whole."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dist_vgg.base.errors import UserError
from dist_vgg.base.files import fsync
from dist_vgg.data.shards import find_shards


@contextmanager
def staged(out: Path, called: str, again: str) -> Iterator[Path]:
    """Yield a folder to write shards to; when all went well they replace those in `out`.

    If anything goes wrong before, `out` stays as it was, or away if it was not there. `called` is
    what a UserError calls the folder, and `again` what then has all shards written again.
    """
    made: list[Path] = []
    stage = out / f"{_stage_prefix()}{os.getpid()}"
    try:
        try:
            made = [place for place in (out, *out.parents) if not place.exists()]
            out.mkdir(parents=True, exist_ok=True)
            _remove_stale(out)
            stage.mkdir()
        except OSError as error:
            raise UserError(
                f"can't write to {called}: {error.strerror}; choose another folder"
            ) from error
        yield stage
        try:
            for path in find_shards(out):
                path.unlink()
            for path in find_shards(stage):
                path.rename(out / path.name)
            fsync(out)
        except OSError as error:
            raise UserError(
                f"can't replace the shards in {out}: {error.strerror}; {again}"
            ) from error
        made = []
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        for place in made:
            with suppress(OSError):
                place.rmdir()


def _stage_prefix() -> str:
    # A process number means something only on its own host, and folders are often shared.
    return f".partial-{socket.gethostname()}-"


def _remove_stale(out: Path) -> None:
    """Remove what killed processes of this host have left."""
    for path in out.glob(f"{_stage_prefix()}*"):
        pid = path.name.removeprefix(_stage_prefix())
        if pid.isdecimal() and (int(pid) == os.getpid() or not _alive(int(pid))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
