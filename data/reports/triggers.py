"""Words that change what a sentence says of a term, chosen for reports of radiology.

After NegEx (Chapman et al. 2001, doi:10.1006/jbin.2001.1029) and ConText (Harkema et al. 2009,
doi:10.1016/j.jbi.2009.05.002); the lists are short and our own.
"""

NEGATED, UNCERTAIN, HISTORICAL, FAMILY = "negated", "uncertain", "historical", "family"
PSEUDO, STOP = "pseudo", "stop"
FORWARD, BACKWARD = "forward", "backward"

# (what the words mean, which way they look): the words.
TRIGGERS: dict[tuple[str, str], tuple[str, ...]] = {
    (NEGATED, FORWARD): (
        "no", "not", "without", "denies", "denied", "no evidence of", "no sign of", "no signs of",
        "negative for", "free of", "absence of", "absent", "rules out", "ruled out for",
        "rather than", "resolution of", "resolved", "clear of", "never", "fails to reveal",
        "does not show", "do not see", "neither", "nor", "no longer", "cleared of",
    ),
    (NEGATED, BACKWARD): (
        "is ruled out", "was ruled out", "are ruled out", "has been ruled out", "unlikely",
        "is absent", "are absent", "not seen", "not identified", "not present", "not demonstrated",
        "not evident", "not visualized", "has resolved", "have resolved", "is excluded",
        "was excluded", "has cleared", "have cleared", "is negative", "none",
    ),
    (UNCERTAIN, FORWARD): (
        "possible", "possibly", "probable", "probably", "may represent", "may reflect", "may be",
        "might be", "could represent", "could be", "could reflect", "suspicious for", "suspected",
        "suspect", "concern for", "concerning for", "questionable", "question of", "cannot exclude",
        "cannot rule out", "can not exclude", "not excluded", "rule out", "evaluate for",
        "r/o", "versus", "suggestive of", "suggesting", "suggests", "differential includes",
        "worrisome for", "equivocal", "likely", "not rule out", "not exclude", "presumed", "?",
    ),
    (UNCERTAIN, BACKWARD): (
        "cannot be excluded", "can not be excluded", "not excluded", "is possible", "are possible",
        "is suspected", "not be excluded", "is likely", "is not ruled out", "not ruled out",
        "is questionable", "is considered", "versus", "cannot be ruled out", "?",
    ),
    (HISTORICAL, FORWARD): (
        "history of", "h/o", "hx of", "past history of", "status post", "s/p", "previous",
        "previously", "prior", "known prior", "old", "remote", "in the past", "history",
    ),
    (HISTORICAL, BACKWARD): ("in the past", "years ago", "last year", "in childhood"),
    (FAMILY, FORWARD): (
        "family history of", "family history", "mother", "father", "sister", "brother", "maternal",
        "paternal", "aunt", "uncle", "grandmother", "grandfather", "son", "daughter",
    ),
}  # fmt: skip
# These look like triggers and are none.
PSEUDOS = (
    "previously noted", "previously seen", "previously described",
    "no change", "no significant change", "no interval change", "no increase", "not only",
    "no significant interval change", "without change", "without significant change", "no further",
    "not certain whether", "not necessarily", "without difficulty", "old man", "old woman",
    "years old", "year old", "prior study", "prior exam", "prior examination", "prior radiograph",
    "previous study", "previous exam", "previous examination", "previous radiograph",
    "compared to prior", "compared with prior", "compared to previous", "compared with previous",
)  # fmt: skip
# Behind these, a trigger says nothing any more.
STOPS = (
    "but", "however", "although", "though", "except", "apart from", "aside from", "nevertheless",
    "still", "yet", "which", "secondary to", "due to", "cause of", "as a cause of", "now has",
    "now with", "currently", "presents with", "presenting with", ";",
)  # fmt: skip
# Headings of sections that say why the image was made and how.
ASKED = (
    "INDICATION", "INDICATIONS", "HISTORY", "CLINICAL HISTORY", "CLINICAL INFORMATION",
    "CLINICAL INDICATION", "REASON FOR EXAM", "REASON FOR EXAMINATION", "REASON FOR STUDY",
    "COMPARISON", "COMPARISONS", "TECHNIQUE", "EXAM", "EXAMINATION", "STUDY", "PROCEDURE",
)  # fmt: skip
