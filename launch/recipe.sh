#!/usr/bin/env bash
# From raw data to an accuracy in docs/results/: environment, data, training, evaluation of each seed.
#
#   launch/recipe.sh mnist-100      100 images, 5 seeds: half an hour
#   launch/recipe.sh mnist-1000     1,000 images, 3 seeds: three quarters of an hour
#   launch/recipe.sh mnist-60000    all images, 1 seed: an hour and three quarters, by the speed of a step
#   launch/recipe.sh mnist-narrow   all images, an eighth, a quarter and half of the width: nearly 2 hours
#   launch/recipe.sh fashion-mnist  55,000 images of 32x32 pixels, half the width: 17 minutes
#   launch/recipe.sh cifar10        45,000 images of 32x32 pixels, half the width: 27 minutes
#
# The times are of the 2 cores of docs/results/. It may be stopped; the same command goes on. What it
# writes is in recipes/NAME.
#
# Options behind the name go to data_prep, e.g.
#   --raw DIR    folder with the files of the data set; without it they are downloaded
#
# Environment variables:
#   SEEDS     other seeds, as in SEEDS=0,1 launch/recipe.sh mnist-100
#   PRECISION bfloat16: train and evaluate in it, see docs/how/precision.md; it then writes
#             recipes/NAME-bfloat16
#   PYTHON    the Python that makes .venv, 3.10 or newer (default: python3)
#   DIST_VGG_CACHE, DIST_VGG_MIRRORS
#             where downloads are kept, and where they come from
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

name=${1:-}
names="mnist-100, mnist-1000, mnist-60000, mnist-narrow, fashion-mnist or cifar10"
vary=()
case $name in
mnist-100) data='mnist --limit 100' seeds=0,1,2,3,4 held_out=2000 ;;
mnist-1000) data='mnist --limit 1000' seeds=0,1,2 held_out=2000 ;;
mnist-60000) data='mnist --limit 60000' seeds=0 held_out=0 ;;
mnist-narrow) data='mnist --limit 60000' seeds=0 held_out=0 vary=(--vary width=0.125,0.25,0.5) ;;
fashion-mnist) data='fashion-mnist --size 32 --limit 55000' seeds=0 held_out=5000 ;;
cifar10) data='cifar10 --size 32 --limit 45000' seeds=0 held_out=5000 ;;
"") refuse "name a recipe: $names; see launch/recipe.sh --help" ;;
*) refuse "unknown recipe '$name'; choose $names" ;;
esac
make_environment mpich,fast "${@:2}"

out=recipes/$name precision=()
if [[ ${PRECISION:-float32} != float32 ]]; then
    out+=-$PRECISION
    precision=(--precision "$PRECISION")
fi
quoted=$(python -c 'import shlex, sys; print(shlex.join(sys.argv[1:]))' ${words+"${words[@]}"})
# The data have two shards: on two cores that is the fastest way to small batches.
exec python -m dist_vgg.sweep -n 2 --out "$out" --seeds "${SEEDS:-$seeds}" \
    ${vary[@]+"${vary[@]}"} \
    --prepare "--source $data --shards 2 $quoted" --held-out $held_out -- --config "$name" \
    ${precision[@]+"${precision[@]}"}
