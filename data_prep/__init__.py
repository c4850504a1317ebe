"""Turns MNIST into the HDF5 shards that `dist_vgg` trains on: python -m data_prep."""
