"""Images: data sets in HDF5 shards, the samples of a step, augmentation, pictures to predict.

This room knows no MPI and no network: plain integers say which shards a rank hosts. It uses
`base`. Start with shards.py; deal.py shares samples out among them, dataset.py opens a folder of
them and staging.py replaces one, batches.py says which samples make a step, and `normalise`
(samples.py) turns pixels into the network's input.
"""
