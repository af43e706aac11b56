"""Judges a trained translator: does it find disease, where, and what else does it change?

python -m launch.evaluate --task=detection --config=configs/phantom_translate.py \
    --workdir=runs/phantom

Every image of the test split is translated to the healthy class; where it changes is where disease
is thought to be. What has to be chosen is chosen on the validation split. With --maps=autoencoder,
the baseline, a linear autoencoder of healthy training images takes the translator's place.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from data import records, tables, twins
from data.errors import UserError
from evaluation import detection, localisation, similarity
from evaluation.autoencoder import LinearAutoencoder
from gan.translation import apply
from gan.translation.domains import Domains
from launch import cli, distributed, examples, models, prepare, train_translator

MAPS = flags.DEFINE_enum(
    "maps", "translator", ["translator", "autoencoder"], "What makes the healthy image."
)
TASK = flags.DEFINE_enum("task", "detection", ["detection"], "What is judged.")


@dataclasses.dataclass(frozen=True)
class Split:
    """One split, and what was made of it.

    Attributes:
      images: [N, *S, C].
      healthy: the healthy image, G(x, healthy) or a reconstruction, the same shape.
      own: what ought to be the image again, G(x, own domain) or a reconstruction.
      diseased: bool [N].
      patients: [N], or None.
      masks: bool [N, *S], where lesions are, or None.
      twins: the images without their lesions, [N, *S, C], or None.
    """

    images: np.ndarray
    healthy: np.ndarray
    own: np.ndarray
    diseased: np.ndarray
    patients: np.ndarray | None
    masks: np.ndarray | None
    twins: np.ndarray | None

    @property
    def maps(self) -> np.ndarray:
        """|G(x, healthy) - x|, [N, *S]."""
        return apply.difference(self.images, self.healthy)


Made = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
_WIDTHS = (4, 8, 16, 32, 64, 128)  # of the autoencoder, tried on validation


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes `WORKDIR/evaluation/detection.json`; it is quick, and made anew every time.

    Beside it lies a file of the same name with the images that the report shows.
    """
    del overwrite
    train, val, test = (prepare.open_split(workdir, name) for name in ("train", "val", "test"))
    between = models.domains(config.translator, train.class_names)
    healthy = healthy_domain(config, between)
    folder = workdir / "evaluation"
    if MAPS.value == "autoencoder":
        make, facts = _autoencoder(train, val, between, healthy)
        path = folder / "detection-autoencoder.json"
    else:
        make, facts = _translator(config, workdir, healthy)
        path = folder / "detection.json"
    splits = [
        _split(config, part, prepare.open_masks(workdir, name), between, healthy, make)
        for name, part in (("val", val), ("test", test))
    ]
    found = judged(*splits, config.report.resamples, config.seed) | facts
    folder.mkdir(exist_ok=True)
    found["curves"] = _shown(path.with_suffix(".npz"), splits[1], found)
    tables.write_json(path, found)
    for line in told(found):
        cli.say(line)
    return path


def _shown(path: pathlib.Path, test: Split, found: dict[str, Any]) -> dict[str, Any]:
    """Keeps the images that the report shows, and returns its curves."""
    how = {"score": found["score"], "threshold": found.get("threshold"), "masks": test.masks}
    images = {"own": test.own, "healthy": test.healthy, "twins": test.twins}
    examples.keep(path, images=test.images, maps=test.maps, diseased=test.diseased, **how, **images)
    return examples.curves(test.maps, test.diseased, **how)


def _translator(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, healthy: int
) -> tuple[Made, dict[str, Any]]:
    """What translates images [N, *S, C] of domains [N] to the healthy and to their own."""
    spec, state = train_translator.restore(config, workdir)
    codes = np.asarray(spec.domains.codes, np.float32)

    def make(images: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        targets = (np.full_like(own, healthy), own)
        made = (
            apply.translate(spec.translator, state.ema_params, images, codes[to]) for to in targets
        )
        return tuple(made)

    return make, {"checkpoint_digest": models.tree_digest(state.ema_params)}


def _autoencoder(
    train: records.Records, val: records.Records, between: Domains, healthy: int
) -> tuple[Made, dict[str, Any]]:
    """The same by reconstruction, with the width of the largest AUC on validation."""
    of = np.asarray(between.of_class)
    normal = np.flatnonzero(of[train.labels] == healthy)
    model = LinearAutoencoder(train.read(normal), max(_WIDTHS))
    images, diseased = val.read(np.arange(len(val))), of[val.labels] != healthy

    def merit(width: int) -> float:
        maps = apply.difference(images, model.reconstruct(images, width))
        kind = detection.choose(maps, diseased)
        return detection.auc(detection.score(maps, kind), diseased, resamples=1)["mean"]

    width = max(_WIDTHS, key=merit)
    return lambda images, own: (model.reconstruct(images, width),) * 2, {"width": width}


def healthy_domain(config: ml_collections.ConfigDict, between: Domains) -> int:
    """The domain of images without disease.

    Raises:
      UserError: the configuration names none of the domains.
    """
    names = between.names
    if config.translator.healthy not in names:
        raise UserError(
            f"--config.translator.healthy={config.translator.healthy!r} is no domain; give the one "
            f"without disease, of {', '.join(names)}"
        )
    return names.index(config.translator.healthy)


def judged(val: Split, test: Split, resamples: int, seed: int) -> dict[str, Any]:
    """All numbers, of test images; what is chosen is chosen on validation images.

    Returns:
      'images' (counts); 'score', the kind chosen, and 'auc', of every kind; 'fixed_point', the mean
      of |G(x, own) - x|. With masks, also 'threshold', 'localisation' by 'threshold' and
      'two_means' (sensitivity by false positives per image), 'pixel_ap', 'dice' at the threshold,
      and 'off_target'. With healthy twins 'twin': how far diseased images are from theirs, 'before'
      and 'after' translation, by 'distance', the mean of |x - twin|, and 'ssim'.
    """
    how = {"resamples": resamples, "seed": seed}
    kinds = {kind: detection.score(test.maps, kind) for kind in detection.SCORES}
    found: dict[str, Any] = {
        "images": {"val": len(val.images), "test": len(test.images)},
        "diseased": {"val": int(val.diseased.sum()), "test": int(test.diseased.sum())},
        "score": detection.choose(val.maps, val.diseased),
        "auc": {
            kind: detection.auc(scores, test.diseased, test.patients, **how)
            for kind, scores in kinds.items()
        },
        "fixed_point": float(apply.difference(test.images, test.own).mean()),
    }
    if val.masks is None or test.masks is None:
        return found
    masks, maps = test.masks, test.maps
    threshold = localisation.choose_threshold(val.maps, val.masks)
    binary = {
        "threshold": maps > threshold,
        "two_means": np.stack([localisation.two_means(one) for one in maps]),
    }
    found |= {
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
    if test.twins is not None:
        ill = test.diseased
        healthy_twins = test.twins[ill]
        for name, images in (("before", test.images[ill]), ("after", test.healthy[ill])):
            distance = float(np.abs(images - healthy_twins).mean())
            found.setdefault("twin", {})[name] = {
                "distance": distance,
                "ssim": float(similarity.ssim(images, healthy_twins).mean()),
            }
    return found


def told(found: dict[str, Any]) -> list[str]:
    """The numbers as lines of text."""
    kind = found["score"]
    lines = [
        f"detection: AUC {_text(found['auc'][name])} by the {name} of the map"
        + (", chosen on validation" if name == kind else "")
        for name in detection.SCORES
    ]
    for name, rates in found.get("localisation", {}).items():
        told = ", ".join(f"{_text(value)} at {rate}" for rate, value in rates.items())
        lines.append(f"localisation by {name}: sensitivity {told} false positives per image")
    if "pixel_ap" in found:
        change = found["off_target"]
        lines.append(
            f"pixels: average precision {found['pixel_ap']:.3f}, Dice {found['dice']:.3f}; change "
            f"outside lesions / inside {change['outside']:.4f} / {change['inside']:.4f}"
        )
    if "twin" in found:
        lines += [
            f"healthy twin, {name} translation: distance {twin['distance']:.4f}, SSIM "
            f"{twin['ssim']:.4f}"
            for name, twin in found["twin"].items()
        ]
    return [*lines, f"fixed point: |G(x, own) - x| {found['fixed_point']:.4f}"]


def _text(value: dict[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:.3f} ({low:.3f} to {high:.3f})"


def _split(
    config: ml_collections.ConfigDict,
    part: records.Records,
    masks: records.Records | None,
    between: Domains,
    healthy: int,
    make: Made,
) -> Split:
    own = np.asarray(between.of_class)[part.labels]
    if len(set((own == healthy).tolist())) < 2:
        raise UserError(
            "--task=detection needs healthy and diseased images in the validation and the test "
            "split; prepare more, or check --config.translator.healthy"
        )
    images = part.read(np.arange(len(part)))
    data = config.data
    healthy_twins = twins.read(
        data.source,
        data_dir=data.data_dir or prepare.tfds_folder(),
        ids=[str(id_) for id_ in part.ids],
        shape=part.image_shape,
        preprocess=data.preprocess,
    )
    made, again = make(images, own)
    return Split(
        images=images,
        healthy=made,
        own=again,
        diseased=own != healthy,
        patients=None if part.groups is None else np.asarray(part.groups),
        masks=None if masks is None else _masks_of(part, masks),
        twins=healthy_twins,
    )


def _masks_of(part: records.Records, masks: records.Records) -> np.ndarray:
    """Where lesions are in every image of a split, bool [N, *S].

    Raises:
      UserError: an image without a mask, where others have one.
    """
    row_of = {str(id_): row for row, id_ in enumerate(masks.ids)}
    missing = [str(id_) for id_ in part.ids if str(id_) not in row_of]
    if missing:
        raise UserError(
            f"{len(missing)} images have no mask, '{missing[0]}' among them; give every image one, "
            "black where there is no lesion, and prepare them again"
        )
    rows = np.array([row_of[str(id_)] for id_ in part.ids])
    return masks.read_raw(rows)[..., 0] > 0


if __name__ == "__main__":
    cli.start(run)
