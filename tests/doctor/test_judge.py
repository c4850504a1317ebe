"""Each fault is found, and named, in facts that are made up; sound ones have none."""

from typing import Any

import pytest
from made_up import LEVELS, bad, sound

from dist_vgg.doctor import cores
from dist_vgg.doctor.examination import judge
from dist_vgg.doctor.findings import OK
from dist_vgg.doctor.report import as_json, text


@pytest.mark.parametrize(("hosts", "each"), [(1, 1), (1, 2), (1, 8), (2, 1), (2, 4), (3, 2)])
def test_nothing_is_wrong_with_sound_hosts(hosts: int, each: int) -> None:
    world = sound(hosts, each)
    assert not bad(world)
    checks = {finding.check for finding in judge(world)}
    assert checks == {"launch", "program", "cores", "memory", "network", "data", "out", "clocks",
                      "exchange", "speed", "step"}  # fmt: skip


def test_what_was_not_asked_for_is_not_judged() -> None:
    world = [{k: v for k, v in rank.items() if k not in ("data", "out")} for rank in sound()]
    assert {"data", "out"}.isdisjoint(finding.check for finding in judge(world))


# Which rank, which subject, what it finds there; what is then said, with its level and check.
REFUSED = "mpirun has started 3 ranks, and MPICH that Python uses knows of 1; use the mpirun that"
FAULTS: list[tuple[int | None, str, dict[str, Any], str, str]] = [
    (0, "launch", dict(started=6, size=4, refusal=REFUSED), "fault", "has started 3 ranks"),
    (0, "launch", dict(launcher="", mpirun_version="mpirun (Open MPI) 5.0.3"), "fault",
     "is Open MPI's, and Python uses MPICH 5.0.2"),
    (0, "launch", dict(mpirun_version="mpirun (Open MPI) 5.0.3"), "warning", "is Open MPI's"),
    (0, "launch", dict(mpirun="", mpirun_version="", launcher=""), "warning", "no mpirun"),
    (0, "launch", dict(slurm_tasks="16"), "warning", "Slurm has given 16 tasks"),
    (3, "program", dict(error="NUMBA_DISABLE_JIT forbids"), "fault", "NUMBA_DISABLE_JIT"),
    (3, "cores", dict(bound=[0]), "ok", ""),
    (None, "cores", dict(bound=[0]), "fault", "ranks 0-1 on node1 are bound to 1 core (0) of 8"),
    (None, "cores", dict(bound=[0], allowed=[0]), "warning", "2 ranks for 1 core: node1 has"),
    (None, "cores", dict(quota=1.5), "warning", "the cgroup of node1 grants the time of"),
    (None, "memory", dict(free=64 << 20), "warning", "train takes the route flat"),
    (2, "memory", dict(error="No space left"), "fault", "/dev/shm on node2 has 16,384 MiB free"),
    (None, "memory", dict(available=1 << 30), "fault", "node1 has 1,024 MiB of memory left"),
    (1, "memory", dict(no_standby="/dev/shm has 1 MiB"), "warning", "standby none: /dev/shm"),
    (0, "network", dict(addresses={"node1": ["10.0.0.1"], "node2": []}), "warning",
     "node1 can't resolve the name node2"),
    (0, "network", dict(addresses={"node1": ["10.0.0.1"], "node2": ["127.0.1.1"]}), "warning",
     "the name node2 means 127.x"),
    (0, "network", dict(slow=1), "warning", "takes more than 5 s to look up on node1"),
    (0, "network", dict(reverse={"node1": ["10.0.0.9"]}), "warning", "the address of node1 has a"),
    (None, "network", dict(interfaces={"docker0": "172.17.0.1"}), "warning",
     "node1, node2 all have 172.17.0.1 on docker0"),
    (0, "network", dict(interfaces={"virbr0": "192.0.2.1"}, used="virbr0"), "warning",
     "node1 reaches other hosts over virbr0"),
    (2, "data", dict(error="no data folder data; make one"), "fault",
     "rank 2 on node2: no data folder data; give every host the same shards"),
    (2, "data", dict(facts={"the data set": "def"}), "fault",
     "ranks differ in the data set: abc on node1, node2, def on node2"),
    (None, "data", dict(shards=2), "fault", "4 ranks for 2 shards"),
    (None, "data", dict(rate=2.0, bytes=1e9), "warning", "node1, node2 reads 2 MB/s"),
    (0, "out", dict(error="can't write to out: Read-only file system"), "fault",
     "node1 (rank 0): can't write to out: Read-only file system"),
    (3, "out", dict(seen=False), "warning", "node2 can't see what rank 0 writes"),
    (3, "out", dict(kept_out=False), "warning", "a lock of the folder keeps nobody out on node2"),
    (0, "out", dict(free=100 << 20), "fault", "100 MiB are free"),
    (0, "out", dict(free=400 << 20), "warning", "400 MiB are free"),
    (0, "out", dict(checkpoint_seconds=90.0), "warning", "a checkpoint takes about 90 s"),
    (0, "exchange", dict(wrong="what rank 1 adds"), "fault", "the sum over ranks is wrong"),
    (0, "exchange", dict(seconds={"16777216": 2.0}), "warning", "0.07 Gbit/s leave each host"),
    (3, "speed", dict(alone=70.0), "ok", ""),  # rank 2 has the same cores
    (None, "speed", dict(together=40.0), "warning", "ranks on node1 keep 40% of their speed"),
    (None, "step", dict(others=0.6), "warning",
     "60.0 MB leave each host, for which the link takes 60%"),
    (0, "step", dict(error="the exchange alone takes about 9 s of a step"), "warning",
     "the exchange alone takes about 9 s"),
]  # fmt: skip


@pytest.mark.parametrize(("rank", "subject", "found", "level", "words"), FAULTS)
def test_a_fault_is_found(
    rank: int | None, subject: str, found: dict[str, Any], level: str, words: str
) -> None:
    world = sound()
    for each in world if rank is None else [world[rank]]:
        each[subject] |= found
    wrong = bad(world)
    if level == "ok":
        assert not wrong
        return
    # The same fault on both hosts is a line for each.
    assert {finding.check for finding in wrong} == {subject}
    assert words in str(wrong[0])
    assert wrong[0].level == LEVELS[level]
    last = text(world, wrong).splitlines()[-1]
    assert last.startswith("0 faults") == (level == "warning")


@pytest.mark.parametrize(
    ("name", "level"),
    [("the version of dist_vgg", "fault"), ("the version of NumPy", "fault"),
     ("the kernels", "fault"), ("the MPI library", "fault"), ("the version of Python", "warning")],
)  # fmt: skip
def test_other_versions_are_found(name: str, level: str) -> None:
    world = sound(each=1)
    before = world[1]["program"]["versions"][name]
    world[1]["program"]["versions"][name] = "other"
    (wrong,) = bad(world)
    assert wrong.level == LEVELS[level]
    assert f"ranks differ in {name}: {before} on node1, other on node2" in wrong.found


def test_a_slow_host_and_a_slow_core_are_found() -> None:
    world = sound(3, 2)
    for rank in world[4:]:
        rank["speed"]["alone"] = 70.0
    (wrong,) = bad(world)
    assert "ranks 4-5 on node3 multiply at 70 GFLOP/s" in wrong.found
    world = sound(2, 1)
    world[1]["speed"]["alone"] = 82.0  # of two there is no middle one
    (wrong,) = bad(world)
    assert "rank 1 on node2 multiply" in wrong.found
    world = sound(3, 2)
    for rank in world:
        rank["cores"]["bound"] = [rank["rank"] % 2]
    world[3]["speed"]["alone"] = 70.0
    (wrong,) = bad(world)
    assert "rank 3 on node2 multiply at 70 GFLOP/s" in wrong.found


def test_a_clock_that_is_ahead_is_found() -> None:
    world = sound()
    for rank in world[2:]:
        rank["clocks"]["times"] = [t + 30 for t in rank["clocks"]["times"]]
    (wrong,) = bad(world)
    assert "node2 is 30 s ahead of node1" in wrong.found


@pytest.mark.parametrize(
    ("bounds", "wrong"),
    [
        ([[0, 1], [2, 3], [4, 5], [6, 7]], False),
        ([[0], [1], [0], [1]], True),  # of 8 cores two
        ([[0, 1], [0], [1], [5, 6]], True),  # three on two
        ([[0, 1, 2], [0], [1], [5]], False),
        ([[0, 1], [1, 2], [0, 2], [1]], True),  # four on three
    ],
)
def test_ranks_bound_to_too_few_cores(bounds: list[list[int]], wrong: bool) -> None:
    world = sound(1, 4)
    for rank, bound in zip(world, bounds, strict=True):
        rank["cores"]["bound"] = bound
    assert [finding.level for finding in bad(world)] == ["fault"] * wrong


def test_binding_in_turns_is_fair_where_cores_are_few() -> None:
    world = sound(1, 8, cores=2)
    for rank in world:
        rank["cores"]["bound"] = [rank["rank"] % 2]
    (wrong,) = bad(world)
    assert wrong.level == "warning"
    assert "8 ranks for 2 cores" in wrong.found


def test_slurm_gives_each_task_a_core_of_its_own() -> None:
    world = sound(1, 2)
    for rank in world:
        rank["cores"] |= dict(bound=[rank["rank"]], allowed=[rank["rank"]])
    assert not bad(world)
    assert cores.row(world) == "2 of 2"


def test_ranks_that_share_cores_are_not_slowed_by_others() -> None:
    world = sound(1, 8, cores=2)
    for rank in world:
        rank["speed"]["together"] = 25.0
    assert [finding.check for finding in bad(world)] == ["cores"]


@pytest.mark.parametrize(
    ("megabytes", "mend"),
    [
        # 0.4 s for 8 images. Of 1.6 s for 32 the link's 0.6 s would be more than a third.
        ([60, 60, 60, 60, 60], "--micro-batch 64 "),
        ([60, 60, 40, 40, 40], "--micro-batch 32 "),
        ([60, 120, 240, 480, 960], ""),  # as where nearly all that travels are factors
    ],
)
def test_the_micro_batch_that_would_do_is_named(megabytes: list[int], mend: str) -> None:
    world = sound()
    for rank in world:
        sent = [(8 << k, 1e6 * size * (rank["rank"] % 2)) for k, size in enumerate(megabytes)]
        rank["step"] |= dict(others=0.6, sent=sent)
    (wrong,) = bad(world)
    assert wrong.mend.startswith("a faster link")
    assert mend in wrong.mend and bool(mend) == ("--micro-batch" in wrong.mend)


def test_one_host_has_no_link_to_complain_of() -> None:
    world = sound(1, 8)
    for rank in world:
        rank["step"]["others"] = 0.6
    assert not bad(world)


def test_the_report_has_a_row_for_each_host_and_all_of_json() -> None:
    world = sound(3, 2)
    findings = judge(world)
    said = text(world, findings)
    assert [line.split()[:2] for line in said.splitlines()[1:4]] == [
        ["node1", "2"], ["node2", "2"], ["node3", "2"],
    ]  # fmt: skip
    assert said.endswith("0 faults, 0 warnings")
    found = as_json(world, findings)
    assert (
        len(found["ranks"]) == 6 and found["step"]["link"] == 0.1 and found["step"]["sent"] == 60e6
    )
    assert {each["level"] for each in found["findings"]} == {OK}
