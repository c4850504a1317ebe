"""launch/'s files for Docker, Apptainer and Kubernetes: parsed, and compared with each other."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from launcher import ROOT
from stubs import LAUNCH, Stubs, understood

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GIVEN = {"data": "/data", "out": "/runs/run", "resume": "if-any"}
# The fields of an MPIJob that the operator documents for kubeflow.org/v2beta1.
SPEC = {
    "slotsPerWorker",
    "runLauncherAsWorker",
    "runPolicy",
    "mpiReplicaSpecs",
    "sshAuthMountPath",
    "launcherCreationPolicy",
    "mpiImplementation",
}
RUN_POLICY = {
    "cleanPodPolicy",
    "ttlSecondsAfterFinished",
    "activeDeadlineSeconds",
    "backoffLimit",
    "schedulingPolicy",
    "suspend",
    "managedBy",
}
CONTAINER = {
    "name",
    "image",
    "command",
    "args",
    "readinessProbe",
    "resources",
    "volumeMounts",
}
UNITS = {"Mi": 2**20, "Gi": 2**30}


def size(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]]


def shell_reads(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def installs(command: str) -> None:
    """The extras that a pip command asks for are in pyproject.toml."""
    found = re.search(r"'/opt/dist_vgg\[([a-z,]+)\]'", command)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert found and set(found[1].split(",")) <= set(extras["optional-dependencies"])


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile, with its continuation lines."""
    text = re.sub(r"^#.*\n", "", (LAUNCH / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line]


def test_dockerfile() -> None:
    parts = instructions()
    names = [name for name, _ in parts]
    assert names[0] == "FROM" and names[-1] == "CMD"
    assert set(names) == {"FROM", "RUN", "COPY", "USER", "WORKDIR", "CMD"}
    assert dict(parts)["USER"] == "1000"  # by number, which runAsNonRoot can check
    for name, words in parts:
        if name == "RUN":
            shell_reads(words)
        if name == "COPY":
            *sources, _ = words.split()
            assert [path for path in sources if not (ROOT / path).exists()] == []
    installs(" ".join(words for name, words in parts if name == "RUN"))
    python, *words = json.loads(dict(parts)["CMD"])
    own, train = understood(words)
    assert (python, own.n, train) == ("python", 2, GIVEN)


@pytest.fixture
def written(tmp_path: Path) -> tuple[list[str], list[str]]:
    """The lines that the image has for sshd and for ssh."""
    [script] = [words for name, words in instructions() if "useradd" in words]
    script = script.replace("/home/mpiuser/sshd_config", "server").replace(
        "/etc/ssh/ssh_config.d/pods.conf", "client"
    )
    made = Stubs(tmp_path, "useradd")
    (tmp_path / "script").write_text(script)
    assert made.run(tmp_path / "script") == (0, "", "")
    assert made.called("useradd") == [["--create-home", "--uid", "1000", "mpiuser"]]
    return tuple((tmp_path / name).read_text().splitlines() for name in ("server", "client"))


def job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text())
    return loaded


def test_the_image_is_what_the_pods_need(written: tuple[list[str], list[str]]) -> None:
    server, client = written
    spec = job()["spec"]
    worker = spec["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    port = worker["readinessProbe"]["tcpSocket"]["port"]
    assert f"Port {port}" in server and f"    Port {port}" in client
    assert f"HostKey {spec['sshAuthMountPath']}/id_rsa" in server
    assert "StrictModes no" in server and "    StrictHostKeyChecking no" in client
    assert [*worker["command"], *worker["args"]] == [
        "/usr/sbin/sshd",
        "-De",
        "-f",
        "/home/mpiuser/sshd_config",
    ]


def test_the_job_has_documented_fields() -> None:
    loaded = job()
    assert (loaded["apiVersion"], loaded["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    spec = loaded["spec"]
    assert set(spec) <= SPEC and set(spec["runPolicy"]) <= RUN_POLICY
    assert spec["mpiImplementation"] == "MPICH"  # of OpenMPI, Intel and MPICH
    assert spec["launcherCreationPolicy"] == "WaitForWorkersReady"  # or AtStartup
    assert spec["runPolicy"]["cleanPodPolicy"] == "Running"  # of All, Running and None
    assert set(spec["mpiReplicaSpecs"]) == {"Launcher", "Worker"}
    for replica in spec["mpiReplicaSpecs"].values():
        assert set(replica) == {"replicas", "restartPolicy", "template"}
        assert replica["restartPolicy"] == "OnFailure"
        pod = replica["template"]["spec"]
        assert set(pod) == {"securityContext", "containers", "volumes"}
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert {pod["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {
            1000
        }
        [container] = pod["containers"]
        assert set(container) <= CONTAINER
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_job_is_one_that_can_train() -> None:
    spec = job()["spec"]
    worker, launcher = (spec["mpiReplicaSpecs"][name] for name in ("Worker", "Launcher"))
    [node], [head] = (role["template"]["spec"]["containers"] for role in (worker, launcher))
    own, train = understood(head["args"])
    assert head["command"] == ["python"] and train == GIVEN
    assert (own.n, own.hostfile) == (
        worker["replicas"] * spec["slotsPerWorker"],
        "/etc/mpi/hostfile",
    )
    assert node["resources"]["limits"]["cpu"] == spec["slotsPerWorker"]
    places = {mount["mountPath"]: mount["name"] for mount in node["volumeMounts"]}
    assert set(places) == {"/dev/shm", train["data"], str(Path(train["out"]).parent)}
    volumes = {volume.pop("name"): volume for volume in worker["template"]["spec"]["volumes"]}
    memory = volumes[places["/dev/shm"]]["emptyDir"]
    assert memory["medium"] == "Memory"
    assert size(memory["sizeLimit"]) < size(node["resources"]["limits"]["memory"])
    assert node["image"] == head["image"]


def sections() -> tuple[dict[str, str], dict[str, str]]:
    """The header and the sections of the definition file."""
    text = re.sub(r"^#.*\n", "", (LAUNCH / "apptainer.def").read_text(), flags=re.MULTILINE)
    head, *rest = re.split(r"^%", text, flags=re.MULTILINE)
    keys = dict(re.findall(r"^(\w+): (\S+)$", head, re.MULTILINE))
    return keys, dict(part.split("\n", 1) for part in rest)


def test_apptainer(tmp_path: Path) -> None:
    keys, parts = sections()
    assert keys == {"Bootstrap": "docker", "From": dict(instructions())["FROM"]}
    assert set(parts) == {"files", "post", "test", "apprun elastic", "runscript"}
    for line in parts.pop("files").strip().splitlines():
        source, target = line.split()
        assert (ROOT / source).exists() and target == f"/opt/dist_vgg/{source}"
    for script in parts.values():
        shell_reads(script)
    installs(parts["post"])
    made = Stubs(tmp_path, "python")
    given = {"data": "data", "out": "/x y", "resume": "if-any", "epochs": 2}
    for name, words, ranks in [("runscript", [], None), ("apprun elastic", ["4"], 4)]:
        (tmp_path / name).write_text(parts[name])
        assert made.run(tmp_path / name, *words, "--epochs", "2", OUT="/x y") == (0, "", "")
        own, train = understood(made.called("python")[-1])
        assert (own and own.n, train) == (ranks, given)
    status, _, errors = made.run(tmp_path / "apprun elastic")
    assert status != 0 and "how many ranks" in errors
    for command in re.findall(r"python -c (.*)", parts["test"]):
        compile(shlex.split(command)[0], "test", "exec")
