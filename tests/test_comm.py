"""What ranks say reaches the user; the rest of comm is in inside_ranks/check_comm.py."""

import launcher

CROWD = """
from mpi4py import MPI
from dist_vgg.comm import tell
for turn in range(100):
    MPI.COMM_WORLD.Barrier()
    tell(f"turn {turn}")
"""


def test_ranks_that_speak_at_once_are_read_line_by_line() -> None:
    status, _, errors = launcher.run(3, "-c", CROWD)
    assert status == 0
    assert sorted(errors.splitlines()) == sorted(f"turn {n}" for n in range(100) for _ in range(3))
