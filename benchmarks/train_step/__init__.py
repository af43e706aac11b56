"""Training steps of every network beside the same networks in PyTorch; see `main`.

Needs jax, flax, optax, numpy and absl only, and torch for the comparison.
"""
