"""What is measured: the cells of every study, and how one is measured."""

import functools
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from benchmarks.cells import Cell
from benchmarks.vrn_truth import bench as benches
from benchmarks.vrn_truth import experts, generator, measures, pools, transfer
from launch import rng
from vrn import annotators

SEEDS = tuple(range(5))
RATES = (0.1, 0.3, 0.5)
EFFORTS = (25, 50, 100, 200, 500)
RATE, EFFORT = 0.3, 200  # where nothing else is said
AUTOMATIC = ("knn", "consistency", "sklearn:SVC", "ensemble")
_FIRST, _SECOND = 500, 800  # images of the pools

# What each study changes of the VRN: name -> arguments of `benches.train`.
HEADS: Mapping[str, Mapping[str, Any]] = {
    "top": {"head": "top"},
    "bilinear": {"head": "bilinear"},
}
DEPTHS: Mapping[str, Mapping[str, Any]] = {str(d): {"depth": d} for d in (34, 50, 101)}
_BARE = {"blur": 0.0, "noise": 0.0}
GUARDS: Mapping[str, Mapping[str, Any]] = {
    "none": {"input_size": pools.SIZE, **_BARE},
    "jitter": {"input_size": pools.SIZE},
    "reduced": _BARE,
    "whole": {},
}
RATES_OF_LEARNING: Mapping[str, Mapping[str, Any]] = {"0.001": {"lr": 1e-3}, "0.01": {"lr": 1e-2}}
POSITIVES: Mapping[str, Mapping[str, Any]] = {"real+accepted": {"positives": "real+accepted"}}
# Mistakes of the experts: name -> arguments of `experts.annotate`.
NOISES: Mapping[str, Mapping[str, Any]] = {
    "10 % wrong": {"wrong": 0.1},
    "20 % wrong": {"wrong": 0.2},
}


def cells(names: Sequence[str], seeds: Sequence[int] = SEEDS) -> list[Cell]:
    """The cells of these studies, in each setting by setting: a setting counts with all seeds."""
    return [
        Cell(name, setting, seed)
        for name in names
        for setting, seed in itertools.product(STUDIES[name][0], seeds)
    ]


class Measurer:
    """Measures cells; keeps every seed's networks, and some pools, between them."""

    def __init__(self, config: ml_collections.ConfigDict, folder: pathlib.Path):
        self._config, self._folder = config, folder
        self._benches: dict[int, benches.Bench] = {}

    def __call__(self, cell: Cell) -> dict[str, Any]:
        """The result of a cell."""
        if cell.seed not in self._benches:
            self._benches[cell.seed] = benches.Bench(self._config, self._folder, cell.seed)
        return STUDIES[cell.study][1](self._benches[cell.seed], **cell.setting)


@functools.lru_cache(maxsize=16)  # several studies ask for the same; 5 MB each
def _pools(
    seed: int, family: str, rate: float, trace: str = "faint"
) -> tuple[pools.Pool, pools.Pool]:
    kinds = pools.FAMILIES[family]
    return (
        pools.first(seed, _FIRST, rate, kinds, trace),
        pools.second(seed, _SECOND, rate, kinds, trace),
    )


def _filters(
    bench: benches.Bench, family: str, rate: float, share: float | None = None
) -> dict[str, Any]:
    """Annotators, VRN and filters against the truth, and the target models they lead to."""
    config = bench.config
    first, second = _pools(bench.seed, family, rate)
    verdicts = experts.annotate(first, EFFORT)
    vrn = benches.train(bench, first.records, verdicts)
    described = bench.space.describe(second.records)
    scores = benches.filter_scores(bench, second, described, vrn.score(second.records))
    kept = {name: benches.keep(config, second.records, score) for name, score in scores.items()}
    accuracy = {"unfiltered": benches.target_accuracy(bench, second.records, share)}
    for name, rows in kept.items():
        accuracy[name] = benches.target_accuracy(bench, second.records.subset(rows), share)
    return {
        "annotators": _annotators(bench, first),
        "filters": benches.rankings(config, second, scores),
        "accuracy": accuracy,
        **_judged(bench, vrn, second),
    }


def _annotators(bench: benches.Bench, pool: pools.Pool) -> dict[str, Any]:
    """The loop's own annotators, none of which sees the truth."""
    described, settings = bench.space.describe(pool.records), bench.config.annotate
    return {
        name: measures.verdicts(scores, pool.kind)
        for name, scores in automatic(bench, described, settings).items()
    }


def automatic(
    bench: benches.Bench, described: Any, settings: ml_collections.ConfigDict
) -> dict[str, np.ndarray]:
    """Scores of the automatic annotators, as `launch.annotate` calls them without an expert."""
    options = {"threshold": settings.threshold, "neighbours": settings.neighbours}
    free = [
        annotators.annotate(name, described, bench.reals, **options)
        for name in annotators.LABEL_FREE
    ]
    given = annotators.confident_labels(
        np.mean(free, axis=0), described.labels, settings.confident_share
    )
    return {
        name: annotators.annotate(
            name,
            described,
            bench.reals,
            given=given,
            seed=rng.fold(bench.seed, "annotate"),
            members=settings.members,
            **options,
        )
        for name in AUTOMATIC
    }


def _operating_point(vrn: benches.Vrn, pool: pools.Pool) -> dict[str, Any]:
    """The VRN as a yes or no, at the operating point that its calibration chose."""
    if vrn.calibration is None:
        return {"calibration": None}
    accepted = vrn.score(pool.records) >= vrn.calibration["operating_point"]["logit"]
    names = ("auc_within_synthetic", "ece", "accepted_of_real")
    return {
        "calibration": {
            **{name: vrn.calibration[name] for name in names},
            "accepted_of_sound": float(accepted[pool.sound].mean()),
            "accepted_of_faulty": float(accepted[~pool.sound].mean()),
        }
    }


def _vrn(
    bench: benches.Bench, family: str, verdicts: Callable[[pools.Pool], np.ndarray], **changes: Any
) -> dict[str, Any]:
    """One VRN against the truth of the second pool."""
    first, second = _pools(bench.seed, family, RATE)
    return _judged(bench, benches.train(bench, first.records, verdicts(first), **changes), second)


def _judged(bench: benches.Bench, vrn: benches.Vrn, pool: pools.Pool) -> dict[str, Any]:
    """A VRN against the truth of the second pool, and against real images."""
    scores = vrn.score(pool.records)
    kept = benches.keep(bench.config, pool.records, scores)
    return {
        "vrn": measures.ranking(scores, pool.kind, kept),
        # A detector of the generator tells real images from sound synthetic ones, with which
        # nothing is wrong.
        "auc_real_sound": measures.auc_between(vrn.score(bench.real["test"]), scores[pool.sound]),
        **_operating_point(vrn, pool),
    }


def _effort(bench: benches.Bench, family: str, count: int) -> dict[str, Any]:
    return _vrn(bench, family, lambda pool: experts.annotate(pool, count))


def _variant(variants: Mapping[str, Mapping[str, Any]]) -> Callable[..., dict[str, Any]]:
    def measure(bench: benches.Bench, family: str, variant: str) -> dict[str, Any]:
        return _vrn(bench, family, lambda pool: experts.annotate(pool, EFFORT), **variants[variant])

    return measure


def _noise(bench: benches.Bench, family: str, variant: str) -> dict[str, Any]:
    def verdicts(pool: pools.Pool) -> np.ndarray:
        if variant == "two raters":
            return experts.annotate(pool, EFFORT, wrong=0.2, raters=2, seed=bench.seed)
        if variant == "two who agree":
            return experts.agreed(pool, EFFORT, wrong=0.2, seed=bench.seed)
        if variant == "ensemble":
            described = bench.space.describe(pool.records)
            scores = automatic(bench, described, bench.config.annotate)["ensemble"]
            found = np.where(np.arange(len(scores)) < EFFORT, scores >= 0.5, annotators.UNKNOWN)
            return found.astype(np.int8)
        return experts.annotate(pool, EFFORT, seed=bench.seed, **NOISES[variant])

    return _vrn(bench, family, verdicts)


def _trap(bench: benches.Bench, trace: str, guard: str, positives: str) -> dict[str, Any]:
    """A VRN behind a guard, where all synthetic images bear a trace that no real image has."""
    first, second = _pools(bench.seed, "absurd", RATE, trace)
    verdicts = experts.annotate(first, EFFORT)
    vrn = benches.train(bench, first.records, verdicts, positives=positives, **GUARDS[guard])
    return _judged(bench, vrn, second)


def _transfer(bench: benches.Bench, learnt: str, positives: str) -> dict[str, Any]:
    return transfer.measure(bench, learnt, positives, effort=EFFORT, count=_SECOND, rate=RATE)


def _real(bench: benches.Bench) -> dict[str, Any]:
    return {"accuracy": benches.target_accuracy(bench, None)}


def _grid(**axes: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


_BOTH = tuple(pools.FAMILIES)
_POSITIVES = ("real", "real+accepted")
# Study -> its settings, and what measures one of them.
STUDIES: Mapping[str, tuple[Sequence[Mapping[str, Any]], Callable[..., dict[str, Any]]]] = {
    "real": ([{}], _real),
    "main": (_grid(family=_BOTH, rate=RATES), _filters),
    # No real image in the batches of the target model: the hardest test of a pool.
    "alone": (_grid(family=_BOTH, rate=RATES[-1:], share=(1.0,)), _filters),
    "generator": ([{}], generator.measure),
    # The main study has measured the effort that it takes.
    "effort": (_grid(family=_BOTH, count=[n for n in EFFORTS if n != EFFORT]), _effort),
    "trap": (
        [
            *_grid(trace=("doubled",), positives=_POSITIVES, guard=tuple(GUARDS)),
            *_grid(trace=("coarse",), positives=_POSITIVES, guard=("none", "whole")),
            # The main study has measured the whole guard against this trace.
            *_grid(trace=("faint",), positives=("real",), guard=("none", "jitter", "reduced")),
        ],
        _trap,
    ),
    "transfer": (_grid(learnt=transfer.CHECKPOINTS, positives=_POSITIVES), _transfer),
    "noise": (
        _grid(family=("absurd",), variant=(*NOISES, "two raters", "two who agree", "ensemble")),
        _noise,
    ),
    "positives": (_grid(family=_BOTH, variant=tuple(POSITIVES)), _variant(POSITIVES)),
    "head": (_grid(family=_BOTH, variant=tuple(HEADS)), _variant(HEADS)),
    "lr": (
        _grid(family=("absurd",), variant=tuple(RATES_OF_LEARNING)),
        _variant(RATES_OF_LEARNING),
    ),
    "depth": (_grid(family=("absurd",), variant=tuple(DEPTHS)), _variant(DEPTHS)),
}
MAIN = ("real", "main")
