"""The training step: `n_critic` discriminator updates, then one of the generator."""

import enum
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan import augment, penalties
from gan.losses import LOSSES
from gan.state import GanSpec, GanState, Params
from nn import spectral

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Rows = dict[str, Any]  # arrays [B, ...]: images, labels and what is drawn for each of them


class Use(enum.IntEnum):
    """What a random key is folded with before each use, so that no two draws share a key.

    The run's key is folded with the step, with one of the first two (DISCRIMINATOR also with the
    number of the update), and with one of the others.
    """

    DISCRIMINATOR = 1
    GENERATOR = 2
    LATENT = 3
    LABEL = 4
    AUGMENT_REAL = 5
    AUGMENT_FAKE = 6
    MIX = 7
    AUGMENT_MIXED = 8


def train_step(
    state: GanState, batch: Batch, key: jax.Array, *, spec: GanSpec
) -> tuple[GanState, Metrics]:
    """One step of adversarial training; pure, to be jitted with `spec` static and state donated.

    The discriminator updates are unrolled, since a convolution in a rolled loop is some 70 times
    slower on CPU. Each takes its own B images of the batch. All randomness is drawn for the whole
    batch first, so that it does not depend on how `spec.gradient` divides the rows.

    Every fake takes the class of the real image in its row and is judged with the same label, so
    that real and fake labels are distributed alike and the images between the two (WGAN-GP) have
    one label; with labels drawn apart, a conditional Wasserstein critic diverges. Where the label
    is missing, the generator gets a class drawn uniformly and both images are judged without one:
    the unconditional part compares like with like.

    Args:
        state: the state before the step; `state.step` makes every step's randomness its own.
        batch: 'image' [n_critic * B, H, W, C] in [-1, 1] and 'label' [n_critic * B] int32, -1 where
            the label is missing. Update i takes every n_critic-th row from the i-th on.
        key: the run's key for training, the same at every step.
        spec: models, optimisers and settings.

    Returns:
        The next state, and scalars 'd_loss' (without penalty), 'g_loss', 'penalty' (without its
        weight), 'd_real' and 'd_fake' (mean logits), 'd_grad_norm' and 'g_grad_norm'; those of the
        discriminator are means over its updates.

    Raises:
        ValueError: if the batch does not divide into `n_critic` parts.
    """
    parts = dealt(batch, spec.n_critic)
    key = jax.random.fold_in(key, state.step)

    d_params, d_opt = state.d_params, state.d_opt
    d_key = jax.random.fold_in(key, Use.DISCRIMINATOR)
    updates = []
    for index, part in enumerate(parts):
        rows = part | _discriminator_draws(part, jax.random.fold_in(d_key, index), spec)
        loss = functools.partial(_discriminator_loss, spec=spec)
        d_grad, metrics = spec.gradient(loss, d_params, state.g_params, rows)
        change, d_opt = spec.d_tx.update(d_grad, d_opt, d_params)
        d_params = spectral.advance(optax.apply_updates(d_params, change))
        updates.append(metrics | {"d_grad_norm": optax.tree.norm(d_grad)})

    g_key = jax.random.fold_in(key, Use.GENERATOR)
    images, labels = parts[-1]["image"], parts[-1]["label"]
    rows = {"label": labels} | _fake_draws(labels, g_key, spec)
    rows["augment_fake"] = _augment_draws(g_key, Use.AUGMENT_FAKE, images, spec)
    loss = functools.partial(_generator_loss, spec=spec)
    g_grad, g_loss = spec.gradient(loss, state.g_params, d_params, rows)
    change, g_opt = spec.g_tx.update(g_grad, state.g_opt, state.g_params)
    g_params = optax.apply_updates(state.g_params, change)

    metrics = jax.tree.map(lambda *values: jnp.stack(values).mean(), *updates)
    metrics |= {"g_loss": g_loss, "g_grad_norm": optax.tree.norm(g_grad)}
    state = GanState(
        step=state.step + 1,
        g_params=g_params,
        d_params=d_params,
        ema_params=update_ema(state.ema_params, g_params, state.step, spec.ema_decay),
        g_opt=g_opt,
        d_opt=d_opt,
    )
    return state, metrics


def dealt(batch: Batch, n_critic: int) -> list[Batch]:
    """The images and labels of each of `n_critic` updates: every n_critic-th row.

    Batches come ordered by class or source, and each update should see all of them; and each device
    has its rows of each update at home.

    Raises:
        ValueError: if the batch does not divide so.
    """
    images, labels = batch["image"], batch["label"]
    size, rest = divmod(len(images), n_critic)
    if rest:
        raise ValueError(f"a batch of {len(images)} is no multiple of n_critic {n_critic}")
    images = images.reshape(size, n_critic, *images.shape[1:])
    labels = labels.reshape(size, n_critic)
    return [{"image": images[:, i], "label": labels[:, i]} for i in range(n_critic)]


def update_ema(average: Params, params: Params, step: jax.Array, decay: float) -> Params:
    """Moving average b * average + (1 - b) * params with b = min(decay, (1 + step) / (10 + step)).

    The smaller b of early steps forgets the initial values, which a short training otherwise
    carries along.
    """
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: new + decay * (old - new), average, params)


def _fake_draws(labels: jax.Array, key: jax.Array, spec: GanSpec) -> Rows:
    """Latents, and the given classes or, where the label is -1, any."""
    batch, generator = labels.shape[0], spec.generator
    any_class = jax.random.randint(
        jax.random.fold_in(key, Use.LABEL), (batch,), 0, generator.num_classes
    )
    return {
        "latent": jax.random.normal(jax.random.fold_in(key, Use.LATENT), (batch, generator.z_dim)),
        "class": jnp.where(labels < 0, any_class, labels),
    }


def _augment_draws(key: jax.Array, use: Use, images: jax.Array, spec: GanSpec) -> list[Rows]:
    policy = spec.augment_policy
    return augment.draw(jax.random.fold_in(key, use), policy, images.shape, images.dtype)


def _discriminator_draws(rows: Rows, key: jax.Array, spec: GanSpec) -> Rows:
    """All randomness of one discriminator update, one row per image."""
    images = rows["image"]
    draws = _fake_draws(rows["label"], key, spec)
    draws["augment_real"] = _augment_draws(key, Use.AUGMENT_REAL, images, spec)
    draws["augment_fake"] = _augment_draws(key, Use.AUGMENT_FAKE, images, spec)
    if spec.penalty == "gp":
        draws["augment_mixed"] = _augment_draws(key, Use.AUGMENT_MIXED, images, spec)
        shape = (images.shape[0], 1, 1, 1)
        draws["mix"] = jax.random.uniform(jax.random.fold_in(key, Use.MIX), shape, images.dtype)
    return draws


def _fakes(g_params: Params, rows: Rows, spec: GanSpec) -> jax.Array:
    """Generated images [B, H, W, C]."""
    return spec.generator.apply({"params": g_params}, rows["latent"], rows["class"])


def _judge(
    d_params: Params, rows: Rows, augmentation: str, spec: GanSpec
) -> Callable[[jax.Array], jax.Array]:
    """The discriminator behind its augmentation, as a function of the images before it."""

    def d_fn(images: jax.Array) -> jax.Array:
        augmented = augment.augment(
            images, rows[augmentation], spec.augment_policy, spec.augment_fill
        )
        return spec.discriminator.apply({"params": d_params}, augmented, rows["label"])

    return d_fn


def _discriminator_loss(
    d_params: Params, g_params: Params, rows: Rows, *, spec: GanSpec
) -> tuple[jax.Array, Metrics]:
    """Adversarial loss plus weighted penalty, and the metrics of one discriminator update."""
    real, fake = rows["image"], _fakes(g_params, rows, spec)
    real_fn = _judge(d_params, rows, "augment_real", spec)
    fake_fn = _judge(d_params, rows, "augment_fake", spec)
    real_logits, fake_logits = real_fn(real), fake_fn(fake)
    loss = LOSSES[spec.loss].discriminator(real_logits, fake_logits)

    if spec.penalty == "r1":
        # The augmentation of the loss, so that the compiler shares its forward pass.
        penalty = penalties.r1(real_fn, real)
    elif spec.penalty == "gp":
        mixed_fn = _judge(d_params, rows, "augment_mixed", spec)
        penalty = penalties.gradient_penalty(mixed_fn, real, fake, rows["mix"])
    else:
        penalty = jnp.zeros(())
    metrics = {
        "d_loss": loss,
        "penalty": penalty,
        "d_real": real_logits.mean(),
        "d_fake": fake_logits.mean(),
    }
    return loss + spec.penalty_weight * penalty, metrics


def _generator_loss(
    g_params: Params, d_params: Params, rows: Rows, *, spec: GanSpec
) -> tuple[jax.Array, jax.Array]:
    """The generator's loss, twice: to differentiate and to report."""
    d_fn = _judge(d_params, rows, "augment_fake", spec)
    loss = LOSSES[spec.loss].generator(d_fn(_fakes(g_params, rows, spec)))
    return loss, loss
