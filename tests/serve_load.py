"""Load a server with good and hostile pictures by wrk (Debian: apt-get install wrk).

python tests/serve_load.py
python tests/serve_load.py runs/NAME --seconds 30 --connections 64 --swollen

Prints wrk's latencies, the answers by status, and the server's memory as it went. --swollen adds
files of a few KiB that are pictures of 25 million pixels.
"""

import argparse
import io
import re
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from drawings import seven, uneven
from PIL import Image
from serving import started

from dist_vgg.formats.trained import SHIPPED
from dist_vgg.kernels.sets import AUTO

EXPECTED = {200, 415, 422, 503}  # 503: a clear answer where more come than are served
SCRIPT = """
local bodies, threads, counts = {}, {}, {}
function setup(thread) table.insert(threads, thread) end
function init(args)
  statuses = ""
  for _, path in ipairs(args) do
    local file = io.open(path, "rb")
    table.insert(bodies, file:read("*a"))
    file:close()
  end
  place = math.random(#bodies)
end
function request()
  place = place % #bodies + 1
  return wrk.format("POST", "/predict?seen=1", nil, bodies[place])
end
function response(status)
  counts[status] = (counts[status] or 0) + 1
  statuses = ""
  for each, count in pairs(counts) do statuses = statuses .. each .. " " .. count .. " " end
end
function done()
  for _, thread in ipairs(threads) do print("statuses " .. thread:get("statuses")) end
end
"""


def pictures(swollen: bool) -> dict[str, bytes]:
    """What is sent, in turn."""
    good, other = png(uneven(seven())), io.BytesIO()
    Image.fromarray(255 - seven()).save(other, "JPEG")
    claim = png(np.zeros((1, 1), np.uint8))
    head = claim[12:16] + (10_000).to_bytes(4, "big") + (6_000).to_bytes(4, "big") + claim[24:29]
    bomb = claim[:12] + head + zlib.crc32(head).to_bytes(4, "big") + claim[33:]
    found = {"good": good, "other": other.getvalue(), "cut": good[: len(good) // 2]}
    found |= {"bomb": bomb, "text": b"seven", "empty": b""}
    return found | ({"swollen": png(np.zeros((5000, 5000), np.uint8))} if swollen else {})


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def resident(pid: int) -> str:
    """The memory that a process has, in MiB."""
    (found,) = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return f"{int(found) >> 10}"


def load(url: str, pid: int, given: argparse.Namespace, folder: Path) -> Mapping[int, int]:
    """Run wrk, print what it says, and return how many answers had each status."""
    (folder / "load.lua").write_text(SCRIPT)
    paths = []
    for name, content in pictures(given.swollen).items():
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    words = ["wrk", "-t2", f"-c{given.connections}", f"-d{given.seconds}s", "--timeout", "60s"]
    words += ["--latency", "-s", str(folder / "load.lua"), url, "--", *map(str, paths)]
    memory = [resident(pid)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as wrk:
        while wrk.poll() is None:
            time.sleep(given.seconds / 10)
            memory.append(resident(pid))
        assert wrk.stdout
        output = wrk.stdout.read()
    print(output, f"memory in MiB: {' '.join(memory)}", sep="\n")
    statuses: dict[int, int] = {}
    for line in re.findall("statuses (.*)", output):
        for status, count in re.findall(r"(\d+) (\d+)", line):
            statuses[int(status)] = statuses.get(int(status), 0) + int(count)
    return statuses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--swollen", action="store_true")
    given = parser.parse_args()
    process, served = started(given.weights.resolve(), kernels=AUTO)
    try:
        with tempfile.TemporaryDirectory() as folder:
            url = f"http://{served.host}:{served.port}"
            statuses = load(url, process.pid, given, Path(folder))
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    print(f"answers by status: {statuses}\nstderr of the server:\n{errors}")
    return 0 if statuses and set(statuses) <= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
