#!/usr/bin/env bash
# Train on several machines, with the supervisor: launch/hosts.sh [options of dist_vgg.train]
# Edit these five, here or as in DATA=/shared/mnist launch/hosts.sh ...:
# 1. HOSTS: the file that names the machines, as launch/hosts.example does (default: hosts)
# 2. PYTHON: that of the environment with dist_vgg, the same path everywhere (default: .venv/bin/python)
# 3. DATA: the folder with the shards, the same path everywhere (default: data)
# 4. OUT: the run's folder, on a disk that all machines share (default: run)
# 5. ssh: each machine lets you in without a password: ssh-keygen, then ssh-copy-id NAME for each
#
# It looks at each machine first, and says in a line what one lacks. MPICH and Open MPI both do; what
# is in the environment's bin goes first, then what is in PATH.
HOSTS=${HOSTS:-hosts} PYTHON=${PYTHON:-.venv/bin/python} DATA=${DATA:-data} OUT=${OUT:-run}
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# Ranks on other machines must find them, wherever they are started.
for name in HOSTS PYTHON DATA OUT; do
    [[ ${!name} == /* ]] || declare "$name=$PWD/${!name}"
done
[[ -f $HOSTS ]] || refuse "no file $HOSTS; copy launch/hosts.example there and put your machines in"
# "NAME RANKS" for each machine, of lines "NAME:RANKS", "NAME slots=RANKS" or "NAME".
machines=$(sed 's/#.*//; s/:/ /; s/slots *= *//' "$HOSTS" | awk 'NF { print $1, $2 ? $2 : 1 }')
[[ $machines ]] || refuse "$HOSTS names no machine; see launch/hosts.example"
ranks=$(awk '{ sum += $2 } END { print sum }' <<<"$machines")

look() {  # at a machine: what ends with 255 is ssh itself
    local name=$1 there status=0
    printf -v there '%q -c "import dist_vgg" && cd %q' "$PYTHON" "$DATA"
    if [[ $name == "$(hostname)" || $name == localhost ]]; then
        bash -c "$there" >/dev/null 2>&1 </dev/null || status=$?
    else
        ssh -o BatchMode=yes -o ConnectTimeout=10 "$name" "$there" >/dev/null 2>&1 </dev/null ||
            status=$?
    fi
    case $status in
    0) ;;
    255) refuse "no way into $name by ssh without a password; see that ssh $name true works" ;;
    *) refuse "$name lacks $PYTHON with dist_vgg, or the folder $DATA; it needs both there" ;;
    esac
}
while read -r name count; do
    [[ $count =~ ^[1-9][0-9]*$ ]] || refuse "$HOSTS: $name takes a number of ranks, not '$count'"
    look "$name"
done <<<"$machines"

PATH=$(dirname "$PYTHON"):$PATH
mpi=mpich options=()
if [[ $(mpirun --version 2>&1) == *"Open MPI"* ]]; then
    # It hands on only what is named; without slots= it would count each machine's cores.
    mpi=openmpi mpirun=mpirun
    for name in PATH LD_LIBRARY_PATH PYTHONPATH OPENBLAS_CORETYPE; do
        [[ -z ${!name:-} ]] || mpirun+=" -x $name"
    done
    options=(--mpirun "$mpirun")
fi
form='\1:\2'
[[ $mpi == mpich ]] || form='\1 slots=\2'
sed -E "s/(.*) (.*)/$form/" <<<"$machines" >"$HOSTS.$mpi"

exec "$PYTHON" -m dist_vgg.elastic --hostfile "$HOSTS.$mpi" -n "$ranks" \
    ${options+"${options[@]}"} -- \
    --data "$DATA" --out "$OUT" --resume if-any "$@"
