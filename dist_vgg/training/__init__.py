"""Training: the step, the loop around it, and what both need.

trainer.py takes steps: micro_batches.py computes gradients, agree.py brings ranks to one mind, and
update.py applies the optimizer (optim.py). loop.py is the run around the steps, and
checkpointing.py what it saves. This room may use all rooms below the commands. Start with
trainer.py, whose `train_step` is the whole method.
"""
