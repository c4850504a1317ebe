"""What every room stands on: errors, files, random streams, the machine, signals, tables.

Nothing here knows of training, MPI or the network. Of dist_vgg it uses its own files only.
Start with errors.py, which has every way in which a command may end.
"""
