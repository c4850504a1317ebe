#!/usr/bin/env bash
# From raw data to a number in the README: launch/recipe.sh mnist-100, mnist-1000 or mnist-60000.
# Further arguments go to data_prep, e.g. --raw DIR for a folder with MNIST's IDX files.
# SEEDS="0,1" takes other seeds. It may be stopped; the same command goes on.
set -euo pipefail
name=${1:-}
case $name in
mnist-100) limit=100 seeds=0,1,2,3,4 held_out=2000 ;;
mnist-1000) limit=1000 seeds=0,1,2 held_out=2000 ;;
mnist-60000) limit=60000 seeds=0 held_out=0 ;;
*)
    echo "error: unknown recipe '$name'; choose mnist-100, mnist-1000 or mnist-60000" >&2
    exit 2
    ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" mpich "${@:2}"

quoted=$(python -c 'import shlex, sys; print(shlex.join(sys.argv[1:]))' "${words[@]}")
# The data have two shards: on two cores that is the fastest way to small batches.
exec python -m dist_vgg.sweep -n 2 --out "recipes/$name" --seeds "${SEEDS:-$seeds}" \
    --prepare "--source mnist --limit $limit --shards 2 $quoted" --held-out $held_out -- --config "launch/$name.toml"
