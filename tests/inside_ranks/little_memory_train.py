"""dist_vgg.train where shared memory is the folder that comes first, with 1,000 bytes free."""

import sys
from pathlib import Path

from dist_vgg.mpi.command import run_command
from dist_vgg.state import shm
from dist_vgg.train import main

shm.SHM = Path(sys.argv.pop(1))
shm.bytes_free = lambda: 1000
run_command("dist_vgg.train", main)
