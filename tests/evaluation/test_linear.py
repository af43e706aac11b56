"""The linear autoencoder against scikit-learn's principal components, and on a hand-made case."""

import numpy as np
from sklearn.decomposition import PCA

from evaluation.linear import LinearAutoencoder


def test_it_is_the_projection_on_principal_components():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(30, 4, 5, 2)) * np.linspace(0.1, 2, 40).reshape(4, 5, 2)
    new = rng.normal(size=(7, 4, 5, 2))
    model = LinearAutoencoder(normal, most=10)
    for width in (1, 4, 10):
        theirs = PCA(width, svd_solver="full").fit(normal.reshape(30, -1))
        expected = theirs.inverse_transform(theirs.transform(new.reshape(7, -1)))
        got = model.reconstruct(new, width)
        np.testing.assert_allclose(got, expected.reshape(new.shape), atol=1e-5)


def test_what_was_never_seen_is_left_out():
    rng = np.random.default_rng(1)
    normal = np.zeros((10, 4, 4, 1))
    normal[:, :2] = rng.normal(size=(10, 2, 4, 1))
    ill = normal[:1].copy()
    ill[0, 3, 3, 0] = 1.0
    made = LinearAutoencoder(normal, most=9).reconstruct(ill, 9)
    change = np.abs(made - ill)[0, ..., 0]
    assert change[3, 3] > 0.999
    change[3, 3] = 0
    assert change.max() < 1e-5
