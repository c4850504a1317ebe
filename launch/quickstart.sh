#!/usr/bin/env bash
# From nothing to a trained VGG16: environment, shards of 1,000 images, training on 8 ranks,
# evaluation. Arguments go to data_prep, e.g. --raw DIR for a folder with MNIST's IDX files.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" mpich,digits "$@"

started=$SECONDS
step() { printf '\n== %s (%d s so far)\n' "$*" $((SECONDS - started)); }
run=quickstart/run-$(date +%Y%m%d-%H%M%S)

step "1/3 shards from 1,000 training images"
# A folder of its own, which may be replaced: the source may be another this time.
python -m data_prep --limit 1000 --out quickstart/data --overwrite "${words[@]}"

step "2/3 the full VGG16 on 8 ranks"
mpirun -n 8 python -m dist_vgg.train --data quickstart/data --out "$run" \
    --config launch/quickstart.toml

step "3/3 evaluation on the test images"
mpirun -n 8 python -m dist_vgg.evaluate "$run" --data quickstart/data

step "done"
cat <<EOF
The trained weights are in $PWD/$run/weights.h5. To use them:

  cd $PWD && source .venv/bin/activate
  python -m dist_vgg.predict $run IMAGE.png
EOF
