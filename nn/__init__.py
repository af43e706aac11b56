"""Layers that the generators, discriminators and classifiers share."""
