"""`python -m dist_vgg.train` whose ranks get SIGUSR1 at a moment of the start; run under mpirun.

The first argument says when: "mpi", right after MPI has started, or the name of a function that
`train` calls.
"""

import os
import runpy
import signal
import sys
from typing import Any

from dist_vgg.data import batches
from dist_vgg.exchange import route
from dist_vgg.mpi import command

moment = sys.argv.pop(1)
OWNERS: dict[str, tuple[Any, str]] = {
    "mpi": (command, "_unlink_shared_memory"),
    "shards": (batches, "load_local"),
    "memory": (route.Route, "__init__"),
}
owner, name = OWNERS[moment]
usual = getattr(owner, name)


def signalled(*arguments: Any, **options: Any) -> Any:
    os.kill(os.getpid(), signal.SIGUSR1)
    return usual(*arguments, **options)


setattr(owner, name, signalled)
runpy.run_module("dist_vgg.train", run_name="__main__")
