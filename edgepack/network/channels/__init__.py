"""Channels of a network as units: which slices of which weights belong to one, so that it can be moved or removed whole.

`Model.edits` keeps what was done, one dictionary a step: `kind` is "sort" or "prune", `method` the step's name, and `channels` maps each group's first
layer to the old positions of the channels that are there now, in their order.
"""
