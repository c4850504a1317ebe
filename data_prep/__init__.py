"""Turns a set of images into the HDF5 shards that `dist_vgg` trains on: python -m data_prep.

sources.py says where images come from (known sets are in mnist.py, fashion_mnist.py, cifar10.py
and digits.py, a user's own in folder.py, idx_files.py and npz.py; to add a source, start there),
selection.py which of them are used, writing.py resizes them and writes them by way of spool.py,
and prepare.py does all of it in order. Of `dist_vgg` it uses `base` and `data` only:
data/pictures.py reads pictures, and data/deal.py shares samples out among the shards.
"""
