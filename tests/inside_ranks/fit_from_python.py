"""Fit and score on all ranks from Python: each rank prints what it has got.

fit_from_python.py FOLDER OPTIONS: a folder of shards, and options of TrainConfig as JSON
"""

import json
import sys

from mpi4py import MPI

from dist_vgg import Dataset, TrainConfig, fit

folder, options = sys.argv[1:]
comm = MPI.COMM_WORLD
model = fit(Dataset.open(folder), TrainConfig(**json.loads(options)), comm=comm)
score = model.score(Dataset.open(folder, "test"), comm=comm)
sys.stdout.write(json.dumps([model.sha256, score.loss, score.confusion.tolist()]) + "\n")
