"""Entry point of `python -m launch.review`."""

from absl import flags

from launch import cli, review

if __name__ == "__main__":
    __doc__ = review.__doc__  # what --help begins with
    flags.adopt_module_key_flags(review)  # and what it lists
    cli.start(review.run)
