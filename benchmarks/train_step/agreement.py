"""Whether both sides compute the same thing, before anything is timed.

- In float64, with 8 images per update (of a translator, whose steps are the longest, 2), from the
  same weights and random numbers: losses and all gradients of the first step agree to 1e-4, and the
  losses of ten steps to 1e-3. Gradients are read from Adam's first moments.
- In float32, as timed, the first step is compared more loosely: losses to 5e-3 and the gradients of
  what is updated first (a classifier, or a discriminator that is updated once) to 3e-3. A new
  discriminator finds real and generated images alike, so that its loss and gradient are the small
  difference of two, with their rounding; and Adam divides each gradient by its own size, so where
  that is nearly zero rounding decides the sign of a whole step, and what comes after an update (the
  second of five, a generator's gradient) parts between two correct programs.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
import torch
from jax import flatten_util

from benchmarks.train_step import ours, rows, torch_steps
from benchmarks.train_step.measure import DisagreementError

LIMITS = {
    "first_loss": 1e-4,
    "gradient": 1e-4,
    "ten_losses": 1e-3,
    "first_loss_float32": 5e-3,
    "gradient_float32": 3e-3,
}
STEPS = 10
_BATCH, _TRANSLATOR_BATCH = 8, 2
# A loss nearer to zero is a difference of larger numbers, and has their rounding: in float64, and
# in float32, where a Wasserstein loss of 1e-3 after five updates is 1e-4 off in either program.
_SCALE = 1e-3
_SCALE_FLOAT32 = 1e-2


def check(
    work: ours.Work, manner: torch_steps.Manner, mine: ours.Side | None = None
) -> dict[str, float]:
    """Compares both sides.

    Args:
        work: the row's work.
        manner: of PyTorch.
        mine: our side before its first step, which it takes; only where it computes in full
            float32. By default one is compiled that does.

    Returns:
        The largest relative differences, by the names of `LIMITS`.
    """
    if mine is None:
        with jax.default_matmul_precision("highest"):
            mine = ours.Side(work)
    theirs = torch_steps.build(work, manner)
    first_rounded = _loss_difference(work, mine, theirs, 0, _SCALE_FLOAT32)
    rounded = gradient_difference(work, mine, theirs, only_first=True)
    most = _TRANSLATOR_BATCH if work.row.kind in rows.TRANSLATORS else _BATCH
    small = dataclasses.replace(work.row, batch=min(work.row.batch, most))
    work = ours.build(small)
    with jax.enable_x64(True):
        work = in_float64(work)
        mine, theirs = ours.Side(work), torch_steps.build(work, manner)
        ten = [_loss_difference(work, mine, theirs, 0)]
        gradient = gradient_difference(work, mine, theirs)
        ten += [_loss_difference(work, mine, theirs, step) for step in range(1, STEPS)]
    return {
        "first_loss": ten[0],
        "gradient": gradient,
        "ten_losses": max(ten),
        "first_loss_float32": first_rounded,
        "gradient_float32": rounded,
    }


def in_float64(work: ours.Work) -> ours.Work:
    """The same work with every float32 array in float64; to be used with x64 enabled."""
    double = lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf  # noqa: E731
    return dataclasses.replace(
        work,
        state=jax.tree.map(double, work.state),
        batch=jax.tree.map(double, work.batch),
    )


def verdict(found: dict[str, float]) -> None:
    """Raises `DisagreementError` if a difference is beyond its limit, or not a number."""
    beyond = [f"{k} by {found[k]:.1e} > {v:.0e}" for k, v in LIMITS.items() if not found[k] <= v]
    if beyond:
        raise DisagreementError("the two sides differ: " + ", ".join(beyond))


def compare(losses: tuple[str, ...], one: dict[str, Any], other: dict[str, Any]) -> None:
    """Raises `DisagreementError` if the losses of a first step differ."""
    verdict(
        dict.fromkeys(LIMITS, 0.0)
        | {
            "first_loss_float32": max(
                _difference(one[name], other[name], _SCALE_FLOAT32) for name in losses
            )
        }
    )


def _loss_difference(
    work: ours.Work, mine: ours.Side, theirs: Any, step: int, scale: float = _SCALE
) -> float:
    one, other = mine.take(), theirs.take(ours.draws(work, step))
    return max(_difference(one[name], other[name], scale) for name in work.losses)


def gradient_difference(
    work: ours.Work,
    side: ours.Side,
    other: torch_steps.Side,
    *,
    only_first: bool = False,
) -> float:
    """Largest relative distance between the networks' moments, each network as one vector.

    With `only_first`, of those whose gradient no other update came before.
    """
    state = side.state
    if work.row.kind in rows.CLASSIFIERS:
        return _distance(state.opt_state, state.params, other.adam, other.network)
    pairs = [
        (state.d_opt, state.d_params, other.d_adam, other.discriminator),
        (state.g_opt, state.g_params, other.g_adam, other.generator),
    ]
    if only_first:
        pairs = pairs[: 1 if work.settings.n_critic == 1 else 0]
    return max((_distance(*pair) for pair in pairs), default=0.0)


def _distance(
    opt: Any, params: Any, adam: torch.optim.Optimizer, network: torch.nn.Module
) -> float:
    theirs = [adam.state[p]["exp_avg"].double().cpu() for p in network.parameters()]
    # The twin puts our moments into its own order and shapes, as it does with our weights.
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    unravel = flatten_util.ravel_pytree(params)[1]
    network.from_jax(unravel(optax.tree_utils.tree_get(opt, "mu")))
    mine = [p.detach().double().cpu().clone() for p in network.parameters()]
    network.load_state_dict(kept)
    squares = sum((a - b).square().sum() for a, b in zip(mine, theirs, strict=True))
    return float((squares / sum(a.square().sum() for a in mine)).sqrt())


def _difference(mine: Any, theirs: Any, scale: float) -> float:
    return abs(float(theirs) - float(mine)) / max(abs(float(mine)), scale)
