"""Labels from English radiology reports, by rules that can be read and checked.

context.py   what a sentence says of a term: affirmed, negated, uncertain, historical, of the family
triggers.py  the words by which that is known
label.py     reports to labels, with a table of the sentences they rest on
"""

from data.reports.label import Finding, Labelled, label

__all__ = ["Finding", "Labelled", "label"]
