"""Several raters, one verdict per image: the majority, or votes weighted by agreement."""

from __future__ import annotations

import numpy as np

from evaluation import agreement
from vrn import labels
from vrn.review.study import Ratings

RULES = ("majority", "weighted")


def votes(scores: np.ndarray) -> np.ndarray:
    """Scores [R, N] as votes: 1 real-like, 0 not, NaN unsure or unseen."""
    return np.where(np.isnan(scores) | (scores == 0.5), np.nan, scores > 0.5)


def weights(cast: np.ndarray) -> np.ndarray:
    """How much each rater's vote counts: mean Cohen kappa with each other rater, at least 0.

    All count alike where nobody agrees with anybody, and a rater who shares no image with another,
    so that nothing is known of them, counts as the mean of the rest.

    Args:
      cast: [R, N] as `votes` gives them.
    """
    found = np.full(len(cast), np.nan)
    for one in range(len(cast)):
        kappas = []
        for other in range(len(cast)):
            both = ~np.isnan(cast[one]) & ~np.isnan(cast[other])
            kappa = agreement.cohen(cast[one, both], cast[other, both]) if one != other else None
            if kappa is not None:
                kappas.append(max(0.0, kappa))
        if kappas:
            found[one] = np.mean(kappas)
    if np.isnan(found).all() or np.nansum(found) == 0:
        return np.ones(len(cast))
    return np.where(np.isnan(found), np.nanmean(found), found)


def share_real_like(scores: np.ndarray, rule: str) -> np.ndarray:
    """Weighted share [N] of the decided votes that say real-like; NaN where nobody decided.

    Args:
      scores: [R, N], NaN where a rater has not labelled an image.
      rule: one of `RULES`.
    """
    cast = votes(scores)
    weight = weights(cast) if rule == "weighted" else np.ones(len(cast))
    each = weight[:, None] * ~np.isnan(cast)
    total = each.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (each * np.nan_to_num(cast)).sum(axis=0) / total
    return np.where(total > 0, share, np.nan)


def decided(share: np.ndarray) -> np.ndarray:
    """Where `share_real_like` [N] is a verdict: not a tie, and not without a vote."""
    return ~np.isnan(share) & (np.abs(share - 0.5) > 1e-9)


def verdicts(scores: np.ndarray, rule: str) -> np.ndarray:
    """int8 [N]: 1 real-like, 0 non-real-like, -1 unsure (a tie, or no vote)."""
    share = share_real_like(scores, rule)
    return np.where(decided(share), np.nan_to_num(share) > 0.5, -1).astype(np.int8)


def table(ratings: Ratings, sample_ids: np.ndarray, rule: str) -> labels.Labels:
    """Rows for labels.parquet: of every rater, and of `labels.TOGETHER + rule`, all together.

    Labels that decide nothing have no row there: the table knows real-like and not.

    Args:
      ratings: of the study.
      sample_ids: str [M], the pool; other images are left out.
      rule: one of `RULES`.
    """
    columns = np.flatnonzero(np.isin(ratings.sample_id, sample_ids) & ~ratings.real)
    scores, seconds = ratings.score[:, columns], ratings.seconds[:, columns]
    share = share_real_like(scores, rule)
    last = np.full(len(columns), -np.inf)
    parts = []
    for row, rater in enumerate(ratings.raters):
        chosen = np.flatnonzero(~np.isnan(votes(scores[row])))
        when = ratings.time[row, columns]
        last[chosen] = np.maximum(last[chosen], when[chosen])
        parts.append(
            _rows(
                ratings.sample_id[columns[chosen]], rater, scores[row, chosen],
                seconds[row, chosen], when[chosen],
            )
        )  # fmt: skip
    chosen = np.flatnonzero(decided(share))
    parts.append(
        _rows(
            ratings.sample_id[columns[chosen]], labels.TOGETHER + rule, share[chosen],
            np.nansum(seconds, axis=0)[chosen], last[chosen],
        )
    )  # fmt: skip
    return labels.concatenate(*parts)


def _rows(
    sample_ids: np.ndarray, rater: str, score: np.ndarray, seconds: np.ndarray, time: np.ndarray
) -> labels.Labels:
    kinds = np.asarray(labels.KINDS)[(score >= 0.5).astype(int)]
    return labels.Labels(
        sample_ids.astype(np.str_), np.full(len(score), rater), kinds, score, seconds, time
    )
