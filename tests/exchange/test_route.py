"""The exchange on real ranks; the tests themselves are in tests/inside_ranks."""

import launcher
import pytest
from training import INSIDE

from dist_vgg.data.shards import hosted


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])  # 5: on three pretended nodes, of 2, 2 and 1
def test_inside_ranks(ranks: int) -> None:
    """Run the tests that need ranks around them, with pytest-mpi, and see that they ran."""
    process = launcher.start(
        -ranks, "-m", "pytest", "--with-mpi", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
        "-p", "no:hypothesispytest", "--confcutdir", INSIDE,  # each rank starts a pytest
        *sorted(INSIDE.glob("check_*.py")),
    )  # fmt: skip
    status, output, errors = launcher.finish(process, timeout=300)
    assert status == 0, output + errors
    # Ranks may write into each other's lines.
    assert output.count(" passed in ") == ranks, output
    assert "failed" not in output
    assert "skipped" not in output


def test_hosted_is_fair() -> None:
    assert [len(hosted(8, 3, rank)) for rank in range(3)] == [3, 3, 2]
    assert [i for rank in range(5) for i in hosted(13, 5, rank)] == list(range(13))
