"""A VRN that learnt from one checkpoint of a GAN, used on the images of a later one.

What is wrong with a GAN's image nobody knows for certain, so faults are put into the GAN's own
images: a known share of them gets a second heart, a torn lung, or is mirrored. Sound is what was
left as the GAN made it.
"""

from typing import Any

import numpy as np

from benchmarks.vrn_truth import bench as benches
from benchmarks.vrn_truth import experts, generator, measures, pools
from data.builders.phantom import anatomy, faults
from data.builders.phantom.render import render
from data.records import ArrayRecords, from_unit

KINDS = ("two_hearts", "mangled_lung", "wrong_laterality")
CHECKPOINTS = ("earlier", "later")  # half-way, and the end


def measure(
    bench: benches.Bench, learnt: str, positives: str, *, effort: int, count: int, rate: float
) -> dict[str, Any]:
    """A VRN of one checkpoint, and the filters, against the truth of pools of both.

    Args:
        bench: the seed.
        learnt: of `CHECKPOINTS`: whose images the expert annotates.
        positives: of the VRN.
        effort: annotated images.
        count: images of each pool that is filtered.
        rate: share of images with a fault, in every pool.

    Returns:
        For each of `CHECKPOINTS` 'filters', a ranking (`measures.ranking`) by name, and
        'auc_real_sound', of the VRN.
    """
    first = spoiled(bench, "first", effort, learnt, rate)
    vrn = benches.train(bench, first.records, experts.annotate(first, effort), positives=positives)
    real = vrn.score(bench.real["test"])
    found = {}
    for name in CHECKPOINTS:
        pool = spoiled(bench, "second", count, name, rate)
        score = vrn.score(pool.records)
        scores = benches.filter_scores(bench, pool, bench.space.describe(pool.records), score)
        found[name] = {
            "filters": benches.rankings(bench.config, pool, scores),
            "auc_real_sound": measures.auc_between(real, score[pool.sound]),
        }
    return found


def spoiled(
    bench: benches.Bench, name: str, count: int, checkpoint: str, rate: float
) -> pools.Pool:
    """Images of the GAN, a share of them with a fault of `KINDS`.

    A mirrored image is mirrored as it is. The other faults are what they change in a phantom of the
    same class, added to the image: a radiograph is a sum.

    Args:
        bench: the seed.
        name: 'first' or 'second'; the seeds of the images and the phantoms that lend their faults.
        count: images.
        checkpoint: of `CHECKPOINTS`.
        rate: share of every class with a fault.
    """
    step = bench.config.gan.steps // 2 if checkpoint == "earlier" else None
    made = generator.samples(bench, name, count, step)
    kind = pools.dealt(pools.population(bench.seed, name), made.labels, rate, KINDS)
    mirrored = kind == faults.KINDS.index("wrong_laterality")
    lent = np.flatnonzero((kind != faults.NONE) & ~mirrored)
    a = anatomy.draw(pools.population(bench.seed, name), lent, np.zeros_like(lent))
    size = (pools.SIZE, pools.SIZE)
    change = faults.inject(a, kind[lent], size).pictures.image - render(a, size).image
    images = made.read(np.arange(count))
    images[lent] = np.clip(images[lent] + change, -1, 1)
    images[mirrored] = images[mirrored, :, ::-1]
    stored = from_unit(images, np.uint8)
    records = ArrayRecords(stored, made.labels, made.ids, pools.CLASSES, synthetic=True)
    return pools.Pool(records, kind)
