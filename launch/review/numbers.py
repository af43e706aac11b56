"""What the statistics are made of: the study, the automatic annotators and the VRN."""

import pathlib
from typing import Any

import ml_collections
import numpy as np

from data import pools, tables
from launch import annotate, stage
from launch.review import opening
from vrn import annotators, labels
from vrn.review import consensus, statistics, study

EFFORT_FILE = "effort.json"


def gather(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, opened: study.Study | None = None
) -> dict[str, Any]:
    """All numbers of a study; those that do not exist are None or NaN.

    Raises:
      UserError: there is no study, or its rule is unknown.
    """
    opened = opened or opening.begun(config, workdir)
    ratings = opened.ratings()
    rule = opening.rule(config)
    synthetic = ~ratings.real
    verdicts = consensus.verdicts(ratings.score[:, synthetic], rule)
    machines, vrn = {}, None
    if (ratings.score == ratings.score).any():
        machines, vrn = _machines(config, workdir, ratings.sample_id[synthetic], verdicts)
    effort = workdir / opening.FOLDER / EFFORT_FILE
    return {
        "study": {
            "name": opened.name, "labels": opened.settings.labels,
            "images": len(ratings.sample_id), "real": int(ratings.real.sum()),
        },
        "raters": statistics.raters(ratings),
        "together": statistics.together(ratings),
        "consensus": {
            "rule": rule,
            "real_like": int((verdicts == 1).sum()),
            "non_real_like": int((verdicts == 0).sum()),
            "unsure": int((~np.isnan(ratings.score[:, synthetic])).any(axis=0).sum()
                          - (verdicts >= 0).sum()),
        },
        "machines": machines,
        "vrn": vrn,
        "effort": tables.read_json(effort) if effort.is_file() else None,
    }  # fmt: skip


def _machines(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    sample_ids: np.ndarray,
    verdicts: np.ndarray,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Automatic annotators and the VRN beside the raters, as far as the run has got."""
    pool = pools.open_pool(workdir / "pools" / config.review.pool)
    place = {name: row for row, name in enumerate(pool.ids)}
    rows = np.array([place[name] for name in sample_ids], int)
    machines = {}
    if config.review.pool == "first" and _complete(workdir, "annotation"):
        table = labels.read_labels(workdir / "annotation" / "labels.parquet")
        for rater in dict.fromkeys(table.rater):
            if not rater.startswith(labels.AUTO):
                continue
            votes, scores = np.full(len(pool), -1), np.full(len(pool), np.nan)
            for index in np.flatnonzero(table.rater == rater):
                row = place.get(table.sample_id[index])
                if row is not None:
                    votes[row] = labels.KINDS.index(table.label[index])
                    scores[row] = table.score[index]
            name = str(rater).removeprefix(labels.AUTO)
            machines[name] = statistics.beside(verdicts, votes[rows], scores[rows])
            machines[name]["taught"] = _taught(workdir, name)
    if not _complete(workdir, "vrn"):
        return machines, None
    point = tables.read_json(workdir / "vrn" / "calibration.json")["operating_point"]["logit"]
    scores = opening.vrn_scores(config, workdir, pool)
    # On images that it was trained on, the VRN agrees with whoever labelled them for it.
    unseen = opening.unseen_by_vrn(config, workdir, len(pool))
    votes = np.where(unseen, scores >= point, -1).astype(int)
    return machines, statistics.beside(verdicts, votes[rows], scores[rows])


def _taught(workdir: pathlib.Path, name: str) -> bool:
    """Whether an annotator learnt from reviewed labels, so that it agrees with them anyway."""
    settings = (stage.read(workdir, "annotation") or {}).get("config", {}).get("annotate", {})
    reviewed = settings.get("method", "").partition("+")[0] == annotate.REVIEW
    return reviewed and annotators.needs_labels(name, settings["members"])


def _complete(workdir: pathlib.Path, name: str) -> bool:
    record = stage.read(workdir, name)
    return record is not None and record["status"] == "complete"
