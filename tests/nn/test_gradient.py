"""Micro-batches and rematerialisation: the same gradient, less to hold."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan.models.dcgan import Discriminator, Generator
from gan.state import GanSpec, init_state
from gan.steps import train_step
from nn.gradient import Gradient
from nn.resnet import ResNet
from vrn import classifier, traces

ROWS = 8
sgd = optax.sgd(1.0)  # the change of the parameters is the gradient


def gan(penalty):
    return GanSpec(
        Generator(16, 1, width=4, num_classes=3, z_dim=8),
        Discriminator(16, 1, width=4, num_classes=3),
        sgd,
        sgd,
        penalty=penalty,
        penalty_weight=10.0,
        augment_policy=("color", "translation", "cutout"),
    )


def batch_of(rows, classes):
    images = jax.random.uniform(jax.random.key(7), (rows, 16, 16, 1), minval=-1)
    return {"image": images, "label": jnp.arange(rows) % classes}


@pytest.mark.parametrize("penalty", ["r1", "gp"])
def test_a_gan_step_in_micro_batches_is_the_step(penalty):
    plain = gan(penalty)
    state = init_state(plain, jax.random.key(0))
    batch = batch_of(ROWS, 3)
    results = []
    for gradient in (Gradient(), Gradient(accumulate=2, remat=True)):
        spec = dataclasses.replace(plain, gradient=gradient)
        step = jax.jit(functools.partial(train_step, spec=spec))
        results.append(jax.device_get(step(state, batch, jax.random.key(1))))
    (one, metrics), (other, other_metrics) = results
    for before, a, b in zip(
        *map(jax.tree.leaves, (jax.device_get(state), one, other)), strict=True
    ):
        moved = np.abs(a - before).max()
        assert moved > 0
        # The one number of the last bias moves by a difference of terms of size 1/2; and what is
        # stored is rounded to the size of the parameters.
        rounding = np.finfo(np.float32).eps * np.abs(a).max()
        assert np.abs(a - b).max() <= 1e-5 * (0.5 if a.shape == (1,) else moved) + rounding
    for name, value in metrics.items():
        np.testing.assert_allclose(other_metrics[name], value, rtol=1e-5, atol=1e-7)


def _classifier(**gradient):
    return classifier.ClassifierSpec(
        ResNet(2, depth=10, width=4),
        sgd,
        num_classes=2,
        prepare=traces.TraceRemoval(16),
        gradient=Gradient(**gradient),
    )


def _compiled(spec, batch, state):
    step = jax.jit(functools.partial(classifier.train_step, spec=spec))
    return step.lower(state, batch, jax.random.key(1)).compile()


def test_micro_batches_hold_less_memory_without_a_loop_on_cpu():
    batch = batch_of(32, 2)
    state = classifier.init_state(jax.random.key(0), (16, 16, 1), spec=_classifier())
    whole, parts = (_compiled(_classifier(accumulate=n), batch, state) for n in (1, 4))
    held = [c.memory_analysis().temp_size_in_bytes for c in (whole, parts)]
    assert held[1] < 0.6 * held[0]
    text = parts.as_text()
    bodies = [text.split(f"\n{name} (", 1)[1].split("\n}", 1)[0]
              for name in set(re.findall(r"body=(%[\w.-]+)", text))]  # fmt: skip
    assert bodies  # those of random numbers
    assert not any("convolution(" in body or " dot(" in body for body in bodies)
    (a, metrics), (b, other) = (c(state, batch, jax.random.key(1)) for c in (whole, parts))
    np.testing.assert_allclose(other["loss"], metrics["loss"], rtol=1e-5)
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5 * max(1, np.abs(x).max()))


def test_rematerialisation_keeps_less_for_the_backward_pass_and_changes_no_gradient():
    model = ResNet(2, depth=10, width=4)
    images = batch_of(8, 2)["image"]
    params = model.init(jax.random.key(0), images)

    def loss(params, _, images):
        value = jnp.square(model.apply(params, images)).mean()
        return value, value

    def held(gradient):
        fn = gradient.remembering(loss)
        pullback = jax.eval_shape(lambda p: jax.vjp(lambda q: fn(q, None, images)[0], p)[1], params)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pullback))

    assert held(Gradient(remat=True)) < 0.6 * held(Gradient())
    grads = [jax.jit(Gradient(remat=r), static_argnums=0)(loss, params, None, images)[0]
             for r in (False, True)]  # fmt: skip
    for a, b in zip(*map(jax.tree.leaves, grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(np.abs(a).max(), 1e-3))


def test_rematerialisation_holds_less_memory_in_a_gan_step_on_cpu():
    plain = GanSpec(Generator(32, 1, 16, 3, z_dim=8), Discriminator(32, 1, 16, 3), sgd, sgd)
    state = jax.eval_shape(functools.partial(init_state, plain), jax.random.key(0))
    batch = {"image": jnp.ones((32, 32, 32, 1)), "label": jnp.arange(32) % 3}
    held = []
    for remat in (False, True):
        spec = dataclasses.replace(plain, gradient=Gradient(remat=remat))
        step = jax.jit(functools.partial(train_step, spec=spec))
        compiled = step.lower(state, batch, jax.random.key(1)).compile()
        held.append(compiled.memory_analysis().temp_size_in_bytes)
    assert held[1] < 0.9 * held[0]


def test_rows_that_cannot_be_divided_are_refused():
    with pytest.raises(ValueError, match="batch of 6 can't be divided by 1 devices x 4 micro"):
        Gradient(accumulate=4)(lambda p, f, r: (p, p), 1.0, None, jnp.zeros((6, 2)))
    with pytest.raises(ValueError, match="accumulate is 0"):
        Gradient(accumulate=0)
