"""Do synthetic images look like real ones, and do they cover them?

Features are those of one frozen network shared by all that is compared; numbers from another
network, or published ones, cannot be set beside these. Copying raises all of them: read them with
`evaluation.memorisation`. Each is worth most beside the same number for held-out real images.
"""

from __future__ import annotations

import numpy as np

from evaluation.neighbours import BLOCK_ELEMENTS, nearest, pairwise


def kid(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    subset_size: int = 1000,
    subsets: int = 50,
    seed: int = 0,
) -> tuple[float, float]:
    """Kernel inception distance: unbiased MMD^2 with the kernel (a.b / d + 1)^3.

    Binkowski et al. 2018, arXiv 1801.01401, sec. 4. May be negative.

    Args:
      real: [N, d].
      fake: [M, d].
      subset_size: images of either set per subset, at most N and M.
      subsets: drawn without replacement each.
      seed: of the subsets.

    Returns:
      Mean over the subsets and standard deviation between them.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    size = min(subset_size, len(real), len(fake))
    if size < 2:
        raise ValueError("KID needs at least 2 images of either set.")
    rng = np.random.default_rng(seed)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: np.ndarray) -> float:
        gram = kernel(a, a)
        return (gram.sum() - np.trace(gram)) / (size * (size - 1))

    values = []
    for _ in range(subsets):
        x, y = (rows[rng.permutation(len(rows))[:size]] for rows in (real, fake))
        values.append(within(x) + within(y) - 2 * kernel(x, y).mean())
    return float(np.mean(values)), float(np.std(values))


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """|mu_r - mu_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) of features [N, d] and [M, d].

    Heusel et al. 2017, arXiv 1706.08500, eq. 6. The trace of the root is the sum of the square
    roots of the eigenvalues of S_r^(1/2) S_f S_r^(1/2), which is symmetric. The estimate is biased
    upwards by about (d/2 + 2) / N in units of tr S: compare only at equal counts.

    Raises:
      ValueError: a set has no more images than features, so that its covariance is singular.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    count, dimension = min(len(real), len(fake)), real.shape[1]
    if count <= dimension:
        raise ValueError(
            f"A Fréchet distance in {dimension} dimensions needs more than {dimension} images of "
            f"either set; with {count} use kid."
        )
    real_cov, fake_cov = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (real, fake))
    values, vectors = np.linalg.eigh(real_cov)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ fake_cov @ root)
    shift = real.mean(0) - fake.mean(0)
    trace = np.trace(real_cov) + np.trace(fake_cov) - 2 * np.sqrt(np.maximum(product, 0)).sum()
    return float(shift @ shift + trace)


def coverage_metrics(
    real: np.ndarray, fake: np.ndarray, *, k: int = 5, repeats: int = 10, seed: int = 0
) -> dict[str, float]:
    """Precision and recall, density and coverage by k-NN balls.

    Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 1 and 2; Naeem et al. 2020, arXiv 2002.09797,
    eq. 3 and 4. With r_k(a) the distance of `a` to its k-th neighbour in its own set: precision is
    the share of fakes within r_k of a real, recall the share of reals within r_k of a fake, density
    how many reals' balls hold a fake on average, over k, and coverage the share of reals whose ball
    holds a fake. All depend on the counts, so the larger set is thinned to the smaller.

    Args:
      real: [N, d].
      fake: [M, d].
      k: neighbours.
      repeats: thinnings that are averaged; 1 serves when N == M.
      seed: of the thinnings.
    """
    count = min(len(real), len(fake))
    repeats = 1 if len(real) == len(fake) else repeats
    rng = np.random.default_rng(seed)
    totals = np.zeros(4)
    for _ in range(repeats):
        x, y = (rows[rng.permutation(len(rows))[:count]] for rows in (real, fake))
        real_radius, fake_radius = (nearest(s, s, k, exclude_self=True)[0][:, -1] for s in (x, y))
        balls = np.zeros(count, int)  # of reals that each fake lies in
        near_fake, covered = np.empty(count, bool), np.empty(count, bool)
        for start in range(0, count, block := max(1, BLOCK_ELEMENTS // count)):
            rows = slice(start, start + block)
            distances = pairwise(x[rows], y)  # [reals, fakes]
            inside = distances < real_radius[rows, None]
            balls += inside.sum(0)
            covered[rows] = inside.any(1)
            near_fake[rows] = (distances < fake_radius[None, :]).any(1)
        totals += [(balls > 0).mean(), near_fake.mean(), balls.mean() / k, covered.mean()]
    names = ("precision", "recall", "density", "coverage")
    return {name: float(total / repeats) for name, total in zip(names, totals, strict=True)}


def class_histogram(predicted: np.ndarray, num_classes: int) -> dict[str, object]:
    """Classes a real-trained classifier sees in images that should show all classes alike.

    Santurkar et al. 2018, arXiv 1711.00970: a class the generator drops is missing here.

    Args:
      predicted: int [N], predicted classes.
      num_classes: K.

    Returns:
      'shares' [K], and 'total_variation' from uniform: 0 (flat) to 1 - 1/K (one class only).
    """
    shares = np.bincount(predicted, minlength=num_classes) / len(predicted)
    return {
        "shares": shares.tolist(),
        "total_variation": float(np.abs(shares - 1 / num_classes).sum() / 2),
    }
