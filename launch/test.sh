#!/usr/bin/env bash
# Run lint and every test, those under mpirun included. It makes .venv where there is none.
#
#   launch/test.sh                       everything, several tests side by side
#   launch/test.sh -m "not processes"    lint, and the tests that start no process: a minute's work
#   launch/test.sh tests/exchange        lint, and the tests of one room
#   launch/test.sh -k resume             lint, and the tests whose name has this word
#   launch/test.sh -n 0                  everything, one test after the other
#
# Arguments go to pytest; its own options are shown by python -m pytest --help. The tests of a
# single file run one after the other.
#
# Environment variables:
#   PYTHON    the Python that makes .venv, 3.10 or newer (default: python3)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment mpich,digits,fast,export,serve,test "$@"

# One more than there are cores, since tests also wait: for a stall, a signal or a disk.
side_by_side=(-n $(($(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal)
for word in "$@"; do
    if [[ $word == *.py || $word == *.py::* ]]; then
        side_by_side=()
    fi
done

ruff format --check .
ruff check .
lint-imports
nice mypy >/dev/null &  # beside the tests: without its cache it takes 20 s
types=$!
if (($# == 0)); then
    python -m pytest "${side_by_side[@]}" -m "not alone"
    # Only the files that have such tests: to collect all others would take longer than to run these.
    grep -rlZ --include='test_*.py' 'mark\.alone' tests | xargs -0 python -m pytest -m alone
else
    python -m pytest --quiet tests/test_limits.py  # lint, too: ruff has no rule for lengths in lines
    python -m pytest ${side_by_side[@]+"${side_by_side[@]}"} "$@"
fi
wait $types || mypy  # again, to be read
