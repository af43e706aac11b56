"""Judges maps of disease: do they find it, and where, and what else is changed?

python -m launch.evaluate --task=detection --config=configs/phantom_translate.py \
    --workdir=runs/phantom --maps=translator

Every image of the test split is translated to the healthy class, and where it changes is where
disease is thought to be; other --maps, the baselines, say so in another way. What has to be chosen
is chosen on the validation split. Writes WORKDIR/evaluation/detection.json, or for other maps
detection-NAME.json; with --split=val, which sees nothing of the test split, validation*.json.
"""

import dataclasses
import pathlib
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from data import tables, twins
from data.errors import UserError
from data.records import Records
from evaluation import detection, localisation, matched, similarity
from gan.translation import apply
from launch import cli, detectors, distributed, examples, heights, models, prepare, stage
from launch.heights import Heights

TASK = flags.DEFINE_enum("task", "detection", ["detection"], "What is judged.")
SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "val"],
    "Whose images are judged. Of val all numbers are a little too good, since score and threshold "
    "are chosen on the same images; they are for comparing settings.",
)  # fmt: skip
flags.declare_key_flag("maps")
_FILES = {"test": "detection", "val": "validation"}  # the report shows the first


@dataclasses.dataclass(frozen=True)
class Split:
    """One split, and what was made of it.

    Attributes:
      images: [N, *S, C].
      found: maps, and what else the detector makes of them.
      diseased: bool [N].
      patients: [N], or None.
      masks: bool [N, *S], where lesions are, or None.
      twins: the images without their lesions, [N, *S, C], or None.
      heights: of slices, or None.
    """

    images: np.ndarray
    found: detectors.Found
    diseased: np.ndarray
    patients: np.ndarray | None = None
    masks: np.ndarray | None = None
    twins: np.ndarray | None = None
    heights: Heights | None = None


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes the numbers and images that the report shows; quick, and made anew every time."""
    del overwrite
    name, judges = detectors.MAPS.value, SPLIT.value
    find, facts = detectors.restored(config, workdir, name)
    val = _split(config, workdir, "val", find)
    test = val if judges == "val" else _split(config, workdir, "test", find)
    found = judged(val, test, config.report.resamples, config.seed) | facts
    found["split"] = judges
    if name == "translator" and _is_trained(workdir, "autoencoder"):
        again, _ = detectors.restored(config, workdir, "autoencoder")
        own = again(test.images, np.zeros(len(test.images), int)).own
        found["fixed_point_autoencoder"] = float(apply.difference(test.images, own).mean())
    folder = workdir / "evaluation"
    folder.mkdir(exist_ok=True)
    kind = "" if name == "translator" else f"-{name}"
    path = folder / f"{_FILES[judges]}{kind}.json"
    found["curves"] = _shown(path.with_suffix(".npz"), test, found)
    tables.write_json(path, found)
    for line in told(found):
        cli.say(line)
    return path


def _shown(path: pathlib.Path, test: Split, found: dict[str, Any]) -> dict[str, Any]:
    """Keeps the images that the report shows, and returns its curves."""
    maps, diseased = test.found.maps, test.diseased
    how = {"score": found["score"], "threshold": found.get("threshold"), "masks": test.masks}
    images = {"own": test.found.own, "healthy": test.found.healthy, "twins": test.twins}
    examples.keep(path, images=test.images, maps=maps, diseased=diseased, **how, **images)
    return examples.curves(maps, diseased, **how)


def judged(val: Split, test: Split, resamples: int, seed: int) -> dict[str, Any]:
    """All numbers, of test images; what is chosen is chosen on validation images.

    Returns:
      'images' (counts); 'score', the kind chosen, and 'auc', of every kind and, where the detector
      has a score of its own, of 'network'. Of slices 'matched', the same within bins of one height,
      and 'height', the area by the height alone. Of detectors that make images 'fixed_point', the
      mean of |G(x, own) - x|. With masks, also 'threshold', 'localisation' by 'threshold' and
      'two_means' (sensitivity by false positives per image), 'pixel_ap', 'dice' at the threshold,
      and 'off_target'. With healthy twins 'twin': how far diseased images are from theirs, 'before'
      and 'after' translation, by 'distance', the mean of |x - twin|, and 'ssim'.
    """
    how = {"resamples": resamples, "seed": seed}
    maps = test.found.maps
    kinds = {kind: detection.score(maps, kind) for kind in detection.SCORES}
    if test.found.scores is not None:
        kinds["network"] = test.found.scores
    found: dict[str, Any] = {
        "images": {"val": len(val.images), "test": len(test.images)},
        "diseased": {"val": int(val.diseased.sum()), "test": int(test.diseased.sum())},
        "score": detection.choose(val.found.maps, val.diseased),
        "auc": {
            kind: detection.auc(scores, test.diseased, test.patients, **how)
            for kind, scores in kinds.items()
        },
    }
    if test.heights is not None:
        found["height"] = detection.auc(test.heights.alone, test.diseased, test.patients, **how)
        found["matched"] = {
            kind: matched.auc(scores, test.diseased, test.heights.bins, test.patients, **how)
            for kind, scores in kinds.items()
        }
    if test.found.own is not None:
        found["fixed_point"] = float(apply.difference(test.images, test.found.own).mean())
    if val.masks is not None and test.masks is not None:
        found |= _localised(val, test, how)
    if test.twins is not None and test.found.healthy is not None:
        ill = test.diseased
        there = test.twins[ill]
        for when, images in (("before", test.images), ("after", test.found.healthy)):
            found.setdefault("twin", {})[when] = {
                "distance": float(np.abs(images[ill] - there).mean()),
                "ssim": float(similarity.ssim(images[ill], there).mean()),
            }
    return found


def _localised(val: Split, test: Split, how: dict[str, int]) -> dict[str, Any]:
    """The numbers for which masks are needed."""
    masks, maps = test.masks, test.found.maps
    threshold = localisation.choose_threshold(val.found.maps, val.masks)
    binary = {
        "threshold": maps > threshold,
        "two_means": np.stack([localisation.two_means(one) for one in maps]),
    }
    return {
        "threshold": threshold,
        "localisation": {
            name: {
                str(rate): value
                for rate, value in localisation.sensitivity_at(
                    localisation.find(maps, mark, masks), groups=test.patients, **how
                ).items()
            }
            for name, mark in binary.items()
        },
        "pixel_ap": localisation.pixel_ap(maps, masks),
        "dice": localisation.dice(binary["threshold"], masks),
        "off_target": detection.off_target(maps[test.diseased], masks[test.diseased]),
    }


def told(found: dict[str, Any]) -> list[str]:
    """The numbers as lines of text."""
    lines = []
    for kind, value in found["auc"].items():
        by = "the network's own score" if kind == "network" else f"the {kind} of the map"
        chosen = ", chosen on validation" if kind == found["score"] else ""
        lines.append(f"detection: AUC {_text(value)} by {by}{chosen}")
    if "matched" in found:
        inside = ", ".join(f"{_text(value)} by {kind}" for kind, value in found["matched"].items())
        lines += [
            f"detection within {matched.BINS} bins of slice height: AUC {inside}",
            f"detection by slice height alone: AUC {_text(found['height'])}",
        ]
    for name, rates in found.get("localisation", {}).items():
        told = ", ".join(f"{_text(value)} at {rate}" for rate, value in rates.items())
        lines.append(f"localisation by {name}: sensitivity {told} false positives per image")
    if "pixel_ap" in found:
        change = found["off_target"]
        lines.append(
            f"pixels: average precision {found['pixel_ap']:.3f}, Dice {found['dice']:.3f}; map "
            f"outside lesions / inside {_number(change['outside'], 4)} / "
            f"{_number(change['inside'], 4)}"
        )
    lines += [
        f"healthy twin, {when} translation: distance {twin['distance']:.4f}, SSIM "
        f"{twin['ssim']:.4f}"
        for when, twin in found.get("twin", {}).items()
    ]
    if "fixed_point" in found:
        beside = found.get("fixed_point_autoencoder")
        also = "" if beside is None else f"; of an autoencoder of its size {beside:.4f}"
        lines.append(f"fixed point: |G(x, own) - x| {found['fixed_point']:.4f}{also}")
    return lines


def _text(value: dict[str, Any]) -> str:
    low, high = value["ci95"]
    ends = "" if low is None else f" ({_number(low)} to {_number(high)})"
    return _number(value["mean"]) + ends


def _number(value: float | None, decimals: int = 3) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.{decimals}f}"


def _is_trained(workdir: pathlib.Path, name: str) -> bool:
    record = stage.read(workdir, f"detectors/{name}")
    return record is not None and record["status"] == "complete"


def _split(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, name: str, find: detectors.Find
) -> Split:
    part, train = (prepare.open_split(workdir, which) for which in (name, "train"))
    diseased = detectors.is_diseased(config, part)
    if diseased.all() or not diseased.any():
        raise UserError(
            "--task=detection needs healthy and diseased images in the validation and the test "
            "split; prepare more, or check --config.translator.healthy"
        )
    masks = _lesions(workdir, name, part)
    images = part.read(np.arange(len(part)))
    between = models.domains(config.translator, part.class_names)
    data = config.data
    return Split(
        images=images,
        found=find(images, np.asarray(between.of_class)[part.labels]),
        diseased=diseased,
        patients=None if part.groups is None else np.asarray(part.groups),
        masks=masks,
        twins=twins.read(
            data.source,
            data_dir=data.data_dir or prepare.tfds_folder(),
            ids=[str(id_) for id_ in part.ids],
            shape=part.image_shape,
            preprocess=data.preprocess,
        ),
        heights=heights.judged(workdir, part, detectors.is_diseased(config, train)),
    )


def _lesions(workdir: pathlib.Path, name: str, part: Records) -> np.ndarray | None:
    """Where lesions are, bool [N, *S]; None where there are no masks, or none shows any."""
    masks = prepare.masks_of(workdir, name, part)
    if masks is None:
        return None
    lesions = masks.read_raw(np.arange(len(part)))[..., 0] > 0
    if lesions.any():
        return lesions
    cli.say(f"localisation: not judged, since no mask of the {name} split shows a lesion")
    return None


if __name__ == "__main__":
    cli.start(run)
