"""Call a command with each of several lists of options; print what each came to, as JSON.

mistaken.py MODULE LISTS: such as dist_vgg.train, and the options of each call as JSON
"""

import importlib
import json
import sys

from mpi4py import MPI

from dist_vgg.base.errors import UserError
from dist_vgg.mpi.collectives import allgather_text

module, lists = sys.argv[1:]
main = importlib.import_module(module).main
for argv in json.loads(lists):
    try:
        said = [main(argv, MPI.COMM_WORLD), ""]
    except UserError as error:
        said = [error.status, str(error)]
    # Like run_command: the error must have reached every rank.
    assert len(set(allgather_text(MPI.COMM_WORLD, json.dumps(said)))) == 1
    if MPI.COMM_WORLD.rank == 0:
        sys.stdout.write(json.dumps(said) + "\n")
