#!/usr/bin/env bash
# From nothing to a trained VGG16: environment, 8 shards of 1,000 images, training on a rank for
# each core, evaluation. It takes 4 to 12 minutes on 2 cores, and may be run again.
#
#   launch/quickstart.sh              MNIST, downloaded; without a network, scikit-learn's digits
#   launch/quickstart.sh --raw DIR    MNIST from a folder with its four IDX files
#
# Options, which go to data_prep:
#   --raw DIR        folder with MNIST's files
#   --source NAME    auto, mnist or digits (default: auto)
#   --limit N        how many training images (default: 1000)
#   --seed N         another choice of images (default: 0)
#   --size PIXELS    side of the enlarged images (default: 64)
#   --shards N       at least 8, as many as ranks (default: 8)
#   --held-out N     N unused training images in place of the test images
# It takes no others: the data are in quickstart/data, which is replaced. Other data are made with
# python -m data_prep.
#
# Environment variables:
#   RANKS                             how many ranks, up to the number of shards; the weights are
#                                     the same (default: as many as cores, from 2 to 8)
#   PYTHON                            the Python that makes .venv, 3.10 or newer (default: python3)
#   DIST_VGG_CACHE, DIST_VGG_MIRRORS  where MNIST is kept, and where it is downloaded from
#
# Each run is a folder of its own, quickstart/run-DATE-TIME.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

check_options() {
    while (($#)); do
        case $1 in
        --raw=* | --source=* | --limit=* | --seed=* | --size=* | --shards=* | --held-out=*) shift ;;
        --raw | --source | --limit | --seed | --size | --shards | --held-out)
            shift 2 || refuse "$1 needs a value" ;;
        *) refuse "quickstart.sh takes no ${1%%=*}; see launch/quickstart.sh --help" ;;
        esac
    done
}
check_options "$@"
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
RANKS=${RANKS:-$((cores < 2 ? 2 : cores > 8 ? 8 : cores))}
[[ $RANKS =~ ^[1-9][0-9]{0,4}$ ]] || refuse "RANKS is a number of ranks, not '$RANKS'"
make_environment mpich,digits,fast "$@"

started=$SECONDS
step() { printf '\n== %s (%d s so far)\n' "$*" $((SECONDS - started)); }
run=quickstart/run-$(date +%Y%m%d-%H%M%S)

step "1/3 shards of training images"
# A folder of its own, which may be replaced: the source may be another this time.
# The ${words+...} is for bash 3, to which an empty array is an unset variable.
python -m data_prep --limit 1000 --out quickstart/data --overwrite ${words+"${words[@]}"}

step "2/3 the full VGG16 on $RANKS ranks"
mpirun -n "$RANKS" python -m dist_vgg.train --data quickstart/data --out "$run" --config quickstart

step "3/3 evaluation on the test images"
mpirun -n "$RANKS" python -m dist_vgg.evaluate "$run" --data quickstart/data

step "done"
cat <<EOF
The trained weights are in $PWD/$run/weights.h5. To use them:

  cd $PWD && source .venv/bin/activate
  python -m dist_vgg.predict $run IMAGE.png
EOF
