"""Of which real image every image of a translated pool is made.

Images of the healthy class are made of diseased training images, those of every other class of
healthy ones. A translator makes of an image the same translation each time, so that a pool holds no
more images of a class than it has sources; where more are asked for, sources are augmented from
their second use on, and `config.generate.repeats` says how often one may be used.
"""

import pathlib

import ml_collections
import numpy as np

from data import augment, pools
from data.errors import UserError
from data.records import Records
from gan.translation.domains import Domains
from launch import models, prepare, rng

STRENGTH = 0.5  # of the augmentation of sources: half the magnitudes that classifiers learn with
# What takes a second image, of which a source has none.
_ALONE = [name for name in augment.NAMES if name not in ("histogram", "mixup")]


def of(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> "Sources":
    """The sources of the pools of a work directory.

    Raises:
      UserError: a class has no domain of its own, there is no class `translator.healthy`, or a pool
        has no source for some class.
    """
    real = prepare.open_split(workdir, "train")
    given, names = config.translator, ", ".join(real.class_names)
    domains = models.domains(given, real.class_names)
    if len(set(domains.of_class)) < len(domains.of_class):
        raise UserError(
            f"--config.translator.domains={given.domains} has one domain for several of the "
            f"classes {names}, and a translation would have no label; give "
            "--config.translator.domains=classes"
        )
    if given.healthy not in real.class_names:
        raise UserError(
            f"--config.translator.healthy={given.healthy!r} is no class; name the one whose images "
            f"are translated, of {names}"
        )
    return Sources(
        real,
        domains,
        real.class_names.index(given.healthy),
        names=tuple(name for name in config.data.augment if name in _ALONE),
        repeats=config.generate.repeats,
        seed=rng.fold(config.seed, "generate", "sources"),
    )


class Sources:
    """Training images as the sources of both pools, which share no patient.

    Args:
      real: labelled training images.
      domains: of the translator, one for every class.
      healthy: number of the healthy class.
      names: augmentations of sources that are used again.
      repeats: most images of a class that are made of one source.
      seed: of the division between the pools, the order and the augmentation.
    """

    def __init__(
        self,
        real: Records,
        domains: Domains,
        healthy: int,
        *,
        names: tuple[str, ...],
        repeats: int,
        seed: int,
    ):
        self._real, self._domains = real, domains
        self._names, self._repeats, self._seed = names, repeats, seed
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(real))
        second = _second_half(real, order)
        labels = real.labels[order]
        self._rows = {}  # pool -> for each class the rows of its sources, in the order of their use
        for pool, half in (("first", ~second), ("second", second)):
            of_class = [
                order[half & ((labels != healthy) if k == healthy else (labels == healthy))]
                for k in range(len(real.class_names))
            ]
            self._rows[pool] = of_class

    def require(self, pool: str, per_class: int, rounds: int = 1) -> None:
        """Checks that there are sources.

        Args:
          pool: `first` or `second`.
          per_class: images of every class in a round.
          rounds: of the pool.

        Raises:
          UserError: there are too few. From the second round on, which is made since the first did
            not give enough, a smaller round is no way out.
        """
        total = per_class * rounds
        for name, rows in zip(self._real.class_names, self._rows[pool], strict=True):
            if total > len(rows) * self._repeats:
                enough = f" to {-(-total // len(rows))}" if len(rows) else ""
                fewer = f", or lower --config.generate.{pool}_per_class" if rounds == 1 else ""
                raise UserError(
                    f"the {pool} pool would hold {total} images of '{name}' and has "
                    f"{len(rows)} training images to translate, each "
                    f"{self._repeats} times at most; raise --config.generate.repeats{enough}{fewer}"
                )

    def inputs(self, seeds: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the translator takes: images float32 [n, H, W, C] and codes float32 [n, K].

        Args:
          seeds: of the pools' images [n].
          labels: their classes [n].
        """
        rows, repeats = self._uses(seeds, labels)
        images = self._real.read(rows)
        for i in np.flatnonzero(repeats):
            # By its own seed, so that it is the same whatever goes with it.
            own = (self._seed, int(seeds[i]))
            images[i : i + 1] = augment.augment(images[i : i + 1], self._names, STRENGTH, own)
        return images, np.asarray(self._domains.codes, np.float32)[self._targets(labels)]

    def origins(self, seeds: np.ndarray, labels: np.ndarray) -> pools.Origins:
        """What the manifest says of images [n] of these seeds and labels."""
        rows, repeats = self._uses(seeds, labels)
        ids = np.array([str(self._real.ids[row]) for row in rows])
        return pools.Origins(ids, np.array(self._domains.names)[self._targets(labels)], repeats)

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        return np.asarray(self._domains.of_class)[labels]

    def _uses(self, seeds: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows [n] of the sources, and how often each was used for its class before."""
        rows, repeats = np.empty(len(seeds), np.int64), np.empty(len(seeds), np.int64)
        second = np.asarray(seeds) >= pools.FIRST_SEED["second"]
        for pool, here in (("first", ~second), ("second", second)):
            numbers = np.asarray(seeds, np.int64) - pools.FIRST_SEED[pool]
            for k, sources in enumerate(self._rows[pool]):
                chosen = here & (np.asarray(labels) == k)
                # Classes take turns: image i of a pool is the i // K-th of its class.
                number = numbers[chosen] // len(self._rows[pool])
                repeats[chosen], place = np.divmod(number, max(1, len(sources)))
                rows[chosen] = sources[place]
        return rows, repeats


def _second_half(real: Records, order: np.ndarray) -> np.ndarray:
    """Which images, in this order, are sources of the second pool: those of half the patients.

    Patients are dealt class by class, so that each pool has half of the patients of each.
    """
    groups = np.arange(len(real)) if real.groups is None else np.asarray(real.groups)
    _, first, member = np.unique(groups[order], return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.lexsort((first, real.labels[order][first]))] = np.arange(len(first))
    return place[member] % 2 == 1
