"""What a trial itself does to files and disks: flip a bit, cut a checkpoint, fill the disk."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dist_vgg.chaos.dataset import SHARDS
from dist_vgg.chaos.faults import FLUSH
from dist_vgg.chaos.injector import ballast
from dist_vgg.chaos.plan import Plan
from dist_vgg.data.shards import shard_path
from dist_vgg.state.checkpoint import checkpoints


def harmed_shard(data: Path, plan: Plan) -> Path:
    """The shard of a data set that the plan damages."""
    return shard_path(data, "train", int(plan.place * SHARDS), SHARDS)


def harm_shard(data: Path, plan: Plan, copy: Path) -> Path:
    """Copy a data set and flip a bit in one shard of the copy; returns the copy's folder."""
    shutil.copytree(data, copy)
    flip_bit(harmed_shard(copy, plan), plan.place, plan.bit)
    return copy


def harm_checkpoint(plan: Plan, run: Path) -> None:
    """Damage the newest checkpoint of a run that has ended."""
    newest = checkpoints(run / "checkpoints")[0]
    if plan.fault.harm == "cut":
        os.truncate(newest, int(plan.place * newest.stat().st_size))
    else:
        flip_bit(newest, plan.place, plan.bit)


def flip_bit(path: Path, place: float, bit: int) -> None:
    """Flip a bit of a file; `place` is in 0..1."""
    with path.open("r+b") as raw:
        offset = int(place * path.stat().st_size)
        raw.seek(offset)
        byte = raw.read(1)[0]
        raw.seek(offset)
        raw.write(bytes([byte ^ 1 << bit % 8]))


@contextmanager
def small_disk(plan: Plan, folder: Path, data: Path) -> Iterator[Plan]:
    """Where the plan fills a disk, mount a full one for the checkpoints, and yield the plan.

    Where we may not mount, yield a plan whose ranks refuse to write with the same error.
    """
    if plan.fault.action != "free":
        yield plan
        return
    place = folder / "run" / "checkpoints"
    place.mkdir(parents=True)
    # The run without a fault shows how large a checkpoint is.
    one = max(path.stat().st_size for path in (data.parent / "undisturbed").rglob("step-*.h5"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * one + (1 << 20)}", "dist_vgg", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        yield replace(plan, moment=FLUSH, action="refuse", step=0)
        return
    try:
        with ballast(folder).open("wb") as file:
            free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
            os.posix_fallocate(file.fileno(), 0, free - one // 2)
        yield plan
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
