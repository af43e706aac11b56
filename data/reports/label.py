"""Reports to labels."""

import dataclasses
from collections.abc import Mapping, Sequence

from data.reports.context import Mention, mentions
from data.reports.triggers import FAMILY, HISTORICAL, NEGATED, UNCERTAIN

PRESENT, MAYBE, ABSENT, SILENT = "present", "uncertain", "absent", "not mentioned"
_ORDER = (PRESENT, MAYBE, ABSENT)  # one mention of an earlier kind outweighs all of a later one


@dataclasses.dataclass(frozen=True)
class Finding:
    """A mention of a finding and what it counts as: `PRESENT`, `MAYBE`, `ABSENT` or `SILENT`."""

    name: str
    status: str
    mention: Mention


@dataclasses.dataclass(frozen=True)
class Labelled:
    """What a report says.

    Attributes:
        label: class name; '' where the report does not decide.
        statuses: {finding: its status over the whole report}.
        evidence: every mention of every finding.
    """

    label: str
    statuses: Mapping[str, str]
    evidence: tuple[Finding, ...]


def label(text: str, findings: Mapping[str, Sequence[str]], normal: str) -> Labelled:
    """Label a report.

    A finding that is affirmed anywhere is present; otherwise uncertain if it is so anywhere;
    otherwise absent if it is negated. What is historical or of the family counts as not mentioned.
    The label is the only finding that is present while none is uncertain, or ``normal`` where
    neither is any; where several are present or one is uncertain, there is none.

    Args:
        text: of the report.
        findings: {class name: its terms}.
        normal: class name of reports without a finding; '' for none.
    """
    evidence = tuple(
        Finding(name, _status(mention), mention)
        for name, terms in findings.items()
        for mention in mentions(text, terms)
    )
    statuses = {name: _overall(name, evidence) for name in findings}
    present = [name for name, status in statuses.items() if status == PRESENT]
    if MAYBE in statuses.values() or len(present) > 1:
        return Labelled("", statuses, evidence)
    return Labelled(present[0] if present else normal, statuses, evidence)


def _status(mention: Mention) -> str:
    if HISTORICAL in mention.modifiers or FAMILY in mention.modifiers:
        return SILENT
    if UNCERTAIN in mention.modifiers:  # also of 'cannot exclude', which negates as well
        return MAYBE
    return ABSENT if NEGATED in mention.modifiers else PRESENT


def _overall(name: str, evidence: Sequence[Finding]) -> str:
    found = {finding.status for finding in evidence if finding.name == name}
    return next((status for status in _ORDER if status in found), SILENT)
