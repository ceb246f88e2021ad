"""Layers as products of smaller ones: an SVD of linear layers and 1×1 convolutions, Tucker-2 of larger kernels.

A model remembers the layers and their ranks (`Model.factors`), so that any stage builds the same layers and loads their values.
"""
