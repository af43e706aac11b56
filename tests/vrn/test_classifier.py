import functools

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from scipy import special

from data.records import ArrayRecords
from nn.gradient import Gradient
from nn.resnet import ResNet
from vrn import classifier, features, traces


class Tiny(nn.Module):
    """A network whose outputs are easy to recompute: a linear map of the pixels."""

    num_outputs: int

    def setup(self):
        self.head = nn.Dense(self.num_outputs)

    def features(self, x):
        return x.reshape(len(x), -1)

    def __call__(self, x):
        return self.head(self.features(x))


def shapes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright bars that are horizontal (class 0) or vertical (class 1), in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    x = rng.normal(0, 0.3, (count, 8, 8, 1))
    for image, label, place in zip(x, labels, rng.integers(1, 7, count), strict=True):
        image[(place,) if label == 0 else (slice(None), place)] += 0.8
    return np.clip(x, -1, 1).astype(np.float32), labels.astype(np.int32)


def tiny_spec(**more) -> classifier.ClassifierSpec:
    return classifier.ClassifierSpec(Tiny(2), optax.sgd(0.5), num_classes=2, **more)


def test_one_step_is_gradient_descent_on_smoothed_cross_entropy():
    spec = tiny_spec(label_smoothing=0.1)
    x, y = shapes(6, 0)
    state = classifier.init_state(jax.random.key(0), (8, 8, 1), spec=spec)
    batch = {"image": x, "label": y}
    after, metrics = classifier.train_step(state, batch, jax.random.key(1), spec=spec)

    flat = x.reshape(6, -1).astype(np.float64)
    kernel = np.asarray(state.params["head"]["kernel"], np.float64)
    logits = flat @ kernel
    targets = 0.9 * np.eye(2)[y] + 0.05
    loss = -np.mean(np.sum(targets * special.log_softmax(logits, 1), 1))
    gradient = (special.softmax(logits, 1) - targets) / 6
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(np.mean(logits.argmax(1) == y))
    norm = np.sqrt(np.sum((flat.T @ gradient) ** 2) + np.sum(gradient.sum(0) ** 2))
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)
    moved = np.asarray(after.params["head"]["kernel"])
    np.testing.assert_allclose(moved, kernel - 0.5 * flat.T @ gradient, atol=1e-6)
    assert int(after.step) == 1


@pytest.mark.parametrize("accumulate", [1, 3])
def test_mixed_images_have_mixed_targets(accumulate):
    spec = tiny_spec(label_smoothing=0.1, gradient=Gradient(accumulate))
    x, y = shapes(6, 0)
    state = classifier.init_state(jax.random.key(0), (8, 8, 1), spec=spec)
    weights = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1], np.float32)
    batch = {
        "image": x,
        "label": y,
        "mix_label": np.array([1, 1, 0, 0, 1, 0]),
        "mix_weight": weights,
    }
    after, metrics = classifier.train_step(state, batch, jax.random.key(1), spec=spec)

    flat = x.reshape(6, -1).astype(np.float64)
    logits = flat @ np.asarray(state.params["head"]["kernel"], np.float64)
    share = weights[:, None].astype(np.float64)
    targets = share * np.eye(2)[y] + (1 - share) * np.eye(2)[batch["mix_label"]]
    targets = 0.9 * targets + 0.05
    loss = -np.mean(np.sum(targets * special.log_softmax(logits, 1), 1))
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    gradient = flat.T @ (special.softmax(logits, 1) - targets) / 6
    moved = np.asarray(after.params["head"]["kernel"]) - state.params["head"]["kernel"]
    np.testing.assert_allclose(moved, -0.5 * gradient, atol=1e-5)


def test_a_resnet_learns_shapes_with_one_compilation():
    spec = classifier.ClassifierSpec(
        ResNet(2, depth=10, width=8),
        optax.adamw(optax.cosine_decay_schedule(1e-2, 60), weight_decay=1e-3),
        num_classes=2,
        label_smoothing=0.1,
        prepare=traces.TraceRemoval(size=8, blur=0.3, noise=0.1),
    )
    step = jax.jit(functools.partial(classifier.train_step, spec=spec), donate_argnums=0)
    state = jax.jit(functools.partial(classifier.init_state, image_shape=(8, 8, 1), spec=spec))(
        jax.random.key(0)
    )
    for seed in range(60):
        x, y = shapes(32, seed)
        state, metrics = step(state, {"image": x, "label": y}, jax.random.key(1))
    assert step._cache_size() == 1
    assert np.isfinite(float(metrics["loss"]))

    predict = jax.jit(functools.partial(classifier.predict, spec=spec))
    test_x, test_y = shapes(75, 1000)
    logits = classifier.in_batches(predict, state.params, test_x, 32)
    assert logits.shape == (75, 2)
    assert np.mean((classifier.margin(logits) > 0) == (test_y == 1)) > 0.9
    for count in (1, 31, 33):
        part = classifier.in_batches(predict, state.params, test_x[:count], 32)
        np.testing.assert_allclose(part, logits[:count], atol=1e-4)
    assert predict._cache_size() == 1


def test_training_is_a_function_of_key_and_step():
    spec = tiny_spec(prepare=traces.TraceRemoval(size=8, noise=0.5))
    x, y = shapes(8, 3)
    state = classifier.init_state(jax.random.key(0), (8, 8, 1), spec=spec)
    step = functools.partial(classifier.train_step, spec=spec)
    batch = {"image": x, "label": y}
    once, again, other = (
        float(step(state, batch, jax.random.key(k))[1]["loss"]) for k in (1, 1, 2)
    )
    assert once == again
    assert once != other
    later = step(state.replace(step=state.step + 1), batch, jax.random.key(1))[1]["loss"]
    assert float(later) != once


def test_in_batches_reads_records_and_refuses_none():
    x = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 1), np.uint8)
    ids = [str(i) for i in range(7)]
    records = ArrayRecords(x, np.zeros(7, np.int64), ids, ("a",))
    brightness = classifier.in_batches(lambda scale, b: scale * b.mean((1, 2, 3)), 2.0, records, 3)
    expected = 2 * (x.astype(np.float64) / 127.5 - 1).mean((1, 2, 3))
    np.testing.assert_allclose(brightness, expected, atol=1e-5)
    with pytest.raises(ValueError, match="no images"):
        classifier.in_batches(lambda scale, b: b, 2.0, records.subset(np.array([], int)), 3)


def test_feature_space_describes_images():
    spec = tiny_spec()
    params = classifier.init_state(jax.random.key(0), (8, 8, 1), spec=spec).params
    space = features.FeatureSpace(spec, params, batch_size=4)
    x, y = shapes(10, 4)
    found = space.describe(x, y)
    np.testing.assert_allclose(found.features, x.reshape(10, -1), atol=1e-6)
    kernel = np.asarray(params["head"]["kernel"], np.float64)
    expected = special.softmax(x.reshape(10, -1) @ kernel, axis=1)
    np.testing.assert_allclose(found.probs, expected, atol=1e-5)
    np.testing.assert_array_equal(space.embed(x), found.features)
    np.testing.assert_array_equal(space.probs(x), found.probs)
    np.testing.assert_array_equal(found.rows(y == 1).labels, np.ones(5))
    with pytest.raises(ValueError, match="10, 10 and 9 rows"):
        space.describe(x, y[:9])
