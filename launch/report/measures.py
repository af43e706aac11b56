"""Numbers about the pools: agreement, class histograms, copying, likeness to real images."""

import math
import tempfile
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from data.records import IN_MEMORY_BYTES, Records
from evaluation import fidelity, memorisation
from launch.report.collect import POOLS, Found

# Pixel distances are taken on images averaged down to this size: finer detail is mostly noise.
PIXELS = 32
# Random thinnings to equal counts that the fidelity metrics are averaged over.
REPEATS = 5
NEIGHBOURS = 5
# Images looked at together.
BLOCK = 4096


def annotation(found: Found) -> dict[str, Any]:
    """Counts of the annotated pool, and how far each rater agrees with the final word."""
    rated = found.verdict >= 0
    raters = {}
    for rater, (verdict, _) in found.ratings.items():
        both = rated & (verdict >= 0)
        one_kind = len(np.unique(found.verdict[both])) < 2 and len(np.unique(verdict[both])) < 2
        raters[rater] = {
            "images": int((verdict >= 0).sum()),
            "real_like_share": float(np.mean(verdict[verdict >= 0])) if both.any() else None,
            # Kappa is 0/0 where both raters use the same single word.
            "kappa": None if one_kind else cohen_kappa_score(found.verdict[both], verdict[both]),
        }
    return {
        "images": int(rated.sum()),
        "real_like": int((found.verdict == 1).sum()),
        "non_real_like": int((found.verdict == 0).sum()),
        "raters": raters,
    }


def histograms(found: Found) -> dict[str, Any]:
    """Classes asked of the generator beside classes that a classifier trained on reals sees.

    The classifier is a linear one on the shared features. It errs on real images too, so the same
    histogram of the real test images is given for comparison.
    """
    train = found.embeddings["train"]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    classifier.fit(train, found.real["train"].labels)
    second = found.pools["second"].labels
    sets = {
        "real test images": ("test", found.real["test"].labels, None),
        "first pool": ("first", found.pools["first"].labels, None),
        "second pool": ("second", second, None),
    }
    for name, filtered in found.filters.items():
        sets[f"kept by {name}"] = ("second", second, filtered.kept)
    predicted = {
        source: _predict(classifier, found.embeddings[source]) for source in ("test", *POOLS)
    }
    count, result = len(found.class_names), {}
    for name, (source, labels, kept) in sets.items():
        rows = np.arange(len(labels)) if kept is None else np.flatnonzero(kept)
        seen = predicted[source][rows]
        shares = fidelity.class_histogram(seen, count)["shares"]
        asked = np.bincount(labels[rows], minlength=count) / len(rows)
        result[name] = {
            "images": len(rows),
            "asked": asked,
            "seen": shares,
            "agreement": float(np.mean(seen == labels[rows])),
            "total_variation": float(np.abs(shares - asked).sum() / 2),
        }
    return result


def _predict(classifier: Pipeline, features: np.ndarray) -> np.ndarray:
    """Predicted classes [N] of features [N, F], which may lie on disk."""
    starts = range(0, len(features), BLOCK)
    return np.concatenate([classifier.predict(features[i : i + BLOCK]) for i in starts])


def vectors(found: Found, space: str) -> dict[str, np.ndarray]:
    """What distances are taken between, float [N, F]: the second pool, what the GAN saw, the rest.

    Args:
      found: work directory.
      space: `features` or `pixels`.

    Returns:
      'fakes', 'seen' (training images, then the unlabelled ones where they are at hand) and
      'unseen' (validation and test).
    """
    if space == "features":
        tables = found.embeddings
    else:
        images = found.real | {"second": found.pools["second"]}
        tables = {name: _small(records) for name, records in images.items()}
    seen = [tables[name] for name in ("train", "unlabelled") if name in tables]
    return {
        "fakes": tables["second"],
        "seen": np.concatenate(seen),
        "unseen": np.concatenate([tables["val"], tables["test"]]),
    }


def _small(records: Records) -> np.ndarray:
    """Images as rows, averaged over blocks to about `PIXELS` pixels a side; large sets on disk."""
    height, width, channels = records.image_shape
    block = max(1, height // PIXELS)
    rows, columns = height // block, width // block
    shape = (len(records), rows * columns * channels)
    if 4 * shape[0] * shape[1] < IN_MEMORY_BYTES:
        small = np.empty(shape, np.float32)
    else:
        with tempfile.TemporaryFile() as file:  # its name is gone, its content lasts as the array
            small = np.memmap(file, np.float32, "w+", shape=shape)
    for start in range(0, len(records), BLOCK):
        images = records.read(np.arange(start, min(start + BLOCK, len(records))))
        images = images[:, : rows * block, : columns * block]
        blocks = images.reshape(len(images), rows, block, columns, block, channels)
        small[start : start + len(images)] = blocks.mean((2, 4)).reshape(len(images), -1)
    return small


def copying(found: Found, space: str) -> dict[str, Any]:
    """Memorisation of the second pool; suspects are named by sample id.

    Real images are named by split and row ("train 12"): an id may carry a patient's name.
    """
    rows = vectors(found, space)
    result = memorisation.memorisation(rows["fakes"], rows["seen"], rows["unseen"])
    names = np.array(
        [
            f"{name} {row}"
            for name in ("train", "unlabelled")
            if name in found.real
            for row in range(len(found.real[name]))
        ]
    )
    suspects = found.pools["second"].ids_at(np.array(result["suspects"]))
    result["suspects"] = np.array(suspects.to_pylist())
    result["suspects_nearest"] = names[result["suspects_nearest"]]
    return result


def likeness(found: Found) -> dict[str, Any]:
    """Fidelity and coverage against the real test images, at equal counts and class mixture.

    Held-out real images (validation) against the test images are the floor: nothing synthetic can
    be expected to come closer.
    """
    second = found.pools["second"]
    everything = np.ones(len(second), bool)
    sets = {"second pool": everything} | {
        f"kept by {name}": filtered.kept for name, filtered in found.filters.items()
    }
    labels = {"test": found.real["test"].labels, "real validation": found.real["val"].labels}
    features = {"test": found.embeddings["test"], "real validation": found.embeddings["val"]}
    places = {name: np.arange(len(rows)) for name, rows in features.items()}
    for name, mask in sets.items():
        labels[name], features[name] = second.labels[mask], found.embeddings["second"]
        places[name] = np.flatnonzero(mask)
    classes = range(len(found.class_names))
    counts = [min(int(np.sum(one == k)) for one in labels.values()) for k in classes]
    count, dimension = sum(counts), features["test"].shape[1]
    if count <= NEIGHBOURS:
        return {"images": count, "sets": {}}
    values: dict[str, list[dict[str, float]]] = {name: [] for name in labels if name != "test"}
    for repeat in range(REPEATS):
        rng = np.random.default_rng(repeat)
        chosen = {name: places[name][_stratified(labels[name], counts, rng)] for name in labels}
        thin = {name: features[name][rows] for name, rows in chosen.items()}
        for name, collected in values.items():
            collected.append(_distances(thin["test"], thin[name], count > dimension, repeat))
    return {
        "images": count,
        "sets": {
            name: {key: float(np.mean([one[key] for one in many])) for key in many[0]}
            for name, many in values.items()
        },
    }


def _stratified(labels: np.ndarray, counts: list[int], rng: np.random.Generator) -> np.ndarray:
    """Rows of `counts[k]` random images of each class k."""
    chosen = [rng.permutation(np.flatnonzero(labels == k))[:n] for k, n in enumerate(counts)]
    return np.concatenate(chosen)


def _distances(real: np.ndarray, other: np.ndarray, regular: bool, seed: int) -> dict[str, float]:
    """All fidelity metrics; the Fréchet distance only where its covariances are `regular`."""
    size = max(2, min(200, len(real) // 2))
    return {
        "kid": fidelity.kid(real, other, subset_size=size, subsets=20, seed=seed)[0],
        "frechet": fidelity.frechet_distance(real, other) if regular else math.nan,
        **fidelity.coverage_metrics(real, other, k=NEIGHBOURS, repeats=1, seed=seed),
    }
