"""What every training of one network by one loss has in common: its state, and an update of it."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from nn.gradient import Gradient, Loss


class State(flax.struct.PyTreeNode):
    """Everything that training changes: step [], params and opt_state pytrees."""

    step: jax.Array
    params: Any
    opt_state: Any


def begin(params: Any, tx: optax.GradientTransformation) -> State:
    """The state before the first update of these parameters."""
    return State(step=jnp.zeros((), jnp.int32), params=params, opt_state=tx.init(params))


def update(
    state: State,
    rows: Mapping[str, jax.Array],
    loss: Loss,
    tx: optax.GradientTransformation,
    gradient: Gradient,
) -> tuple[State, dict[str, jax.Array]]:
    """One update.

    Args:
      state: before it.
      rows: arrays [B, ...], as `nn.gradient.Gradient` divides them.
      loss: `(params, None, rows) -> (scalar, metrics)`, a mean over rows.
      tx: the optimiser.
      gradient: how the gradient is taken.

    Returns:
      The next state, and the metrics with 'grad_norm'.
    """
    grads, metrics = gradient(loss, state.params, None, rows)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    metrics |= {"grad_norm": optax.tree.norm(grads)}
    params = optax.apply_updates(state.params, updates)
    return State(step=state.step + 1, params=params, opt_state=opt_state), metrics
