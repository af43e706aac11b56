"""A real generator against the truth that the analyser sees: fault rates before and after filters.

The expert of this study is the analyser: it calls an image of the first pool non-real-like if it
finds anything wrong. So does the measurement of the second pool.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.vrn_truth import bench as benches
from benchmarks.vrn_truth import measures, pools
from data.builders.phantom import faults, judge, seen
from data.pools import FIRST_SEED
from data.records import ArrayRecords, Records, from_unit
from gan import sample
from vrn import annotators

_FIRST, _SECOND = 400, 800
_ANNOTATED = 200


def measure(bench: benches.Bench) -> dict[str, Any]:
    """Fault rates of a GAN's pool and of what every filter keeps, and an earlier GAN's VRN.

    Returns:
        'faults' and 'disease', for real test images, whose faults are the analyser's false alarms,
        for the second pool, for that of the generator half-way, and for what each filter keeps of
        the second pool; 'auc', how well each filter tells images without a finding from others
        there, None where all images or none have one. The filter 'earlier vrn' learnt from the
        images of the generator half-way.
    """
    config = bench.config
    second = samples(bench, "second", _SECOND)
    halfway = config.gan.steps // 2
    findings = judge.judge(_images(second))
    bad = findings["any"]
    scores = {
        name: _vrn(bench, samples(bench, "first", _FIRST, step)).score(second)
        for name, step in (("vrn", None), ("earlier vrn", halfway))
    }
    truth = pools.Pool(second, np.where(bad, 0, faults.NONE))
    described = bench.space.describe(second)
    scores |= benches.filter_scores(bench, truth, described, scores["vrn"])
    parts = {
        "real": bench.real["test"],
        "earlier pool": samples(bench, "second", _SECOND, halfway),
        "pool": second,
    } | {name: second.subset(benches.keep(config, second, score)) for name, score in scores.items()}
    return {
        "faults": {name: _rates(part) for name, part in parts.items()},
        "disease": {name: disease(part) for name, part in parts.items()},
        "auc": {
            name: None
            if bad.all() or not bad.any()
            else measures.auc_between(score[~bad], score[bad])
            for name, score in scores.items()
        },
    }


def samples(bench: benches.Bench, pool: str, count: int, step: int | None = None) -> ArrayRecords:
    """Images of the GAN at a step, with the seeds that `launch.generate` gives that pool."""
    spec, state = bench.gan(step)
    seeds = FIRST_SEED[pool] + np.arange(count)
    labels = np.arange(count) % len(pools.CLASSES)
    images = sample.generate(
        spec.generator, state.ema_params, jnp.asarray(seeds, jnp.uint32), jnp.asarray(labels)
    )
    ids = [f"gan-{seed}" for seed in seeds]
    stored = from_unit(np.asarray(images), np.uint8)
    return ArrayRecords(stored, labels, ids, pools.CLASSES, synthetic=True)


def disease(records: Records) -> dict[str, float]:
    """How often the lesion of a class is seen in its images, and where nodules lie.

    Returns:
        For each lesion the share of the images of its class, and of healthy ones ('<lesion>,
        healthy'), in which it is seen; and of nodules that are seen in their class, the share on
        the patient's left and the mean and standard deviation of their height (y).
    """
    images = _images(records)
    found, signs = seen.lesions(images), seen.signs(images)
    shares = {}
    for number, name in enumerate(seen.LESIONS, start=1):
        shares[name] = float(found[name][records.labels == number].mean())
        shares[f"{name}, healthy"] = float(found[name][records.labels == 0].mean())
    rows = found["nodule"] & (records.labels == pools.CLASSES.index("nodule"))
    if rows.any():
        x, y = signs["nodule_x"][rows], signs["nodule_y"][rows]
        shares |= {"nodules left": float((x > 0).mean())}
        shares |= {"nodules y": float(y.mean()), "nodules y sd": float(y.std())}
    return shares


def _images(records: Records) -> np.ndarray:
    return records.read(np.arange(len(records)))


def _rates(records: Records) -> dict[str, float]:
    return {name: float(found.mean()) for name, found in judge.judge(_images(records)).items()}


def _vrn(bench: benches.Bench, pool: Records) -> benches.Vrn:
    found = judge.judge(_images(pool))["any"]
    verdicts = np.where(found, annotators.NON_REAL_LIKE, annotators.REAL_LIKE)
    verdicts[_ANNOTATED:] = annotators.UNKNOWN
    return benches.train(bench, pool, verdicts.astype(np.int8))
