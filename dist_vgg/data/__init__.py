"""Images: the HDF5 shards, which samples make a step, augmentation, and pictures to predict.

Plain integers say which shards a rank hosts; this room knows no MPI and no network. It uses
`base`. Start with shards.py.
"""
