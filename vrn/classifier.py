"""The one supervised trainer: the feature network, the VRN and every target model use it.

The state holds arrays only; the model, the optimiser and the preparation of images stand beside it
in a `ClassifierSpec`, which is static under `jax.jit`. Launch jits `train_step` once per spec and
donates the state; one spec serves every seed and every arm without compiling again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nn import learner
from nn.gradient import PLAIN, Gradient
from nn.learner import State

if TYPE_CHECKING:  # The networks train where the file formats' packages are absent.
    from data.records import Records

Array = jax.Array
Metrics = dict[str, Array]


def unprepared(images: Array, key: Array | None) -> Array:
    """The preparation of a plain classifier: images as they come."""
    del key
    return images


@dataclasses.dataclass(frozen=True)
class ClassifierSpec:
    """What a classifier is and how it learns; hashable, so that it can be a static argument.

    Attributes:
      model: maps images [B, H, W, C] to logits [B, num_classes], with a method `features`.
      tx: the optimiser with its schedule.
      num_classes: number of logits; a VRN has 2 (0 non-real-like, 1 real-like).
      label_smoothing: share of the target spread evenly over the classes, in [0, 1).
      prepare: `prepare(images, key)` applied to every batch; the key is None outside training, and
        then the result must not be random.
      gradient: micro-batches, rematerialisation and devices.
    """

    model: nn.Module
    tx: optax.GradientTransformation
    num_classes: int
    label_smoothing: float = 0.0
    prepare: Callable[[Array, Array | None], Array] = unprepared
    gradient: Gradient = PLAIN


def init_state(key: Array, image_shape: tuple[int, int, int], *, spec: ClassifierSpec) -> State:
    """Fresh state for images [H, W, C]; run it under jit to place it with shardings."""
    images = jnp.zeros((1, *image_shape), jnp.float32)
    return learner.begin(spec.model.init(key, spec.prepare(images, None))["params"], spec.tx)


def train_step(
    state: State, batch: Mapping[str, Array], key: Array, *, spec: ClassifierSpec
) -> tuple[State, Metrics]:
    """One optimiser step of softmax cross-entropy.

    Args:
      state: the state; may be donated.
      batch: 'image' float32 [B, H, W, C] in [-1, 1] and 'label' int32 [B] in [0, num_classes); of
        mixed images also 'mix_label' int32 [B] and 'mix_weight' float32 [B], the share of 'label'
        in the target.
      key: the run's key for this purpose; the step is folded in here.
      spec: static.

    Returns:
      The next state, and scalars 'loss' (nats), 'accuracy' (share; by 'label') and 'grad_norm'.
    """
    # Prepared before it is divided: the draws do not depend on how.
    images = spec.prepare(batch["image"], jax.random.fold_in(key, state.step))

    def loss_fn(params: Any, _: None, rows: Mapping[str, Array]) -> tuple[Array, Metrics]:
        targets = jax.nn.one_hot(rows["label"], spec.num_classes)
        if "mix_label" in rows:
            share = rows["mix_weight"][:, None]
            other = jax.nn.one_hot(rows["mix_label"], spec.num_classes)
            targets = share * targets + (1 - share) * other
        targets = optax.smooth_labels(targets, spec.label_smoothing)
        logits = spec.model.apply({"params": params}, rows["image"])
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        return loss, {"loss": loss, "accuracy": jnp.mean(jnp.argmax(logits, -1) == rows["label"])}

    rows = {**batch, "image": images}
    return learner.update(state, rows, loss_fn, spec.tx, spec.gradient)


def predict(params: Any, images: Array, *, spec: ClassifierSpec) -> Array:
    """Logits [B, num_classes] of images [B, H, W, C]; no randomness."""
    return spec.model.apply({"params": params}, spec.prepare(images, None))


def features(params: Any, images: Array, *, spec: ClassifierSpec) -> Array:
    """Pooled features [B, F] of images [B, H, W, C], the input of the last layer."""
    return spec.model.apply({"params": params}, spec.prepare(images, None), method="features")


def margin(logits: np.ndarray | Array) -> np.ndarray | Array:
    """The VRN's score [B]: log-odds of real-like, from its two logits [B, 2]."""
    return logits[..., 1] - logits[..., 0]


def in_batches(
    fn: Callable[[Any, Array], Any],
    params: Any,
    images: np.ndarray | Records,
    batch_size: int,
    place: Callable[[np.ndarray], Any] = jnp.asarray,
) -> Any:
    """Applies `fn(params, batch)` to any number of images in batches of one fixed shape.

    The last batch is padded with zeros and cut afterwards, so a jitted `fn` compiles once whatever
    N is. Models without batch statistics make the padding invisible to the other rows. Results are
    fetched one batch late, so that the device does not wait for the host.

    Args:
      fn: maps images [batch_size, H, W, C] to an array, or pytree of arrays, of batch_size rows.
      params: first argument of `fn`.
      images: float32 [N, H, W, C] in [-1, 1], or records that are read batch by batch.
      batch_size: rows per call.
      place: puts a batch on the devices (launch passes one that shards it).

    Returns:
      What `fn` returns, as numpy with N rows.
    """
    total = len(images)
    if total == 0:
        raise ValueError("There are no images to apply the network to.")
    done: list[Any] = []
    pending: tuple[Any, int] | None = None

    def fetch(result: Any, rows: int) -> Any:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:rows], result)

    for start in range(0, total, batch_size):
        rows = min(batch_size, total - start)
        chunk = (
            images[start : start + rows]
            if isinstance(images, np.ndarray)
            else images.read(np.arange(start, start + rows))
        )
        padding = [(0, batch_size - rows)] + [(0, 0)] * (chunk.ndim - 1)
        result = fn(params, place(np.pad(chunk, padding)))
        if pending is not None:
            done.append(fetch(*pending))
        pending = (result, rows)
    done.append(fetch(*pending))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *done)
