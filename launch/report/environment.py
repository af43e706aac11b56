"""Where templates of pages lie, and how they write numbers."""

import pathlib

import jinja2

from launch.report import words

_HERE = pathlib.Path(__file__).parent


def template(name: str, *folders: pathlib.Path) -> jinja2.Template:
    """A template of these folders or of the report, with the style sheet of the report at hand."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, _HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "percent": words.percent,
        "duration": words.duration,
        "with_interval": words.with_interval,
        "plain": words.plain,
        "verdict": words.verdict,
    }
    return environment.get_template(name)
