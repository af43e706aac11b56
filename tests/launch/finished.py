"""A finished work directory without any training: digits, and distorted digits as synthetic ones.

Everything is written by the project's own writers, so the report meets what the stages write.
"""

import json
import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from configs import digits
from data import pools, records, tables
from evaluation import classification
from launch import stage
from tests.pool_writer import PoolWriter
from vrn import calibrate, filters, labels

CHECKPOINT = "0f3c5a7e9b1d2468ace0" * 2


def make_config(**target: object) -> ml_collections.ConfigDict:
    """The digits experiment, with two arms' worth of seeds and few resamples."""
    config = digits.get_config()
    config.target.update(target)
    config.report.resamples = 200
    return config


def make(
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    *,
    class_names: Sequence[str] = tuple("0123456789"),
    size: int = 16,
    dtype: type = np.uint8,
    first_per_class: int = 20,
    second_per_class: int = 24,
    unlabelled: int = 0,
    seed: int = 0,
) -> pathlib.Path:
    """Fills `workdir` with what all stages before the report leave behind."""
    rng = np.random.default_rng(seed)
    images, classes = _digits(len(class_names), size, rng)
    raw = records.from_unit(images, dtype) // (16 if dtype == np.uint16 else 1)
    ids = np.array([f"digit-{index:04d}" for index in range(len(raw))])
    of_class = [np.flatnonzero(classes == k) for k in range(len(class_names))]
    bounds = {"train": (0, 10), "val": (10, 25), "test": (25, 50)}
    rows = {
        split: np.concatenate([one[low:high] for one in of_class])
        for split, (low, high) in bounds.items()
    }

    def take(chosen: np.ndarray) -> records.ArrayRecords:
        return records.ArrayRecords(raw[chosen], classes[chosen], ids[chosen], class_names)

    splits = {name: take(chosen) for name, chosen in rows.items()}
    counts = {name: {} for name in splits}
    if unlabelled:
        rest = np.setdiff1d(np.arange(len(raw)), np.concatenate(list(rows.values())))[:unlabelled]
        splits["unlabelled"], counts["unlabelled"] = take(rest).without_labels(), {}
    records.write_records(workdir / "data", splits, name="real")
    pca = PCA(24, random_state=0).fit(_flat(splits["test"]))

    made, faults = {}, {}
    for name, per_class, first_seed in (
        ("first", first_per_class, 0),
        ("second", second_per_class, 2**31),
    ):
        made[name], faults[name] = _pool(
            workdir / "pools" / name, splits["train"], per_class, first_seed, rng
        )
    embedded = {name: pca.transform(_flat(r)) for name, r in (splits | made).items()}
    tables.write_npz(
        workdir / "features" / "embeddings.npz",
        **{name: embedded[name].astype(np.float32) for name in ("train", "val", "test")},
    )
    for folder, name in (("annotation", "first"), ("filter", "second")):
        tables.write_npz(workdir / folder / "embeddings.npz", **{name: embedded[name]})
    _annotate(workdir / "annotation", made["first"].ids, faults["first"], rng)
    _calibrate(workdir / "vrn", faults["first"], rng)
    _filter(workdir / "filter", made["second"], faults["second"], config, rng)
    for number, arm in enumerate(config.target.arms):
        _target(workdir / "target" / arm, 0.02 * number, config, splits["test"].labels, rng)
    _curves(workdir, made["second"])
    for name in stage.of_loop(config.generate.generator):
        if name != "report":
            _stage(workdir, name, facts={"counts": counts} if name == "data" else {})
    return workdir


def _digits(count: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [N, size, size, 1] of the first `count` digits, in random order."""
    small, classes = load_digits(return_X_y=True)
    chosen = rng.permutation(np.flatnonzero(classes < count))
    images = small[chosen].reshape(-1, 8, 8) / 8 - 1
    large = ndimage.zoom(images, (1, size / 8, size / 8), order=1, grid_mode=True, mode="nearest")
    return np.clip(large, -1, 1)[..., None].astype(np.float32), classes[chosen]


def _flat(images: records.Records) -> np.ndarray:
    return images.read(np.arange(len(images))).reshape(len(images), -1)


def _pool(
    folder: pathlib.Path,
    train: records.Records,
    per_class: int,
    first_seed: int,
    rng: np.random.Generator,
) -> tuple[pools.Pool, np.ndarray]:
    """Shifted and noisy training images, a third of them torn; returns the pool and its faults."""
    count = per_class * len(train.class_names)
    wanted = np.arange(count) % len(train.class_names)
    with PoolWriter(
        folder,
        class_names=train.class_names,
        image_shape=train.image_shape,
        dtype=train.dtype,
        checkpoint_digest=CHECKPOINT,
        data_digest=train.digest(),
    ) as writer:
        faults = np.zeros(count)
        images = np.empty((count, *train.image_shape), np.float32)
        for index, label in enumerate(wanted):
            source = train.read(rng.choice(np.flatnonzero(train.labels == label), 1))[0]
            shift = (*rng.integers(-1, 2, 2), 0)
            image = ndimage.shift(source, shift, order=1, mode="nearest")
            if rng.random() < 0.35:
                faults[index] = rng.uniform(0.3, 1)
                image[len(image) // 2 :] = np.roll(
                    image[len(image) // 2 :], int(6 * faults[index]), axis=1
                )
            spread = 0.03 * (image.max() - image.min())
            images[index] = np.clip(image + spread * rng.normal(size=image.shape), -1, 1)
        writer.write(images, wanted, first_seed + np.arange(count))
    return pools.open_pool(folder), faults


def _annotate(
    folder: pathlib.Path, ids: np.ndarray, faults: np.ndarray, rng: np.random.Generator
) -> None:
    parts = [
        labels.from_scores(
            ids,
            labels.AUTO + rater,
            np.clip(0.75 - faults + noise * rng.normal(size=len(ids)), 0, 1),
            0.01,
        )
        for rater, noise in (("knn", 0.3), ("consistency", 0.4), ("ensemble", 0.1))
    ]
    labels.write_labels(folder / "labels.parquet", labels.concatenate(*parts))


def _logits(faults: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 2 - 5 * faults + 1.5 * rng.normal(size=len(faults))


def _calibrate(folder: pathlib.Path, faults: np.ndarray, rng: np.random.Generator) -> None:
    logits, truth = _logits(faults, rng), (faults < 0.25).astype(int)
    half = len(truth) // 2
    result = calibrate.calibrate(logits[:half], truth[:half], logits[half:], truth[half:])
    tables.write_json(folder / "calibration.json", result | {"accepted_of_real": 0.93})


def _filter(
    folder: pathlib.Path,
    pool: pools.Pool,
    faults: np.ndarray,
    config: ml_collections.ConfigDict,
    rng: np.random.Generator,
) -> None:
    columns: dict[str, list[np.ndarray]] = {"sample_id": [], "filter": [], "score": [], "kept": []}
    count = len(pool) // len(pool.class_names) // 2
    for name in config.filter.names:
        scores = _logits(faults, rng) if name == "vrn" else rng.normal(size=len(pool))
        (kept,) = filters.keep_per_class([(scores, pool.labels)], count)
        order = rng.permutation(len(pool))  # readers go by sample_id, not by place
        for column, values in zip(
            columns.values(),
            (pool.ids, np.full(len(pool), name), scores, kept),
            strict=True,
        ):
            column.append(values[order])
    tables.write_parquet(
        folder / "scores.parquet", {name: np.concatenate(parts) for name, parts in columns.items()}
    )


def _target(
    folder: pathlib.Path,
    skill: float,
    config: ml_collections.ConfigDict,
    truth: np.ndarray,
    rng: np.random.Generator,
) -> None:
    count = int(truth.max()) + 1
    for seed in range(config.target.seeds):
        logits = (1.6 + skill) * np.eye(count)[truth] + rng.normal(size=(len(truth), count))
        probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        tables.write_npz(folder / str(seed) / "predictions.npz", probs=probs, labels=truth)
        tables.write_json(folder / str(seed) / "result.json", classification.metrics(probs, truth))
    tried = [
        {
            "share": share,
            "strength": strength,
            "balanced_accuracy": 0.6 + 0.1 * share - 0.02 * strength,
        }
        for share in config.target.shares
        for strength in config.target.strengths
    ]
    best = max(tried, key=lambda row: row["balanced_accuracy"])
    chosen = {"share": best["share"], "strength": best["strength"]}
    tables.write_json(folder / "choice.json", chosen | {"validation": tried})


def _curves(workdir: pathlib.Path, pool: pools.Pool) -> None:
    rng = np.random.default_rng(0)
    steps = np.arange(50, 2001, 50)
    rise = 1 - np.exp(-steps / 500)
    noise = rng.normal(size=(6, len(steps)))
    gan = {
        "d_loss": 1.39 - 0.35 * rise + 0.04 * noise[0],
        "g_loss": 0.7 + 0.5 * rise + 0.05 * noise[1],
        "penalty": 0.02 + 0.1 * rise + 0.01 * np.abs(noise[2]),
        "d_real": 0.9 * rise + 0.05 * noise[3],
        "d_fake": -0.8 * rise + 0.05 * noise[4],
    }
    net = {"loss": 0.25 + 0.45 * (1 - rise) + 0.02 * noise[5], "accuracy": 0.55 + 0.4 * rise}
    for folder, metrics in (("gan", gan), ("features", net), ("vrn", net)):
        (workdir / folder).mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"step": int(step)} | {name: v[i] for name, v in metrics.items()})
            for i, step in enumerate(steps)
        ]
        (workdir / folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    samples = workdir / "gan" / "samples"
    samples.mkdir()
    grid = np.concatenate(list(pool.read(np.arange(8))[..., 0]), axis=1)
    for step in range(500, 2001, 500):
        Image.fromarray(((grid + 1) * 127.5).astype(np.uint8)).save(samples / f"{step:07d}.png")


def _stage(workdir: pathlib.Path, name: str, facts: dict) -> None:
    record = {
        "stage": name,
        "status": "complete",
        "digest": f"{abs(hash(name)):016x}" * 4,
        "config": {},
        "inputs": {},
        "start": "2025-01-01T10:00:00+00:00",
        "end": "2025-01-01T10:01:00+00:00",
        "seconds": 1.5 + 10 * len(name),
        "device": "1 x cpu (x86_64)",
        "versions": {"python": "3.11.9", "jax": "0.10.2"},
        "code": "0123456789ab",
        "facts": facts,
    }
    tables.write_json(workdir / name / "stage.json", record)
