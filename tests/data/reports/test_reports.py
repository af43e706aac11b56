"""Sentences of radiology whose meaning a reader would not dispute."""

import pytest

from data.reports import label
from data.reports.context import mentions, sentences

PNEUMONIA = {"pneumonia": ("pneumonia*", "consolidation*"), "effusion": ("effusion*",)}


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Right lower lobe pneumonia.", "present"),
        ("There is a new consolidation in the left base.", "present"),
        ("Findings consistent with multifocal PNEUMONIA.", "present"),
        ("No pneumonia.", "absent"),
        ("No focal consolidation, effusion or pneumothorax.", "absent"),
        ("There is no evidence of acute pneumonia.", "absent"),
        ("The lungs are clear of consolidation.", "absent"),
        ("Pneumonia is ruled out.", "absent"),
        ("Consolidation is not seen.", "absent"),
        ("Pneumonia is unlikely.", "absent"),
        ("Lungs are clear without consolidation.", "absent"),
        ("The previously noted opacity is gone; negative for pneumonia.", "absent"),
        ("Possible early pneumonia.", "uncertain"),
        ("Opacity may represent pneumonia or atelectasis.", "uncertain"),
        ("Pneumonia cannot be excluded.", "uncertain"),
        ("Cannot exclude pneumonia.", "uncertain"),
        ("This does not rule out pneumonia.", "uncertain"),
        ("Atelectasis versus pneumonia.", "uncertain"),
        ("Findings concerning for pneumonia.", "uncertain"),
        ("History of pneumonia.", "not mentioned"),
        ("Status post pneumonia two years ago.", "not mentioned"),
        ("Pneumonia in childhood.", "not mentioned"),
        ("Mother had pneumonia.", "not mentioned"),
        ("Family history of recurrent pneumonia.", "not mentioned"),
        # A stop word ends what a trigger says.
        ("No effusion but there is pneumonia.", "present"),
        ("History of asthma, now with pneumonia.", "present"),
        ("No edema, although consolidation persists.", "present"),
        # These only look like triggers.
        ("No change in right lower lobe pneumonia.", "present"),
        ("No significant interval change of the consolidation.", "present"),
        ("Compared to prior study the pneumonia has grown.", "present"),
        ("Not only pneumonia but effusion.", "present"),
        # Whole words only.
        ("Bronchopneumonialike pattern. Normal.", "not mentioned"),
        ("The notch shows pneumonia.", "present"),
        ("Heart size is normal.", "not mentioned"),
        # One sentence says nothing of another; affirmation outweighs the rest.
        ("No edema. Pneumonia on the right.", "present"),
        ("No pneumonia on the left. Pneumonia on the right.", "present"),
        ("INDICATION: rule out pneumonia.\nFINDINGS: The lungs are clear.", "not mentioned"),
        ("HISTORY: Cough. Pneumonia?\nIMPRESSION: Pneumonia.", "present"),
    ],
)
def test_status(text, status):
    assert label(text, PNEUMONIA, "normal").statuses["pneumonia"] == status


def test_a_report_is_labelled_only_where_it_decides():
    def of(text):
        return label(text, PNEUMONIA, "normal").label

    assert of("Pneumonia. No effusion.") == "pneumonia"
    assert of("No pneumonia or effusion.") == "normal"
    assert of("Heart size is normal.") == "normal"
    assert of("Possible pneumonia.") == ""
    assert of("Pneumonia and effusion.") == ""
    assert of("Effusion. Pneumonia cannot be excluded.") == ""


def test_evidence_is_the_sentence_and_what_changed_it():
    found = label("The heart is large.\nNo pneumonia. Small effusion.", PNEUMONIA, "")
    told = [(x.name, x.status, x.mention.sentence, x.mention.modifiers) for x in found.evidence]
    assert told == [
        ("pneumonia", "absent", "No pneumonia.", ("negated",)),
        ("effusion", "present", "Small effusion.", ()),
    ]


def test_sentences_end_where_readers_end_them():
    text = "Nodule of 2.5 cm. Seen by Dr. Smith.\n\nFINDINGS:\n- No edema\n- Small effusion"
    assert sentences(text) == [
        "Nodule of 2.5 cm.", "Seen by Dr. Smith.", "No edema", "Small effusion",
    ]  # fmt: skip


def test_longer_terms_and_many_words():
    found = list(mentions("Pleural  effusion and effusions.", ("effusion*", "pleural effusion")))
    assert [x.term for x in found] == ["Pleural effusion", "effusions"]
    assert not list(mentions("", ("a",)))
