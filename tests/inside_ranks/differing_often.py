"""Begin to train several times, each time with another thing in which the last rank is unlike.

differing_often.py THINGS [options of dist_vgg.train]: a list as JSON; so is what each came to
"""

import json
import sys

from differences import unlike
from mpi4py import MPI

from dist_vgg import train
from dist_vgg.base.errors import UserError

comm = MPI.COMM_WORLD
for thing in json.loads(sys.argv.pop(1)):
    with unlike(thing) as options:
        try:
            said = [train.main([*sys.argv[1:], *options], comm), ""]
        except UserError as error:
            said = [error.status, str(error)]
    if comm.rank == 0:
        sys.stdout.write(json.dumps(said) + "\n")
