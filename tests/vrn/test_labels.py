import dataclasses

import numpy as np
import pytest

from data import tables
from data.errors import UserError
from vrn import labels as labels_lib
from vrn.labels import Labels

IDS = np.array([f"0123456789ab-0-{seed}" for seed in range(5)])


def table(*rows: tuple[int, str, int, float]) -> Labels:
    """Rows of (image, rater, verdict, time)."""
    verdicts = np.array([row[2] for row in rows])
    return Labels(
        sample_id=IDS[[row[0] for row in rows]],
        rater=np.array([row[1] for row in rows]),
        label=np.array(labels_lib.KINDS)[verdicts],
        score=verdicts.astype(float),
        seconds=np.ones(len(rows)),
        time=np.array([row[3] for row in rows], float),
    )


def test_round_trip(tmp_path):
    scores = np.array([0.0, 0.4999, 0.5, 0.9, 1.0])
    written = labels_lib.from_scores(IDS, "auto:knn", scores, 0.25)
    labels_lib.write_labels(tmp_path / "labels.parquet", written)
    found = labels_lib.read_labels(tmp_path / "labels.parquet")
    for field in dataclasses.fields(Labels):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(written, field.name))
    assert found.label.tolist() == ["non-real-like"] * 2 + ["real-like"] * 3
    np.testing.assert_array_equal(labels_lib.resolve(found, IDS), [0, 0, 1, 1, 1])


def test_people_overrule_annotators_and_majorities_win():
    found = labels_lib.resolve(
        table(
            (0, "auto:knn", 1, 9),
            (0, "dr a", 0, 1),  # a person, although earlier
            (1, "dr a", 1, 1),
            (1, "dr b", 1, 2),
            (1, "dr c", 0, 3),  # outvoted
            (2, "dr a", 0, 1),
            (2, "dr b", 1, 2),  # a draw: the later word
            (3, "auto:knn", 1, 1),
            (3, "auto:svm", 0, 5),
        ),
        IDS,
    )
    np.testing.assert_array_equal(found, [0, 1, 1, 0, -1])


def test_images_of_another_pool_are_ignored():
    found = labels_lib.resolve(table((0, "dr a", 1, 1), (4, "dr a", 0, 1)), IDS[:2])
    np.testing.assert_array_equal(found, [1, -1])


def test_concatenate_and_where_keep_rows():
    both = labels_lib.concatenate(table((0, "a", 1, 1)), table((1, "b", 0, 2), (2, "c", 1, 3)))
    kept = both.where(both.rater != "b")
    assert kept.sample_id.tolist() == IDS[[0, 2]].tolist()
    assert kept.time.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("label", ["real-like", "good"], "row 1 has a label other than"),
        ("score", [0.9, 1.5], "row 1 has a score outside"),
        ("score", [0.9, np.nan], "row 1 has a score outside"),
        ("score", [0.1, 0.0], "row 0 has a score on the other side"),
        ("rater", ["a", ""], "row 1 has no rater"),
        ("sample_id", ["", IDS[0]], "row 0 has no sample_id"),
        ("seconds", [-1.0, 1.0], "row 0 has negative"),
        ("time", [1.0, np.nan], "row 1 has no time"),
    ],
)
def test_bad_rows_are_named(tmp_path, column, values, message):
    bad = dataclasses.replace(table((0, "a", 1, 1), (1, "a", 0, 1)), **{column: np.array(values)})
    path = tmp_path / "labels.parquet"
    tables.write_parquet(path, dataclasses.asdict(bad))
    with pytest.raises(UserError, match=message):
        labels_lib.read_labels(path)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(UserError, match="two labels by one rater"):
        labels_lib.write_labels(tmp_path / "x", table((0, "a", 1, 1), (0, "a", 0, 2)))
    assert not (tmp_path / "x").exists()
    tables.write_parquet(tmp_path / "short.parquet", {"sample_id": IDS})
    with pytest.raises(UserError, match=r"short.parquet lacks the column\(s\) rater, label"):
        labels_lib.read_labels(tmp_path / "short.parquet")
    with pytest.raises(UserError, match=r"none\.parquet"):
        labels_lib.read_labels(tmp_path / "none.parquet")
