"""The version of the package, written into every stage record."""

VERSION = "0.1.0"
