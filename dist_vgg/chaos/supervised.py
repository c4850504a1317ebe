"""The supervisor as a user starts it, except that its ranks run `faulty` in place of training."""

import os
import sys

from dist_vgg import elastic
from dist_vgg.chaos.injector import SUPERVISOR

if __name__ == "__main__":
    os.environ[SUPERVISOR] = str(os.getpid())
    sys.exit(elastic.main(sys.argv[1:], module="dist_vgg.chaos.faulty"))
