"""Train on ranks of which the last is on a host of its own, unlike the others in one thing.

differing_train.py THING [options of dist_vgg.train]
"""

import sys

from differences import unlike

from dist_vgg import train
from dist_vgg.mpi.command import run_command
from dist_vgg.runs.options import train_parser

with unlike(sys.argv.pop(1)) as options:
    sys.argv += options
    run_command("dist_vgg.train", train.main, train_parser)
