"""What dist_vgg.elastic sees of a training, without MPI: steps, statuses, and a chosen mishap."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--resume", nargs="?", const="needed", default="no")
parser.add_argument("--stall-timeout", type=float)
# Kill or stop the last rank, or an exit status; with commas, one for each start.
parser.add_argument("--mishap", default="")
parser.add_argument("--after", type=int, default=2)  # so many steps of a start
parser.add_argument("--times", type=int, default=1)  # in so many starts, the first ones
parser.add_argument("--steps", type=int, default=4)
parser.add_argument("--fork", action="store_true")
parser.add_argument("--deaf", action="store_true")  # to signals
options = parser.parse_args()

rank, size = (
    int(next(os.environ[name] for name in names if name in os.environ))
    for names in (("PMI_RANK", "OMPI_COMM_WORLD_RANK"), ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
)
received: list[int] = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: received.append(number))

if options.fork and os.fork() == 0:
    time.sleep(0.5)
    os._exit(0)
starts, metrics = options.out / "starts", options.out / "metrics.jsonl"
starts.mkdir(parents=True, exist_ok=True)
(options.out / "config.json").write_text(json.dumps(dict(steps=options.steps)))
past = len(list(starts.glob(f"{rank}-*")))  # starts in which this rank took part before
note = dict(size=size, resume=options.resume, pid=os.getpid(), job=os.getppid())
partial = starts / f"partial-{os.getpid()}"
partial.write_text(json.dumps(note))
partial.rename(starts / f"{rank}-{past}")
# As at MPI's start, none goes on without rank 0, which may come late on a busy machine.
while all(json.loads(file.read_text())["job"] != note["job"] for file in starts.glob("0-*")):
    time.sleep(0.01)
step = metrics.read_text().count("\n") if options.resume != "no" and metrics.exists() else 0
mishaps = options.mishap.split(",")
times = max(options.times, len(mishaps)) if options.mishap else 0
mishap = mishaps[min(past, len(mishaps) - 1)]
last = options.after + step if past < times else options.steps

while True:
    if step == last < options.steps:
        time.sleep(0.2)  # no real one comes to its mishap as quickly
        if mishap.isdigit():
            sys.exit(int(mishap))
        if rank == size - 1:
            os.kill(os.getpid(), signal.SIGKILL if mishap == "kill" else signal.SIGSTOP)
        time.sleep(60)  # as one that waits for the rank that was lost
    if step >= options.steps:
        if rank == 0:
            import numpy as np  # late: many ranks share few cores

            from dist_vgg.state.weights import Weights, save_weights

            shape = dict(size=32, channels=1, classes=10, width=0.01)
            about = dict(mean=(0.0,), std=(1.0,), source="mnist", dataset="0" * 64, sha256="0" * 64)
            weights = Weights(network=shape, **about, step=step, params=np.zeros(3, np.float32))
            save_weights(options.out / "weights.h5", weights)
        break
    time.sleep(0.05)
    step += 1
    if rank == 0:
        with metrics.open("a") as file:
            file.write(json.dumps({"kind": "step", "step": step}) + "\n")
    if received and not options.deaf:
        time.sleep(0.2)  # long enough for a second signal to be noticed
        with (options.out / "received").open("a") as file:
            file.write(f"{[signal.Signals(number).name for number in received]}\n")
        sys.exit(128 + received[0])
