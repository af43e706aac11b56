"""The training step: every term and update against NumPy in float64, draws, and division."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan.models.translator import Discriminator, Translator
from gan.translation import domains
from gan.translation.losses import Weights
from gan.translation.state import TranslatorSpec, init_state
from gan.translation.steps import Use, train_step
from nn.gradient import Gradient

WEIGHTS = Weights(penalty=7.0, domain=3.0, cycle=5.0, identity=2.0)
RATE = 0.01
SPECS = {
    "code": {}, "patent": {"critic": "patent"}, "mean": {"critic": "mean"},
    "stargan": {"fixed_point": False},
}  # fmt: skip


class ToyTranslator(nn.Module):
    """a x + b c, with the code c of one number."""

    @nn.compact
    def __call__(self, x, codes):
        a = self.param("a", nn.initializers.constant(0.8), ())
        b = self.param("b", nn.initializers.constant(0.3), ())
        return a * x + b * codes[:, :1, None, None]


class ToyDiscriminator(nn.Module):
    """Four patches p x^2, whose slope depends on x, and the domain logit q mean(x)."""

    @nn.compact
    def __call__(self, x):
        p = self.param("p", nn.initializers.constant(0.7), ())
        q = self.param("q", nn.initializers.constant(0.4), ())
        return p * x[:, ::2, ::2, 0] ** 2, q * x.mean((1, 2, 3))[:, None]


def toy(**changes):
    sgd = optax.sgd(RATE)
    settings = {"weights": WEIGHTS, "targets": "other", "n_critic": 1} | changes
    return TranslatorSpec(
        ToyTranslator(), ToyDiscriminator(), sgd, sgd,
        domains.healthy(("well", "ill", "worse"), "well"), **settings,
    )  # fmt: skip


def batch_of(rows=6):
    images = np.random.default_rng(0).uniform(-1, 1, (rows, 4, 4, 1))
    labels = np.arange(rows) % 3
    return {"image": jnp.asarray(images, jnp.float32), "label": jnp.asarray(labels, jnp.int32)}


def stepped(spec, batch, key=1):
    state = init_state(spec, (4, 4, 1), jax.random.key(0))
    step = jax.jit(functools.partial(train_step, spec=spec))
    after, metrics = step(state, batch, jax.random.key(key))
    return state, after, {name: float(value) for name, value in metrics.items()}


def drawn(rows, key=1):
    """Of the first update of the first step, for each image: e, and whether to its cross fake."""
    key = jax.random.fold_in(jax.random.key(key), 0)
    key = jax.random.fold_in(jax.random.fold_in(key, Use.DISCRIMINATOR), 0)
    mix = jax.random.uniform(jax.random.fold_in(key, Use.MIX), (rows, 1, 1, 1))
    which = jax.random.bernoulli(jax.random.fold_in(key, Use.WHICH), 0.5, (rows, 1, 1, 1))
    return np.asarray(mix, np.float64), np.asarray(which)


def formulas(batch, name, g, d):
    """All terms of the losses, as the patent or the released code writes them."""
    x = np.asarray(batch["image"], np.float64)
    own = (np.asarray(batch["label"]) > 0).astype(float)
    to = lambda image, c: g["a"] * image + g["b"] * c[:, None, None, None]  # noqa: E731
    patches = lambda image: d["p"] * image[:, ::2, ::2, 0] ** 2  # noqa: E731

    def cross_entropy(image, c):
        p = 1 / (1 + np.exp(-d["q"] * image.mean((1, 2, 3))))
        return -np.mean(c * np.log(p) + (1 - c) * np.log(1 - p))

    fakes = {"": to(x, 1 - own), "_same": to(x, own)}
    shares = {"code": (1, 0), "patent": (1, 1), "mean": (0.5, 0.5), "stargan": (1, 0)}[name]
    mix, crosses = drawn(len(x))
    fake = np.where(crosses, fakes[""], fakes["_same"]) if shares[1] else fakes[""]
    # Each of the four patches pulls at a place of its own.
    slope = 2 * d["p"] * (x + mix * (fake - x))[:, ::2, ::2, 0]
    terms = {
        "d_real": patches(x).mean(),
        "d_fake": patches(fakes[""]).mean(),
        "d_domain": cross_entropy(x, own),
        "penalty": np.mean((np.sqrt((slope**2).sum((1, 2))) - 1) ** 2),
    }
    terms["d_loss"] = -terms["d_real"] + sum(
        share * patches(fake).mean() for share, fake in zip(shares, fakes.values(), strict=True)
    )
    if shares[1]:
        terms["d_fake_same"] = patches(fakes["_same"]).mean()
    d_total = terms["d_loss"] + 7 * terms["penalty"] + 3 * terms["d_domain"]
    terms["g_loss"] = 0.0
    if name == "stargan":
        del fakes["_same"]
    for suffix, fake in fakes.items():
        c = own if suffix else 1 - own
        terms["g_adversarial" + suffix] = -patches(fake).mean()
        terms["g_domain" + suffix] = cross_entropy(fake, c)
        terms["g_cycle" + suffix] = np.abs(x - to(fake, own)).mean()
        terms["g_loss"] += terms["g_adversarial" + suffix] + 3 * terms["g_domain" + suffix]
        terms["g_loss"] += 5 * terms["g_cycle" + suffix]
    if name != "stargan":
        terms["g_identity"] = np.abs(fakes["_same"] - x).mean()
        terms["g_loss"] += 2 * terms["g_identity"]
    return terms, d_total


def slopes(loss, params):
    """Central differences of a loss by each of its parameters."""
    found = {}
    for name in params:
        ahead, behind = (loss(params | {name: params[name] + step}) for step in (1e-6, -1e-6))
        found[name] = (ahead - behind) / 2e-6
    return found


@pytest.mark.parametrize("name", SPECS)
def test_every_term_and_both_updates_are_those_of_the_formulas(name):
    batch = batch_of()
    before, after, metrics = stepped(toy(**SPECS[name]), batch)
    g, d = ({k: float(v) for k, v in p.items()} for p in (before.g_params, before.d_params))
    new_g, new_d = ({k: float(v) for k, v in p.items()} for p in (after.g_params, after.d_params))
    expected = formulas(batch, name, g, d)[0]
    # The translator is updated last, against the discriminator of after its update.
    later = formulas(batch, name, g, new_d)[0]
    expected |= {term: value for term, value in later.items() if term.startswith("g_")}
    norms = {"d_grad_norm", "g_grad_norm"}
    assert set(metrics) == set(expected) | norms
    for term, value in expected.items():
        assert metrics[term] == pytest.approx(value, rel=2e-5, abs=1e-6), term
    for old, new, loss in (
        (d, new_d, lambda d: formulas(batch, name, g, d)[1]),
        (g, new_g, lambda g: formulas(batch, name, g, new_d)[0]["g_loss"]),
    ):
        for parameter, slope in slopes(loss, old).items():
            change = (old[parameter] - new[parameter]) / RATE
            assert change == pytest.approx(slope, rel=1e-3, abs=1e-4), parameter


def test_targets():
    """A translator that paints the code itself: the mean of its images is that of the targets."""
    batch = batch_of(16)
    own = np.asarray(batch["label"]) > 0
    paint = {"a": jnp.zeros(()), "b": jnp.ones(())}

    def painted(targets, key):
        spec = toy(targets=targets)
        state = init_state(spec, (4, 4, 1), jax.random.key(0)).replace(g_params=paint)
        state = state.replace(d_params=state.d_params | {"p": jnp.ones(())})
        step = jax.jit(functools.partial(train_step, spec=spec))
        metrics = step(state, batch, jax.random.key(key))[1]
        return float(metrics["d_fake"]), float(metrics["g_cycle"])

    assert painted("other", 1)[0] == pytest.approx(1 - own.mean())
    assert painted("permuted", 1)[0] == pytest.approx(own.mean())
    # Three domains: another one is any of two, drawn anew for each image and step.
    spec = dataclasses.replace(toy(), domains=domains.classes(("a", "b", "c")))
    draws = np.array([stepped(spec, batch_of(30), key)[2]["d_fake"] for key in range(4)])
    assert len(set(draws.round(6).tolist())) == 4


@pytest.fixture(scope="module")
def nets():
    adam = optax.adam(1e-3, b1=0.5)
    spec = TranslatorSpec(
        Translator(4, blocks=1, output="clip"), Discriminator(1, 4), adam, adam,
        domains.healthy(("well", "ill"), "well"), critic="mean", n_critic=2,
    )  # fmt: skip
    images = jax.random.uniform(jax.random.key(5), (16, 16, 16, 1), minval=-1)
    batch = {"image": images, "label": jnp.arange(16) % 2}
    state = init_state(spec, (16, 16, 1), jax.random.key(0))
    step = jax.jit(train_step, static_argnames="spec")
    return spec, state, functools.partial(step, state, batch, jax.random.key(1))


def test_divided_into_micro_batches_it_is_the_same_step(nets):
    spec, state, step = nets
    one, metrics = step(spec=spec)
    divided = dataclasses.replace(spec, gradient=Gradient(accumulate=4))
    other, others = step(spec=divided)
    assert int(one.step) == 1
    for name, value in metrics.items():
        assert float(others[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-6), name
    for name in ("g_params", "d_params", "ema_params"):
        moved = jax.tree.map(
            lambda a, b: not np.array_equal(a, b), getattr(state, name), getattr(one, name)
        )
        assert all(jax.tree.leaves(moved))
    gap = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), one.g_opt[0].mu, other.g_opt[0].mu)
    assert max(jax.tree.leaves(gap)) < 1e-3
    again, _ = step(spec=spec)
    jax.tree.map(np.testing.assert_array_equal, one, again)


def test_with_bfloat16_products_it_is_nearly_the_same_step(nets):
    spec, _, step = nets
    halved = {"dtype": jnp.dtype(jnp.bfloat16)}
    rounded = dataclasses.replace(
        spec, translator=spec.translator.clone(**halved),
        discriminator=spec.discriminator.clone(**halved),
    )  # fmt: skip
    (exact, metrics), (other, others) = (step(spec=which) for which in (spec, rounded))
    params = jax.tree.leaves((other.g_params, other.d_params, other.ema_params))
    assert {leaf.dtype for leaf in params} == {jnp.dtype(jnp.float32)}
    for name, value in metrics.items():
        assert float(others[name]) == pytest.approx(float(value), rel=0.02, abs=1e-3), name
    for moments in ("d_opt", "g_opt"):
        one, two = (getattr(after, moments)[0].mu for after in (exact, other))
        gap = optax.tree.norm(optax.tree.sub(one, two)) / optax.tree.norm(one)
        assert 1e-3 < float(gap) < 0.05


def test_volumes_are_trained_on_by_the_same_step():
    adam = optax.adam(1e-3)
    spec = TranslatorSpec(
        Translator(2, blocks=1, output="clip"), Discriminator(1, 2), adam, adam,
        domains.healthy(("well", "ill"), "well"), n_critic=1,
    )  # fmt: skip
    volumes = jax.random.uniform(jax.random.key(5), (2, 8, 8, 8, 1), minval=-1)
    state = init_state(spec, (8, 8, 8, 1), jax.random.key(0))
    assert state.g_params["from_image"]["kernel"].shape == (7, 7, 7, 2, 2)
    step = jax.jit(functools.partial(train_step, spec=spec))
    after, metrics = step(state, {"image": volumes, "label": jnp.arange(2)}, jax.random.key(1))
    assert all(np.isfinite(value) for value in metrics.values())
    kernels = (s.g_params["from_image"]["kernel"] for s in (state, after))
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize(("changes", "message"), [
    ({"critic": "wgan"}, "unknown critic 'wgan'"),
    ({"targets": "random"}, "unknown targets 'random'"),
    ({"n_critic": 0}, "n_critic is 0"),
    ({"ema_decay": 1.0}, "ema_decay is 1.0"),
])  # fmt: skip
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        toy(**changes)
