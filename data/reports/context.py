"""What a sentence says of a term: the ConText algorithm (Harkema et al. 2009)."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator

from data.reports.triggers import (
    ASKED,
    BACKWARD,
    FORWARD,
    PSEUDO,
    PSEUDOS,
    STOP,
    STOPS,
    TRIGGERS,
)  # fmt: skip

# Ends of sentences, blank lines, and bullets; not the points of "Dr." or "2.5".
_SENTENCE = re.compile(
    r"(?<!\b[DM]r\.)(?<!\bvs\.)(?<=[.!?:])\s+(?=[A-Z0-9(-])|\n\s*\n|(?:\n|^)\s*[-*•]\s*"
)
_HEADING = re.compile(r"(?:^|(?<=[.\n]))\s*([A-Z][A-Z /]{2,40}):")


@dataclasses.dataclass(frozen=True)
class Mention:
    """A term in a sentence.

    Attributes:
        term: as the report spells it.
        sentence: around it.
        modifiers: what is said of it, names of `triggers`, sorted; empty where it is affirmed.
    """

    term: str
    sentence: str
    modifiers: tuple[str, ...]


def sentences(text: str) -> list[str]:
    """Sentences of a report, their white space made single, without what was asked for.

    Sections whose heading in capitals is one of `ASKED` tell the question, not the answer.
    """
    head, *rest = _HEADING.split(text)
    sections = [("", head), *zip(rest[::2], rest[1::2], strict=True)]
    told = (body for heading, body in sections if heading.strip() not in ASKED)
    parts = (" ".join(part.split()) for body in told for part in _SENTENCE.split(body))
    return [part for part in parts if part]


def mentions(text: str, terms: Iterable[str]) -> Iterator[Mention]:
    """Every occurrence of one of the terms, in the order of the text.

    Args:
        text: of a report.
        terms: words or phrases; ``*`` at the end of a word stands for any ending.
    """
    pattern = _pattern(tuple(terms))
    for sentence in sentences(text):
        found = list(pattern.finditer(sentence))
        if found:
            marks = _marks(sentence)
            for match in found:
                modifiers = sorted(_modifiers(match.start(), match.end(), marks))
                yield Mention(match[0], sentence, tuple(modifiers))


@functools.lru_cache(maxsize=256)
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Whole words of any of the phrases, the longest first."""
    ordered = sorted(set(phrases), key=lambda phrase: (-len(phrase), phrase))
    bodies = (re.escape(phrase).replace(r"\*", r"\w*").replace(r"\ ", r"\s+") for phrase in ordered)
    return re.compile(rf"(?<!\w)(?:{'|'.join(bodies)})(?!\w)", re.IGNORECASE)


@functools.cache
def _kinds() -> dict[str, list[tuple[str, str]]]:
    """Phrase to what it means and which way it looks; some look both ways."""
    kinds: dict[str, list[tuple[str, str]]] = {phrase: [(PSEUDO, "")] for phrase in PSEUDOS}
    kinds |= {phrase: [(STOP, "")] for phrase in STOPS}
    for kind, phrases in TRIGGERS.items():
        for phrase in phrases:
            kinds.setdefault(phrase, []).append(kind)
    return kinds


def _marks(sentence: str) -> list[tuple[int, int, str, str]]:
    """Triggers and stops of a sentence: start, end, meaning, direction."""
    kinds = _kinds()
    return [
        (match.start(), match.end(), *kind)
        for match in _pattern(tuple(kinds)).finditer(sentence)
        for kind in kinds[" ".join(match[0].lower().split())]
    ]


def _modifiers(start: int, end: int, marks: list[tuple[int, int, str, str]]) -> set[str]:
    """What the triggers around a term say of it, up to the next stop."""
    stops = [first for first, _, meaning, _ in marks if meaning == STOP]
    found = set()
    for first, last, meaning, direction in marks:
        before = direction == FORWARD and last <= start
        after = direction == BACKWARD and first >= end
        low, high = (last, start) if before else (end, first)
        if (before or after) and not any(low <= stop < high for stop in stops):
            found.add(meaning)
    return found
