"""The command that trains with several seeds and options, and compares the runs in one table.

variants.py says what varies, plan.py makes the runs of it (run.py), execution.py trains and
evaluates each in processes of their own (processes.py), and table.py and plot.py show the results.
It uses all rooms below; start with __main__.py.
"""
