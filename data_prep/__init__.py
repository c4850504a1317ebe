"""Turns a set of images into the HDF5 shards that `dist_vgg` trains on: python -m data_prep.

sources.py says where images come from (mnist.py, digits.py; to add a source, start there),
selection.py which of them are used, zoom.py enlarges them, and prepare.py does all of it in order.
Of `dist_vgg` it uses `base` and `data` only: data/deal.py shares samples out among the shards.
"""
