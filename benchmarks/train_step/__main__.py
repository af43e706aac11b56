"""`python -m benchmarks.train_step`: see `benchmarks.train_step.main`."""

import os

# JAX otherwise takes three quarters of an accelerator's memory before PyTorch sees it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


from benchmarks import options
from benchmarks.train_step import main

if __name__ == "__main__":
    options.run(main.main, main.FLAGS)
