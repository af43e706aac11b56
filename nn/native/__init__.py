"""The one room with C++: maps of convolutions that XLA computes more slowly on CPU."""
