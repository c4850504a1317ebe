"""dist_vgg.train with ranks that take themselves for hosts of one rank each; run under mpirun."""

from dist_vgg import train
from dist_vgg.exchange import nodes
from dist_vgg.mpi.command import run_command

nodes.crowded = lambda comm: False
run_command("dist_vgg.train", train.main)
