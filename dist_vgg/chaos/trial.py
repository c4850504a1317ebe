"""One trial: train under a fault, see what came of it, and judge."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dist_vgg.base.errors import UserError
from dist_vgg.chaos.faults import ANY_STATUS, FLUSH, NOTHING, Plan, Scale
from dist_vgg.chaos.faulty import FAULT, JOURNAL, STRUCK, ballast
from dist_vgg.data.samples import Samples, pixel_statistics, set_digest
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import shard_path, write_shard
from dist_vgg.state.checkpoint import checkpoints, load_weights

SHARDS = 8
GRACE = 10.0  # seconds in which everything must have ended, once the supervisor has
SUPERVISOR_COMMAND = (sys.executable, "-m", "dist_vgg.chaos.supervised")
PACKAGE = Path(__file__).parents[1]


@dataclass
class Outcome:
    """What came of a trial."""

    struck: dict[str, Any] | None = None  # time, moment, rank, host, step, done
    statuses: list[int] = field(default_factory=list)  # of the supervisor; -n: killed by signal n
    lost: list[int] = field(default_factory=list)  # the ranks' statuses, before each restart
    output: str = ""
    sha256: str = ""  # of the weights that it ended with
    steps_lost: int | None = None  # that were computed again
    recovery: float | None = None  # seconds from the strike to the next step recorded
    orphans: list[str] = field(default_factory=list)  # processes that it left
    memory: list[str] = field(default_factory=list)  # files that it left in /dev/shm
    partials: list[str] = field(default_factory=list)  # files half written, likewise
    hung: bool = False
    seconds: float = 0.0


def complaints(plan: Plan, outcome: Outcome, sha256: str) -> list[str]:
    """All that is wrong with an outcome; `sha256` is that of the undisturbed run."""
    fault, found = plan.fault, []
    if outcome.hung:
        return [f"it hung: {'; '.join(outcome.orphans)}"]
    if fault.action and outcome.struck is None:
        found.append("the fault never struck")
    if tuple(outcome.statuses) != fault.statuses:
        found.append(f"status {_words(outcome.statuses)} instead of {_words(fault.statuses)}")
    if fault.survives and outcome.sha256 != sha256:
        found.append(f"parameters {outcome.sha256[:16] or 'missing'} instead of {sha256[:16]}")
    if not fault.survives and outcome.sha256:
        found.append("it trained to the end")
    if fault.lost == NOTHING and outcome.lost:
        found.append(f"ranks were lost, with status {_words(outcome.lost)}")
    elif fault.lost == ANY_STATUS and len(outcome.lost) != 1:
        found.append(f"ranks were lost {len(outcome.lost)} times instead of once")
    elif isinstance(fault.lost, int) and outcome.lost != [fault.lost]:
        found.append(f"ranks were lost with status {_words(outcome.lost)}, not {fault.lost}")
    if outcome.steps_lost is not None and outcome.steps_lost > fault.most_lost:
        found.append(f"{outcome.steps_lost} steps were lost")
    path = shard_path(Path(), "train", harmed_shard(plan), SHARDS).name
    host = (outcome.struck or {}).get("host", "")
    names = dict(rank=plan.rank, host=re.escape(host), path=re.escape(path))
    for pattern in fault.words:
        # Not str.format: a pattern has braces of its own.
        for name, value in names.items():
            pattern = pattern.replace(f"{{{name}}}", str(value))
        if not re.search(pattern, outcome.output):
            found.append(f"nothing was said like {pattern!r}")
    if "Traceback (most recent call last)" in outcome.output:
        found.append("there is a traceback")
    for what, left in (
        ("processes", outcome.orphans),
        ("files in shared memory", outcome.memory),
        ("files half written", outcome.partials),
    ):
        if left:
            found.append(f"{what} were left: {'; '.join(left)}")
    return found


def _words(statuses: Sequence[int]) -> str:
    return ", then ".join(map(str, statuses)) or "none"


def harmed_shard(plan: Plan) -> int:
    return int(plan.place * SHARDS)


def run_trial(
    plan: Plan,
    scale: Scale,
    data: Path,
    folder: Path,
    supervisor: Sequence[str] = SUPERVISOR_COMMAND,
) -> Outcome:
    """Train under a plan's fault, in a folder of the trial's own."""
    started, outcome = time.monotonic(), Outcome()
    folder.mkdir(parents=True)
    if plan.fault.harm == "shard":
        data = shutil.copytree(data, folder / "data")
        path = shard_path(data, "train", harmed_shard(plan), SHARDS)
        flip_bit(path, plan.place, plan.bit)
    with small_disk(plan, folder, data) as plan:
        command = [
            *supervisor, "-n", str(plan.ranks), "--max-restarts", "3", "--",
            *train_options(scale, data, folder / "run"), "--route", plan.route,
            "--checkpoint-every", str(scale.every),
            "--stall-timeout", f"{scale.stall:g}",
        ]  # fmt: skip
        told = json.dumps(dict(folder=str(folder), plan=vars(plan)))
        environment = {**surroundings(), FAULT: told}
        try:
            # It is started again as long as that is what a user would do.
            for wanted in plan.fault.statuses:
                left = scale.limit - (time.monotonic() - started)
                status = watch(command, environment, folder / "output.txt", left)
                outcome.hung = status is None
                outcome.statuses += [] if status is None else [status]
                outcome.orphans += leftovers(folder, 0 if outcome.hung else GRACE)
                if status != wanted:
                    break
                if plan.fault.harm in ("cut", "flip") and len(outcome.statuses) == 1:
                    harm_checkpoint(plan, folder)
        finally:
            end_all(folder)
            outcome.memory = take_memory(folder)
        read_outcome(outcome, folder)
    outcome.seconds = time.monotonic() - started
    return outcome


def train_options(scale: Scale, data: Path, out: Path) -> list[str]:
    """The options of training that its result depends on, and where its files are."""
    return [
        "--data", str(data), "--out", str(out), "--width", f"{scale.width:g}",
        "--micro-batch", str(scale.micro_batch), "--epochs", str(scale.epochs),
        "--optimizer", "adam", "--lr", "0.001", "--warmup", "2", "--progress", "none",
    ]  # fmt: skip


def undisturbed(scale: Scale, data: Path, folder: Path) -> str:
    """Train on one rank with no fault; the SHA-256 of the parameters."""
    command = [sys.executable, "-m", "dist_vgg.train", *train_options(scale, data, folder / "run")]
    folder.mkdir(parents=True)
    status = watch(command, surroundings(), folder / "output.txt", scale.limit)
    if status:
        said = (folder / "output.txt").read_text(errors="replace").strip()
        raise UserError(f"training without a fault ended with status {status}:\n{said}")
    return final_sha256(folder / "run")


def watch(
    command: Sequence[str], environment: Mapping[str, str], output: Path, limit: float
) -> int | None:
    """Run a command to its end; its exit status, or None where that never came."""
    with output.open("ab") as file:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us
        )
        try:
            return process.wait(max(0.0, limit))
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def surroundings() -> dict[str, str]:
    """Our environment, in which this very package is found, and ranks may outnumber cores."""
    path = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    return {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }


def processes(folder: Path) -> dict[int, str]:
    """The living processes of a trial, which all have its folder in their environment."""
    mark = f"{FAULT}={json.dumps(dict(folder=str(folder)))[:-1]},".encode()
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (place / "environ").read_bytes():
                words = (place / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(place.name)] = words.decode(errors="replace")[:200]
    return found


def leftovers(folder: Path, grace: float) -> list[str]:
    """Processes that live on for so many seconds."""
    end = time.monotonic() + grace
    while (found := processes(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    return [f"{pid} {words}" for pid, words in found.items()]


def end_all(folder: Path) -> None:
    """Leave nothing of a trial running, stopped ones included."""
    end = time.monotonic() + GRACE
    while (found := processes(folder)) and time.monotonic() < end:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def read_outcome(outcome: Outcome, folder: Path) -> None:
    """Read what a trial has left."""
    run, output = folder / "run", folder / "output.txt"
    outcome.output = output.read_text(errors="replace") if output.exists() else ""
    if (folder / STRUCK).exists():
        outcome.struck = json.loads((folder / STRUCK).read_text() or "{}")
    events = json_lines(run / "elastic.jsonl")
    # The last end of each start of the supervisor is its own end, too.
    outcome.lost = [
        int(event["status"])
        for event, following in pairwise(events)
        if event["event"] == "ended" and following["event"] != "exit"
    ]
    outcome.sha256 = final_sha256(run)
    outcome.partials = [str(path) for path in run.rglob(".*.partial")]
    outcome.steps_lost, outcome.recovery = recovery(outcome.struck, json_lines(folder / JOURNAL))


def recovery(
    struck: Mapping[str, Any] | None, journal: Sequence[Mapping[str, Any]]
) -> tuple[int | None, float | None]:
    """How many steps a strike has cost, and seconds to the first step after it; if any."""
    if not struck:
        return None, None
    later = [event for event in journal if event["time"] > struck["time"]]
    begun = next((e for e in later if e["what"] == "begin" and e["rank"] == 0), None)
    if begun is None:
        return None, None
    # Rank 0 may note the step before a strike only after it, hence the start's time.
    went_on = [e["time"] for e in later if e["what"] == "stepped" and e["time"] > begun["time"]]
    # A signal lets the step that it comes in be finished.
    lost = max(0, struck["done"] - begun["step"])
    return lost, went_on[0] - struck["time"] if went_on else None


def json_lines(path: Path) -> list[dict[str, Any]]:
    """A file's JSON objects, without a line torn by a kill."""
    found = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def take_memory(folder: Path) -> list[str]:
    """Remove the files in /dev/shm that a trial's ranks had; those that were still there."""
    journal = json_lines(folder / JOURNAL)
    had = sorted({path for event in journal for path in event.get("files", [])})
    left = [path for path in had if Path(path).exists()]
    for path in left:
        Path(path).unlink(missing_ok=True)
    return left


def final_sha256(run: Path) -> str:
    """SHA-256 of the weights in a run's folder, computed anew; empty where there are none."""
    try:
        return hashlib.sha256(load_weights(run).params.astype("<f4").tobytes()).hexdigest()
    except UserError:
        return ""


def harm_checkpoint(plan: Plan, folder: Path) -> None:
    """Damage the newest checkpoint of a run that has ended, and take its memory away."""
    newest = checkpoints(folder / "run" / "checkpoints")[0]
    if plan.fault.harm == "cut":
        os.truncate(newest, int(plan.place * newest.stat().st_size))
    else:
        flip_bit(newest, plan.place, plan.bit)
    take_memory(folder)


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
    """A full disk of their own for checkpoints, if the plan has one and we may mount it.

    Else the same error comes from the program's own calls, as the plan yielded says.
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


def make_data(folder: Path, scale: Scale) -> None:
    """Write eight shards of learnable random images."""
    rng = np.random.default_rng(0)
    size, step = scale.size, scale.size // 11
    splits = {}
    for split, count in (("train", scale.images), ("test", SHARDS)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = rng.integers(0, 60, (count, size, size, 1), np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            image[step * label : step * (label + 2)] += 150
        splits[split] = Samples(pixels, labels, np.arange(count))
    mean, std = pixel_statistics(splits["train"].pixels)
    info = SetInfo(
        source="mnist",  # any other name has a warning at the head of each run
        request="{}",
        shards=SHARDS,
        size=size,
        channels=1,
        classes=10,
        mean=mean,
        std=std,
        zoom="none",
        seed=0,
        train_count=scale.images,
        test_count=SHARDS,
        digest=set_digest(splits),
    )
    folder.mkdir(parents=True)
    for split, samples in splits.items():
        for index in range(SHARDS):
            write_shard(folder, split, index, samples[np.arange(index, len(samples), SHARDS)], info)
