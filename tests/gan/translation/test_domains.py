"""Domains: their codes, and the loss against its formula."""

import jax.numpy as jnp
import numpy as np
import pytest

from gan.translation import domains

NAMES = ("healthy", "nodule", "effusion", "heart")


def test_every_class_is_a_domain():
    made = domains.classes(NAMES)
    labels = jnp.array([2, 0, 3])
    np.testing.assert_array_equal(made.of(labels), [2, 0, 3])
    np.testing.assert_array_equal(made.code(made.of(labels)), np.eye(4)[[2, 0, 3]])


def test_ill_is_whatever_is_not_healthy():
    made = domains.healthy(NAMES, "effusion")
    assert made.names == ("effusion", "not effusion")
    np.testing.assert_array_equal(made.of(jnp.arange(4)), [1, 1, 0, 1])
    np.testing.assert_array_equal(made.code(made.of(jnp.arange(4)))[:, 0], [1, 1, 0, 1])


def test_attributes_are_bits():
    made = domains.attributes([str(k) for k in range(8)])
    assert made.code_size == 3
    np.testing.assert_array_equal(made.code(jnp.array([6, 1])), [[0, 1, 1], [1, 0, 0]])
    assert made.combined
    assert not domains.classes(NAMES).combined
    assert not domains.healthy(NAMES, "healthy").combined  # a bit alone


def test_the_loss_of_classes_is_the_softmax_cross_entropy():
    logits = np.random.default_rng(0).normal(size=(5, 4))
    labels = np.array([0, 3, 1, 2, 0])
    expected = -np.mean(
        [row[k] - np.log(np.exp(row).sum()) for row, k in zip(logits, labels, strict=True)]
    )
    made = domains.classes(NAMES)
    got = made.loss(jnp.asarray(logits, jnp.float32), made.code(jnp.asarray(labels)))
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_attributes_is_summed_over_them_and_averaged_over_images():
    logits = np.random.default_rng(1).normal(size=(5, 3))
    labels = np.array([0, 7, 1, 2, 5])
    expected = 0.0
    for row, number in zip(logits, labels, strict=True):
        for k in range(3):
            p = 1 / (1 + np.exp(-row[k]))
            expected -= np.log(p if number >> k & 1 else 1 - p) / 5
    made = domains.attributes([str(k) for k in range(8)])
    got = made.loss(jnp.asarray(logits, jnp.float32), made.code(jnp.asarray(labels)))
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="no class 'well' beside others: healthy, nodule"):
        domains.healthy(NAMES[:2], "well")
    with pytest.raises(ValueError, match="no class 'healthy' beside others"):
        domains.healthy(NAMES[:1], "healthy")
    with pytest.raises(ValueError, match="6 classes are not all combinations"):
        domains.attributes([str(k) for k in range(6)])
