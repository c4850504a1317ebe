"""The files in launch/ for clusters: what can be checked of them without a cluster.

The scripts run here with stubs in place of srun, mpirun, ssh and Python; the command that they end
in is read by the real parsers. test_containers.py has the files that are only parsed.
"""

import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from stubs import LAUNCH, Stubs, edits, understood

SLURM = {"SLURM_JOB_NUM_NODES": "3", "SLURM_NTASKS": "6", "SLURM_JOB_ID": "7"}
GIVEN = {"data": "data", "out": "run", "resume": "if-any"}
FILES = ("slurm.sbatch", "slurm-srun.sbatch", "hosts.sh", "kubernetes.yaml", "Dockerfile")


@pytest.fixture
def stubs(tmp_path: Path) -> Stubs:
    names = ("python", "srun", "mpirun", "scontrol", "ssh", "hostname", "useradd")
    made = Stubs(tmp_path, *names)
    (tmp_path / "data").mkdir()
    (tmp_path / "hosts").write_text("# ours\nnode1:2\n\nnode2 slots=3  # the large one\nnode3\n")
    return made


@pytest.mark.parametrize("name", FILES[:3])
def test_bash_reads_it(name: str) -> None:
    done = subprocess.run(["bash", "-n", LAUNCH / name], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", [*FILES, "apptainer.def"])
def test_five_lines_say_what_to_edit(name: str) -> None:
    assert edits((LAUNCH / name).read_text()) == ["1", "2", "3", "4", "5"]


def directives(name: str) -> dict[str, str]:
    """The #SBATCH lines, which Slurm reads up to the first command."""
    head = re.split(r"^[^#\n]", (LAUNCH / name).read_text(), maxsplit=1, flags=re.MULTILINE)[0]
    lines = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?(?: +#.*)?$", head, re.MULTILINE)
    assert len(lines) == head.count("#SBATCH --")
    return dict(lines)


def test_what_is_asked_of_slurm() -> None:
    common = {
        "job-name": "dist_vgg",
        "nodes": "3",
        "ntasks-per-node": "2",
        "time": "04:00:00",
        "requeue": "",
        "open-mode": "append",
        "output": "dist_vgg-%j.log",
    }
    # Only the batch script runs outside a step, and only a supervisor can do without a node.
    assert directives("slurm.sbatch") == {**common, "signal": "B:USR1@120", "no-kill": ""}
    assert directives("slurm-srun.sbatch") == {**common, "signal": "USR1@120"}


def test_slurm_with_the_supervisor(stubs: Stubs) -> None:
    script = LAUNCH / "slurm.sbatch"
    done = stubs.run(script, "--epochs", "2", VENV="venv", DATA="my data", **SLURM)
    assert done == (0, "", "")
    assert stubs.called("srun") == stubs.called("scontrol") == []
    own, train = understood(stubs.called("python")[0])
    assert (own.n, own.mpirun, own.hostfile) == (6, "mpirun --bind-to core", None)
    assert train == {**GIVEN, "data": "my data", "epochs": 2}


def test_slurm_with_data_on_each_node(stubs: Stubs) -> None:
    script, place = LAUNCH / "slurm.sbatch", "/scratch/dist_vgg-7"
    status, *_ = stubs.run(
        script, VENV="venv", STAGE="yes", TMPDIR="/scratch", python_status="70", **SLURM
    )
    assert status == 70
    each = ["--overlap", "--no-kill", "--ntasks=3", "--ntasks-per-node=1"]
    assert stubs.called("srun") == [
        [*each, "mkdir", "-p", place],
        [*each, "cp", "-r", "data/.", place],
        [*each, "rm", "-rf", place],
    ]
    assert understood(stubs.called("python")[0])[1] == {**GIVEN, "data": place}
    assert stubs.called("scontrol") == []


@pytest.mark.parametrize(
    ("number", "requeued"), [(signal.SIGUSR1, [["requeue", "7"]]), (signal.SIGTERM, [])]
)
def test_slurm_requeues_what_it_has_stopped(
    number: signal.Signals, requeued: list[list[str]], stubs: Stubs
) -> None:
    process = stubs.start(LAUNCH / "slurm.sbatch", VENV="venv", saves_at_usr1="yes", **SLURM)
    end = time.monotonic() + 20
    while not stubs.called("python") and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)  # the stub has yet to set its traps
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert stubs.called("scontrol") == requeued


@pytest.mark.parametrize(
    ("status", "requeued"), [(0, []), (138, [["requeue", "7"]]), (2, []), (143, [])]
)
def test_slurm_with_srun_alone(status: int, requeued: list[list[str]], stubs: Stubs) -> None:
    script = LAUNCH / "slurm-srun.sbatch"
    done = stubs.run(
        script, "--lr", "0.1", VENV="venv", PMI="pmix", srun_status=str(status), **SLURM
    )
    assert done == (status, "", "")
    [words] = stubs.called("srun")
    options = ["--mpi=pmix", "--cpu-bind=cores", "--kill-on-bad-exit=0", "--wait=30"]
    assert words[:5] == [*options, "python"]
    own, train = understood(words[5:])
    assert own is None and train == {**GIVEN, "lr": 0.1}
    assert stubs.called("scontrol") == requeued


@pytest.mark.parametrize(
    ("version", "mpirun", "lines"),
    [
        ("HYDRA build details:", None, "node1:2\nnode2:3\nnode3:1\n"),
        (
            "mpirun (Open MPI) 5.0.8",
            "mpirun -x PATH -x OPENBLAS_CORETYPE",
            "node1 slots=2\nnode2 slots=3\nnode3 slots=1\n",
        ),
    ],
)
def test_hosts(version: str, mpirun: str | None, lines: str, stubs: Stubs) -> None:
    done = stubs.run(
        LAUNCH / "hosts.sh",
        "--epochs",
        "2",
        PYTHON="venv/bin/python",
        OPENBLAS_CORETYPE="Haswell",
        mpirun_says=version,
        hostname_says="node3",
    )
    assert done == (0, "", "")
    here = stubs.bin.parents[1]
    # The machine where it is started needs no ssh.
    assert [words[4] for words in stubs.called("ssh")] == ["node1", "node2"]
    looked, started = stubs.called("python")
    assert looked == ["-c", "import dist_vgg"]
    own, train = understood(started)
    assert (own.n, own.mpirun) == (6, mpirun)
    assert Path(own.hostfile).read_text() == lines
    assert train == {**GIVEN, "data": f"{here}/data", "out": f"{here}/run", "epochs": 2}


def test_hosts_look_at_what_each_machine_has(stubs: Stubs) -> None:
    stubs.run(LAUNCH / "hosts.sh", PYTHON="/no python", DATA="/my data", ssh_status_node1="1")
    there = stubs.called("ssh")[0][5]
    assert shlex.split(there) == ["/no python", "-c", "import dist_vgg", "&&", "cd", "/my data"]


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"HOSTS": "none"}, "no file {}/none; copy launch/hosts.example there and put your"),
        ({"HOSTS": "empty"}, "{}/empty names no machine; see launch/hosts.example"),
        ({"HOSTS": "two"}, "{}/two: node2 takes a number of ranks, not 'two'"),
        ({"ssh_status_node2": "255"}, "no way into node2 by ssh without a password; see that ssh"),
        ({"ssh_status_node2": "1"}, "node2 lacks {0}/venv/bin/python with dist_vgg, or the fold"),
    ],
)
def test_hosts_refuses_in_a_line(variables: dict[str, str], complaint: str, stubs: Stubs) -> None:
    here = stubs.bin.parents[1]
    (here / "empty").write_text("# node1:2\n")
    (here / "two").write_text("node1:2\nnode2:two\n")
    status, out, errors = stubs.run(LAUNCH / "hosts.sh", PYTHON="venv/bin/python", **variables)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"error: {complaint.format(here)}")
    assert stubs.called("python") == []


def test_hosts_example_is_read(stubs: Stubs) -> None:
    variables = {"HOSTS": str(stubs.bin / "hosts"), "PYTHON": "venv/bin/python"}
    (stubs.bin / "hosts").write_text((LAUNCH / "hosts.example").read_text())
    assert stubs.run(LAUNCH / "hosts.sh", **variables) == (0, "", "")
    assert understood(stubs.called("python")[-1])[0].n == 6
    assert stubs.run(LAUNCH / "hosts.sh", "--help")[1].startswith("Train on several machines")
