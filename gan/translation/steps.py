"""The training step: `n_critic` discriminator updates, then one of the translator."""

import enum
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan import penalties
from gan.state import GanState, Params
from gan.steps import dealt, update_ema
from gan.translation import losses
from gan.translation.state import TranslatorSpec

Metrics = dict[str, jax.Array]
Rows = dict[str, Any]  # arrays [B, ...]: images, codes and what is drawn for each of them


class Use(enum.IntEnum):
    """What a random key is folded with before each use, as in `gan.steps`."""

    DISCRIMINATOR = 1
    TRANSLATOR = 2
    TARGET = 3
    MIX = 4
    WHICH = 5


def train_step(
    state: GanState, batch: dict[str, jax.Array], key: jax.Array, *, spec: TranslatorSpec
) -> tuple[GanState, Metrics]:
    """One step of training; pure, to be jitted with `spec` static and state donated.

    All randomness is drawn for the whole batch first, so that it does not depend on how
    `spec.gradient` divides the rows.

    Args:
        state: the state before the step; `state.step` makes every step's randomness its own.
        batch: 'image' [n_critic * B, *S, C] in [-1, 1] and 'label' [n_critic * B] int32. Update i
            takes every n_critic-th row from the i-th on; the translator takes those of the last.
        key: the run's key for training, the same at every step.
        spec: models, optimisers and settings.

    Returns:
        The next state, and scalars without their weights. Of the discriminator, means over its
        updates: 'd_loss' (adversarial), 'd_real' and 'd_fake' (mean realness), 'd_fake_same' where
        it is shown those, 'd_domain', 'penalty', 'd_grad_norm'. Of the translator: 'g_adversarial',
        'g_domain', 'g_cycle', with the fixed point also 'g_adversarial_same', 'g_domain_same',
        'g_cycle_same' and 'g_identity', then 'g_loss' (all of them, weighted) and 'g_grad_norm'.

    Raises:
        ValueError: if the batch does not divide into `n_critic` parts.
    """
    parts = dealt(batch, spec.n_critic)
    key = jax.random.fold_in(key, state.step)

    d_params, d_opt = state.d_params, state.d_opt
    d_key = jax.random.fold_in(key, Use.DISCRIMINATOR)
    updates = []
    for index, part in enumerate(parts):
        rows = _rows(part, jax.random.fold_in(d_key, index), spec)
        loss = functools.partial(_discriminator_loss, spec=spec)
        d_grad, metrics = spec.gradient(loss, d_params, state.g_params, rows)
        change, d_opt = spec.d_tx.update(d_grad, d_opt, d_params)
        d_params = optax.apply_updates(d_params, change)
        updates.append(metrics | {"d_grad_norm": optax.tree.norm(d_grad)})

    rows = _rows(parts[-1], jax.random.fold_in(key, Use.TRANSLATOR), spec)
    loss = functools.partial(_translator_loss, spec=spec)
    g_grad, g_metrics = spec.gradient(loss, state.g_params, d_params, rows)
    change, g_opt = spec.g_tx.update(g_grad, state.g_opt, state.g_params)
    g_params = optax.apply_updates(state.g_params, change)

    metrics = jax.tree.map(lambda *values: jnp.stack(values).mean(), *updates)
    metrics |= g_metrics | {"g_grad_norm": optax.tree.norm(g_grad)}
    state = GanState(
        step=state.step + 1,
        g_params=g_params,
        d_params=d_params,
        ema_params=update_ema(state.ema_params, g_params, state.step, spec.ema_decay),
        g_opt=g_opt,
        d_opt=d_opt,
    )
    return state, metrics


def _rows(part: dict[str, jax.Array], key: jax.Array, spec: TranslatorSpec) -> Rows:
    """Images with the codes of their own and their target domains, and all other randomness."""
    images, domains = part["image"], spec.domains
    own = domains.of(part["label"])
    target_key = jax.random.fold_in(key, Use.TARGET)
    if spec.targets == "permuted":
        target = jax.random.permutation(target_key, own)
    else:
        count = len(domains.names)
        target = (own + jax.random.randint(target_key, own.shape, 1, count)) % count
    shape = (len(images),) + (1,) * (images.ndim - 1)
    return {
        "image": images,
        "own": domains.code(own),
        "target": domains.code(target),
        "mix": jax.random.uniform(jax.random.fold_in(key, Use.MIX), shape, images.dtype),
        "which": jax.random.bernoulli(jax.random.fold_in(key, Use.WHICH), 0.5, shape),
    }


def _translations(
    g_params: Params, images: list[jax.Array], codes: list[jax.Array], spec: TranslatorSpec
) -> list[jax.Array]:
    """G(x, c) of each pair of images [B, *S, C] and codes [B, K], all in one pass."""
    made = spec.translator.apply(
        {"params": g_params}, jnp.concatenate(images), jnp.concatenate(codes)
    )
    return jnp.split(made, len(images))


def _judged(
    d_params: Params, images: list[jax.Array], spec: TranslatorSpec
) -> list[tuple[jax.Array, jax.Array]]:
    """Realness and domain logits of each of the images [B, *S, C], all in one pass."""
    real, domain = spec.discriminator.apply({"params": d_params}, jnp.concatenate(images))
    return list(zip(jnp.split(real, len(images)), jnp.split(domain, len(images)), strict=True))


def _discriminator_loss(
    d_params: Params, g_params: Params, rows: Rows, *, spec: TranslatorSpec
) -> tuple[jax.Array, Metrics]:
    """-L_adv + lambda_dom E[-log D_dom(c_x|x)], and the metrics of one update."""
    x, weights = rows["image"], losses.CRITICS[spec.critic]
    both = spec.judges_same
    codes = [rows["target"], rows["own"]] if both else [rows["target"]]
    fakes = _translations(g_params, [x] * len(codes), codes, spec)
    (real, domain), *judged = _judged(d_params, [x, *fakes], spec)
    realness = [one for one, _ in judged]
    shares = [weights.cross, weights.same] if both else [1.0]
    loss = losses.critic(real, realness, shares)
    domain_loss = spec.domains.loss(domain, rows["own"])

    def patch_sum(images: jax.Array) -> jax.Array:
        patches = _judged(d_params, [images], spec)[0][0]
        return patches.sum(tuple(range(1, patches.ndim)))

    # Where the discriminator is shown both translations, the line leads to either of them.
    fake = jnp.where(rows["which"], *fakes) if both else fakes[0]
    penalty = penalties.gradient_penalty(patch_sum, x, fake, rows["mix"])
    metrics = {
        "d_loss": loss,
        "d_real": real.mean(),
        "d_fake": realness[0].mean(),
        "d_domain": domain_loss,
        "penalty": penalty,
    }
    if both:
        metrics["d_fake_same"] = realness[1].mean()
    total = loss + spec.weights.penalty * penalty + spec.weights.domain * domain_loss
    return total, metrics


def _translator_loss(
    g_params: Params, d_params: Params, rows: Rows, *, spec: TranslatorSpec
) -> tuple[jax.Array, Metrics]:
    """Sum over c of adversarial, domain and cycle terms, and the conditional identity."""
    x, own = rows["image"], rows["own"]
    codes = {"": rows["target"]}
    if spec.fixed_point:
        codes["_same"] = own
    fakes = _translations(g_params, [x] * len(codes), list(codes.values()), spec)
    cycles = _translations(g_params, fakes, [own] * len(codes), spec)
    judged = _judged(d_params, fakes, spec)
    total, metrics = jnp.zeros(()), {}
    for (name, code), (real, domain), cycle in zip(codes.items(), judged, cycles, strict=True):
        terms = {
            "g_adversarial": losses.adversarial(real),
            "g_domain": spec.domains.loss(domain, code),
            "g_cycle": losses.distance(x, cycle),
        }
        total += (
            terms["g_adversarial"]
            + spec.weights.domain * terms["g_domain"]
            + spec.weights.cycle * terms["g_cycle"]
        )
        metrics |= {f"{term}{name}": value for term, value in terms.items()}
    if spec.fixed_point:
        metrics["g_identity"] = losses.distance(x, fakes[1])
        total += spec.weights.identity * metrics["g_identity"]
    return total, metrics | {"g_loss": total}
