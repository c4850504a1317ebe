"""struck_train where each rank believes to be alone on its host."""

import runpy
from pathlib import Path

from dist_vgg.recovery import watchdog

watchdog.SILENCE = 2.0
watchdog._ranks_of_host = lambda comm: comm.Split(comm.rank)
runpy.run_path(str(Path(__file__).with_name("struck_train.py")), run_name="__main__")
