"""Entry point of `python -m launch.review`."""

from launch import cli, review

if __name__ == "__main__":
    cli.start(review.run)
