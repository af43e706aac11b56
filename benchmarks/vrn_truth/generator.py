"""A real generator against the truth that the analyser sees: fault rates before and after filters.

The expert of this study is the analyser: it calls an image of the first pool non-real-like if the
anatomy is wrong. So does the measurement of the second pool.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.vrn_truth import bench as benches
from benchmarks.vrn_truth import measures, pools
from data.builders.phantom import judge, seen
from data.records import ArrayRecords, from_unit, to_unit
from gan import sample
from launch import generate, train_gan
from vrn import annotators

# What an expert who counts organs sees; the analyser's other findings are of texture.
ANATOMY = (
    "hearts",
    "laterality",
    "ribs_right",
    "ribs_left",
    "rib_order",
    "lung_right",
    "lung_left",
)
_FIRST, _SECOND = 400, 800
_ANNOTATED = 200


def measure(bench: benches.Bench) -> dict[str, Any]:
    """Fault rates of the pool and of what every filter keeps, and a VRN of an earlier checkpoint.

    Returns:
        'disease': what `disease` says of real test images, of the second pool and of what the VRN
        keeps of it; 'real': fault rates of real test images, which are the analyser's false
        alarms; 'pool' and 'early pool': of the second pool and of an earlier generator's; 'kept':
        of what each filter keeps of the second pool; 'auc': how well each tells right anatomy from
        wrong there. 'vrn of an earlier checkpoint' learnt from that generator's images.
    """
    config = bench.config
    last = samples(bench, "first", _FIRST), samples(bench, "second", _SECOND)
    early = samples(bench, "first", _FIRST, step=config.gan.steps // 2)
    faults = {"real": found(bench.real["test"]), "pool": found(last[1]), "early": found(early)}
    bad = wrong_anatomy(faults["pool"])
    vrns = {
        name: _vrn(bench, pool).score(last[1])
        for name, pool in (("own", last[0]), ("early", early))
    }
    truth = pools.Pool(last[1], np.where(bad, 0, -1))
    described = bench.space.describe(last[1])
    scores = benches.filter_scores(bench, truth, described, vrns["own"])
    scores["vrn of an earlier checkpoint"] = vrns["early"]
    kept = {name: benches.keep(config, last[1], score) for name, score in scores.items()}
    return {
        "disease": {
            "real": disease(bench.real["test"]),
            "pool": disease(last[1]),
            "kept by vrn": disease(last[1].subset(kept["vrn"])),
        },
        "real": _rates(faults["real"]),
        "pool": _rates(faults["pool"]),
        "early pool": _rates(faults["early"]),
        "kept": {name: _rates(faults["pool"], rows) for name, rows in kept.items()},
        "auc": {
            name: measures.auc_between(score[~bad], score[bad]) for name, score in scores.items()
        },
    }


def samples(bench: benches.Bench, pool: str, count: int, step: int | None = None) -> ArrayRecords:
    """Images of the GAN at a step, with the seeds that `launch.generate` gives that pool."""
    spec, state = train_gan.restore(bench.config, bench.folder, step)
    seeds = generate.FIRST_SEED[pool] + np.arange(count)
    labels = np.arange(count) % len(pools.CLASSES)
    images = sample.generate(
        spec.generator, state.ema_params, jnp.asarray(seeds, jnp.uint32), jnp.asarray(labels)
    )
    ids = [f"gan-{seed}" for seed in seeds]
    stored = from_unit(np.asarray(images), np.uint8)
    return ArrayRecords(stored, labels, ids, pools.CLASSES, synthetic=True)


def found(records: Any) -> dict[str, np.ndarray]:
    """The analyser's findings in records, for each bool [N]; 'anatomy' is any of `ANATOMY`."""
    findings = judge.judge(to_unit(records.read_raw(np.arange(len(records)))))
    return findings | {"anatomy": wrong_anatomy(findings)}


def wrong_anatomy(findings: dict[str, np.ndarray]) -> np.ndarray:
    """Bool [N]: one of `ANATOMY` is found."""
    return np.any([findings[name] for name in ANATOMY], axis=0)


def disease(records: Any) -> dict[str, float]:
    """How often the lesion of a class is seen in its images, and where nodules lie.

    Returns:
        For each lesion the share of the images of its class, and of healthy ones ('<lesion>,
        healthy'), in which it is seen; and of nodules that are seen in their class, the share on
        the patient's left and the mean and standard deviation of their height (y).
    """
    images = to_unit(records.read_raw(np.arange(len(records))))
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


def _rates(
    findings: dict[str, np.ndarray], rows: np.ndarray | slice = slice(None)
) -> dict[str, float]:
    return {name: float(values[rows].mean()) for name, values in findings.items()}


def _vrn(bench: benches.Bench, pool: ArrayRecords) -> benches.Vrn:
    verdicts = np.where(wrong_anatomy(found(pool)), annotators.NON_REAL_LIKE, annotators.REAL_LIKE)
    verdicts[_ANNOTATED:] = annotators.UNKNOWN
    return benches.train(bench, pool, verdicts.astype(np.int8))
