"""The training step of every detector that is no classifier."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from nn import learner
from nn.gradient import PLAIN, Gradient
from nn.learner import State

Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class DetectorSpec:
    """What a detector is and how it learns; hashable, so that it can be a static argument.

    Attributes:
      model: of images [B, *S, C].
      loss: one of `detectors.losses`.
      tx: the optimiser with its schedule.
      gradient: micro-batches, rematerialisation and devices.
    """

    model: nn.Module
    loss: Callable[[nn.Module, Any, dict[str, jax.Array]], tuple[jax.Array, Metrics]]
    tx: optax.GradientTransformation
    gradient: Gradient = PLAIN


def init_state(key: jax.Array, image_shape: tuple[int, ...], *, spec: DetectorSpec) -> State:
    """Fresh state for images of this shape [*S, C]."""
    images = jnp.zeros((1, *image_shape), jnp.float32)
    return learner.begin(spec.model.init(key, images)["params"], spec.tx)


def train_step(
    state: State, batch: Mapping[str, jax.Array], key: jax.Array, *, spec: DetectorSpec
) -> tuple[State, Metrics]:
    """One update; pure, to be jitted with `spec` static and state donated.

    Args:
      state: the state before it.
      batch: 'image' [B, *S, C] in [-1, 1], and what else the loss reads.
      key: the run's key; the step is folded in here, and every row gets one of its own.
      spec: static.

    Returns:
      The next state, and the loss's metrics with 'grad_norm'.
    """
    keys = jax.random.split(jax.random.fold_in(key, state.step), len(batch["image"]))

    def loss(params: Any, _: None, rows: dict[str, jax.Array]) -> tuple[jax.Array, Metrics]:
        return spec.loss(spec.model, params, rows)

    return learner.update(state, {**batch, "key": keys}, loss, spec.tx, spec.gradient)
