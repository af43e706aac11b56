"""Experiments: one `get_config()` per file; a docstring tells command, hardware, time and score."""
