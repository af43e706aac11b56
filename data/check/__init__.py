"""A source looked at before it is prepared: what it holds, what is doubtful, how to train on it.

facts.py       one image: shape, values, thumbnail, digest
survey.py      all images of a source as columns
duplicates.py  images that are the same or nearly so
findings.py    what is doubtful, as sentences
suggest.py     a configuration to begin with
"""
