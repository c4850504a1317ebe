"""The supervisor's options: a mistake is told in one line and leaves no folder."""

from pathlib import Path

import pytest
from fake_jobs import run
from launcher import one_line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-n", 2), "put train's options after --"),
        (("-n", 1, "--min-ranks", 2, "--"), "less than --min-ranks"),
        (("-n", 1, "--min-rank", 2, "--"), "did you mean --min-ranks"),
        (("--",), "required: -n"),
        (("-n", 1, "--mpirun", "/no/mpirun", "--"), "no /no/mpirun found; pip install"),
        (("-n", 1, "--hostfile", "/bin/ls", "--"), "can't read the hosts"),
        (("-n", 1, "--", "--help"), "python -m dist_vgg.train --help"),
        (("-n", 1, "--", "--out", "LOOP"), "can't use the run's folder"),
        (("-n", 1, "--", "--debug"), "python -m dist_vgg.train --debug"),
        (("-n", 1, "--", "--resume"), "name the run to resume with --out"),
        (("-n", 1, "--hostfile", "/no/hosts", "--"), "/no/hosts"),
        (("-n", 1, "--mpirun", "false", "--", "--out", "OUT"), "mpirun started no rank"),
    ],
)
def test_mistakes_get_one_line(arguments: tuple[object, ...], words: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (tmp_path / "loop").symlink_to("loop")
    paths = {"OUT": folder, "LOOP": tmp_path / "loop"}
    status, _, errors = run(*(paths.get(str(word), word) for word in arguments))
    assert status == 2
    assert words in one_line(errors)
    assert not folder.exists()
