"""The training step: what it updates, with which labels, how often, and from which randomness."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan.models.dcgan import Discriminator, Generator
from gan.state import GanSpec, init_state
from gan.steps import train_step, update_ema

BATCH = 8
METRICS = {"d_loss", "g_loss", "penalty", "d_real", "d_fake", "d_grad_norm", "g_grad_norm"}


class ToyGenerator(nn.Module):
    """Images [B, 4, 4, 1] of one value, linear in the latent, plus one value per class."""

    z_dim: int = 2
    num_classes: int = 3

    @nn.compact
    def __call__(self, z, labels):
        value = nn.Dense(1)(z)[:, 0]
        value = value + nn.Embed(self.num_classes, 1, name="classes")(labels)[:, 0]
        return jnp.broadcast_to(value[:, None, None, None], (len(z), 4, 4, 1))


class ToyDiscriminator(nn.Module):
    """A quadratic of the image's mean plus a class embedding that label -1 switches off."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, labels):
        mean = x.mean((1, 2, 3))
        embedding = self.param("classes", nn.initializers.ones_init(), (self.num_classes,))
        term = (jax.nn.one_hot(labels, self.num_classes) @ embedding) * mean
        return nn.Dense(1)(jnp.stack([mean, mean**2], -1))[:, 0] + term


def toy_spec(**changes):
    sgd = optax.sgd(0.05)
    return GanSpec(ToyGenerator(), ToyDiscriminator(), sgd, sgd, **changes)


def batch_of(spec, *, size=4, labels=None):
    rows = BATCH * spec.n_critic
    images = jax.random.uniform(jax.random.key(9), (rows, size, size, 1), minval=-1)
    labels = jnp.arange(rows) % 3 if labels is None else labels
    return {"image": images, "label": labels.astype(jnp.int32)}


def jitted(spec):
    return jax.jit(functools.partial(train_step, spec=spec))


@pytest.fixture(scope="module")
def dcgan():
    adam = optax.adam(1e-3, b1=0.5)
    spec = GanSpec(
        Generator(16, 1, width=4, num_classes=3, z_dim=8),
        Discriminator(16, 1, width=4, num_classes=3),
        adam,
        adam,
        penalty="gp",
        penalty_weight=10.0,
        n_critic=2,
        augment_policy=("color", "translation", "cutout"),
    )
    step = jax.jit(train_step, static_argnames="spec", donate_argnums=0)
    return spec, functools.partial(step, spec=spec), step


def test_the_full_step_compiles_once_and_updates_everything(dcgan):
    spec, step, compiled = dcgan
    first = jax.tree.map(np.asarray, init_state(spec, jax.random.key(0)))
    state = init_state(spec, jax.random.key(0))
    structure = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    batch = batch_of(spec, size=16)
    before = compiled._cache_size()  # Shared with every other jit of the same function.
    for _ in range(3):
        state, metrics = step(state, batch, jax.random.key(1))
    assert compiled._cache_size() == before + 1
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == structure
    assert int(state.step) == 3
    assert set(metrics) == METRICS
    assert all(np.isfinite(value) and value.shape == () for value in metrics.values())
    for name in ("g_params", "d_params", "ema_params"):
        moved = jax.tree.map(
            lambda a, b: not np.array_equal(a, b), getattr(first, name), getattr(state, name)
        )
        assert all(jax.tree.leaves(moved))


def test_equal_specs_share_a_compilation_and_initial_states_differ_by_key(dcgan):
    spec, _, compiled = dcgan
    before = compiled._cache_size()
    state = init_state(dataclasses.replace(spec), jax.random.key(4))
    compiled(state, batch_of(spec, size=16), jax.random.key(1), spec=dataclasses.replace(spec))
    assert compiled._cache_size() == before
    one, other = (init_state(spec, jax.random.key(seed)) for seed in (5, 6))
    kernels = [s.d_params["Conv_0"]["kernel"] for s in (one, other)]
    assert not np.array_equal(*kernels)


def test_the_moving_average_starts_as_a_copy(dcgan):
    spec = dcgan[0]
    state = init_state(spec, jax.random.key(0))
    for mine, average in zip(
        jax.tree.leaves(state.g_params), jax.tree.leaves(state.ema_params), strict=True
    ):
        np.testing.assert_array_equal(mine, average)
        assert mine.unsafe_buffer_pointer() != average.unsafe_buffer_pointer()


def test_the_same_key_and_step_give_the_same_bits_and_others_do_not():
    spec = toy_spec()
    state, step, batch = init_state(spec, jax.random.key(0)), jitted(spec), batch_of(spec)
    one, _ = step(state, batch, jax.random.key(1))
    again, _ = step(state, batch, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    other_key, _ = step(state, batch, jax.random.key(2))
    other_step, _ = step(state.replace(step=jnp.int32(7)), batch, jax.random.key(1))
    for other in (other_key, other_step):
        assert not np.array_equal(
            one.g_params["Dense_0"]["kernel"], other.g_params["Dense_0"]["kernel"]
        )


@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "wasserstein"])
def test_discriminator_steps_lower_its_loss_on_a_toy(loss):
    # The generator stands still, so that the critic's loss has only one way to go.
    still = toy_spec(loss=loss)
    still = dataclasses.replace(still, g_tx=optax.set_to_zero())
    state, step = init_state(still, jax.random.key(0)), jitted(still)
    batch = batch_of(still) | {"image": 0.5 + 0.1 * batch_of(still)["image"]}
    losses = []
    for _ in range(40):
        state, metrics = step(state, batch, jax.random.key(1))
        losses.append(float(metrics["d_loss"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1


def test_generator_steps_raise_its_logits_on_a_toy():
    still = dataclasses.replace(toy_spec(loss="wasserstein"), d_tx=optax.set_to_zero())
    state, step = init_state(still, jax.random.key(0)), jitted(still)
    # A critic that likes bright images, whatever their class.
    critic = {"Dense_0": {"kernel": jnp.array([[1.0], [0.0]]), "bias": jnp.zeros(1)}}
    state = state.replace(d_params=critic | {"classes": jnp.zeros(3)})
    losses = []
    for _ in range(40):
        state, metrics = step(state, batch_of(still), jax.random.key(1))
        losses.append(float(metrics["g_loss"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5


def test_n_critic_updates_the_discriminator_that_often():
    counted = optax.chain(optax.scale_by_schedule(lambda count: 0.0), optax.sgd(1.0))
    for n_critic in (1, 3):
        spec = dataclasses.replace(toy_spec(n_critic=n_critic), g_tx=counted, d_tx=counted)
        state = init_state(spec, jax.random.key(0))
        state, _ = jitted(spec)(state, batch_of(spec), jax.random.key(1))
        assert int(state.d_opt[0].count) == n_critic
        assert int(state.g_opt[0].count) == 1
        assert int(state.step) == 1


def test_every_update_sees_a_mixture_of_a_sorted_batch():
    spec = toy_spec(n_critic=2)
    labels = jnp.repeat(jnp.array([0, 1]), BATCH)
    state = init_state(spec, jax.random.key(0))

    @functools.partial(jax.jit, static_argnames="spec")
    def embedding_change(state, batch, spec):
        new, _ = train_step(state, batch, jax.random.key(1), spec=spec)
        return new.d_params["classes"] - state.d_params["classes"]

    # With the first of two updates switched off, the second must still move both classes.
    second_only = optax.chain(optax.sgd(1.0), optax.scale_by_schedule(lambda count: count))
    change = embedding_change(
        state.replace(d_opt=second_only.init(state.d_params)),
        batch_of(spec, labels=labels),
        spec=dataclasses.replace(spec, d_tx=second_only),
    )
    assert change[0] != 0
    assert change[1] != 0
    assert change[2] == 0


def test_a_batch_that_does_not_divide_is_refused():
    spec = toy_spec(n_critic=3)
    state, batch = init_state(spec, jax.random.key(0)), batch_of(toy_spec())
    with pytest.raises(ValueError, match="batch of 8 is no multiple of n_critic 3"):
        train_step(state, batch, jax.random.key(1), spec=spec)


@pytest.mark.parametrize("penalty", ["none", "r1", "gp"])
def test_missing_labels_leave_the_class_embedding_alone(penalty):
    spec = toy_spec(penalty=penalty, n_critic=2)
    state, step = init_state(spec, jax.random.key(0)), jitted(spec)
    missing = batch_of(spec, labels=jnp.full((2 * BATCH,), -1))
    after, _ = step(state, missing, jax.random.key(1))
    np.testing.assert_array_equal(after.d_params["classes"], state.d_params["classes"])
    assert not np.array_equal(
        after.d_params["Dense_0"]["kernel"], state.d_params["Dense_0"]["kernel"]
    )
    # The generator still draws every class.
    change = after.g_params["classes"]["embedding"] - state.g_params["classes"]["embedding"]
    assert np.all(change != 0)


def test_fakes_take_the_labels_of_the_reals():
    spec = toy_spec()
    state, step = init_state(spec, jax.random.key(0)), jitted(spec)
    # Only class 1 and missing labels: the discriminator learns nothing of the classes 0 and 2.
    labels = jnp.where(jnp.arange(BATCH) < 4, 1, -1)
    after, _ = step(state, batch_of(spec, labels=labels), jax.random.key(1))
    change = np.asarray(after.d_params["classes"] - state.d_params["classes"])
    assert change[1] != 0
    assert change[0] == change[2] == 0


def test_the_penalty_enters_with_its_weight():
    state = init_state(toy_spec(), jax.random.key(0))
    new = {}
    for weight in (0.0, 1.0, 3.0):
        spec = toy_spec(penalty="r1", penalty_weight=weight)
        after, metrics = jitted(spec)(state, batch_of(spec), jax.random.key(1))
        new[weight] = np.asarray(after.d_params["Dense_0"]["kernel"])
        assert metrics["penalty"] > 0
    np.testing.assert_allclose(new[3.0] - new[0.0], 3 * (new[1.0] - new[0.0]), rtol=1e-3)


def test_the_r1_penalty_is_taken_before_the_augmentation():
    # Contrast and cutout change the gradient at the image but not at the augmented image.
    spec = toy_spec(penalty="r1")
    with_augment = toy_spec(penalty="r1", augment_policy=("cutout",))
    state = init_state(spec, jax.random.key(0))
    linear = jax.tree.map(jnp.zeros_like, state.d_params)
    linear["Dense_0"]["kernel"] = jnp.array([[16.0], [0.0]])
    state = state.replace(d_params=linear)
    batch = batch_of(spec)
    _, plain = jitted(spec)(state, batch, jax.random.key(1))
    _, augmented = jitted(with_augment)(state, batch, jax.random.key(1))
    np.testing.assert_allclose(plain["penalty"], 8.0, rtol=1e-6)
    # The hole of 1x1 to 2x2 of the 16 pixels has no gradient.
    assert 6.0 <= float(augmented["penalty"]) <= 7.5


def test_moving_average_against_numpy():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, 3))
    average = expected = values[0]
    for step, value in enumerate(values[1:]):
        average = update_ema(
            {"w": jnp.asarray(average)}, {"w": jnp.asarray(value)}, jnp.int32(step), 0.7
        )["w"]
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(average, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "lsgan"}, "unknown loss 'lsgan'"),
        ({"penalty": "r2"}, "unknown penalty 'r2'"),
        ({"augment_policy": ("flip",)}, "unknown augmentation 'flip'"),
        ({"n_critic": 0}, "n_critic is 0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        toy_spec(**changes)
