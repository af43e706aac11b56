"""Judges a trained translator: does it find disease, where, and what else does it change?

python -m launch.evaluate --task=detection --config=configs/phantom_translate.py \
    --workdir=runs/phantom

Every image of the test split is translated to the healthy class; where it changes is where disease
is thought to be. What has to be chosen is chosen on the validation split.
"""

import dataclasses
import pathlib
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from data import records, tables, truth
from data.errors import UserError
from evaluation import detection, localisation
from gan.state import Params
from gan.translation import apply
from gan.translation.state import TranslatorSpec
from launch import cli, distributed, models, prepare, train_translator

TASK = flags.DEFINE_enum("task", "detection", ["detection"], "What is judged.")


@dataclasses.dataclass(frozen=True)
class Split:
    """One split, translated.

    Attributes:
      images: [N, *S, C].
      healthy: G(x, healthy), the same shape.
      own: G(x, own domain), the same shape.
      diseased: bool [N].
      patients: [N], or None.
      truth: masks and twins, or None.
    """

    images: np.ndarray
    healthy: np.ndarray
    own: np.ndarray
    diseased: np.ndarray
    patients: np.ndarray | None
    truth: truth.Truth | None

    @property
    def maps(self) -> np.ndarray:
        """|G(x, healthy) - x|, [N, *S]."""
        return apply.difference(self.images, self.healthy)


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes `WORKDIR/evaluation/detection.json`; it is quick, and made anew every time."""
    del overwrite
    spec, state = train_translator.restore(config, workdir)
    val, test = (_translated(config, workdir, spec, state.ema_params, s) for s in ("val", "test"))
    found = judged(val, test, config.report.resamples, config.seed)
    found["checkpoint_digest"] = models.tree_digest(state.ema_params)
    path = workdir / "evaluation" / "detection.json"
    path.parent.mkdir(exist_ok=True)
    tables.write_json(path, found)
    for line in told(found):
        cli.say(line)
    return path


def healthy_domain(config: ml_collections.ConfigDict, spec: TranslatorSpec) -> int:
    """The domain of images without disease.

    Raises:
      UserError: the configuration names none of the domains.
    """
    names = spec.domains.names
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
      and 'off_target'. With healthy twins 'twin', the mean of |x - twin| in diseased images and of
      |G(x, healthy) - twin|.
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
    if val.truth is None or test.truth is None:
        return found
    masks, maps = test.truth.masks, test.maps
    threshold = localisation.choose_threshold(val.maps, val.truth.masks)
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
    if test.truth.twins is not None:
        ill = test.diseased
        twins = test.truth.twins[ill]
        found["twin"] = {
            "before": float(np.abs(test.images[ill] - twins).mean()),
            "after": float(np.abs(test.healthy[ill] - twins).mean()),
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
        twin = found["twin"]
        lines.append(f"|x - twin| {twin['before']:.4f}, after translation {twin['after']:.4f}")
    return [*lines, f"fixed point: |G(x, own) - x| {found['fixed_point']:.4f}"]


def _text(value: dict[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:.3f} ({low:.3f} to {high:.3f})"


def _translated(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    spec: TranslatorSpec,
    params: Params,
    split: str,
) -> Split:
    part: records.Records = prepare.open_split(workdir, split)
    images = part.read(np.arange(len(part)))
    own = np.asarray(spec.domains.of_class)[part.labels]
    healthy = healthy_domain(config, spec)
    codes = np.asarray(spec.domains.codes, np.float32)
    data = config.data
    known = truth.read(
        data.source,
        data_dir=data.data_dir or prepare.tfds_folder(),
        ids=[str(id_) for id_ in part.ids],
        shape=part.image_shape,
        preprocess=data.preprocess,
    )
    return Split(
        images=images,
        healthy=apply.translate(
            spec.translator, params, images, np.repeat(codes[healthy][None], len(images), 0)
        ),
        own=apply.translate(spec.translator, params, images, codes[own]),
        diseased=own != healthy,
        patients=None if part.groups is None else np.asarray(part.groups),
        truth=known,
    )


if __name__ == "__main__":
    cli.start(run)
