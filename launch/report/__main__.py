"""Entry point of `python -m launch.report`."""

from launch import cli, report

if __name__ == "__main__":
    cli.start(report.run)
