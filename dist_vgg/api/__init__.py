"""The Python API: training and networks in a notebook or a script, without files or commands.

`import dist_vgg` offers its names; nothing below uses this room. It may use every room, and stands
beside the commands: it computes what they compute, with the same bits.
Start with fit.py, which is the train command without its folder.
"""
