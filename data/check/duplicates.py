"""Pairs of images that are the same, or so alike that one is a copy of the other.

Two images are near-duplicates where the root mean square difference of their thumbnails, 16 x 16
pixels with mean 0 and standard deviation 1, is at most `THRESHOLD`. Brightness and contrast
therefore do not count, and a correlation of 1 - THRESHOLD**2 / 2 = 0.995 does. On 1,650 chest
X-rays no two different images come nearer than 0.19 and a copy saved as JPEG (quality 60), at three
quarters of the size, or darker, is at most 0.03 away; on brain MRI slices of different patients
0.17 and 0.1. Neighbouring slices of one patient do come as near.
"""

import dataclasses

import numpy as np

from data.check.facts import SIDE

THRESHOLD = 0.1
_SIDE, _COARSE = 16, 8  # of the thumbnails compared, and of those that rule most pairs out
_BLOCK = 2048  # rows compared with as many others at a time
MOST = 1_000_000  # pairs that are kept


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of rows (a < b).

    Attributes:
        a, b: int64 [P].
        distance: float64 [P]; 0 for the same pixels.
        complete: False if there are more than `MOST`.
    """

    a: np.ndarray
    b: np.ndarray
    distance: np.ndarray
    complete: bool = True

    def __len__(self) -> int:
        return len(self.a)

    def where(self, mask: np.ndarray) -> "Pairs":
        """The pairs [P] of a mask."""
        return Pairs(self.a[mask], self.b[mask], self.distance[mask], self.complete)


def exact(digests: np.ndarray, of: np.ndarray) -> Pairs:
    """Rows with the same digest, among those of a mask: the first paired with each other one."""
    rows = np.flatnonzero(of)
    _, first, inverse = np.unique(digests[rows], return_index=True, return_inverse=True)
    firsts = rows[first[inverse]]
    again = rows != firsts
    return Pairs(firsts[again], rows[again], np.zeros(int(again.sum())))


def near(thumbnails: np.ndarray, digests: np.ndarray) -> Pairs:
    """All pairs of near-duplicates among images whose pixels are not the same.

    Every pair is looked at: half of N**2 products of 64 numbers, in blocks, so that memory does not
    grow with N**2. Means of 2 x 2 pixels give a lower bound of the distance, which leaves few pairs
    to be compared in full.

    Args:
        thumbnails: uint8 [N, SIDE, SIDE].
        digests: [N] of the pixels.
    """
    kept = np.sort(np.unique(digests, return_index=True)[1])
    fine = _standardised(thumbnails[kept])
    varied = fine.any(axis=1)
    kept, fine = kept[varied], fine[varied]
    # Sums of 2 x 2 pixels over their number's root: coordinates in an orthonormal basis.
    side = _COARSE
    coarse = fine.reshape(-1, side, 2, side, 2).sum(axis=(2, 4)).reshape(-1, side**2) / 2
    half, found, total = (coarse**2).sum(axis=1) / 2, [], 0
    limit = THRESHOLD**2 / 2 + 1e-4  # float32 sums: candidates may be too many, never too few
    for start in range(0, len(kept), _BLOCK):
        rows = slice(start, start + _BLOCK)
        for other in range(start, len(kept), _BLOCK):
            columns = slice(other, other + _BLOCK)
            halves = half[rows, None] + half[None, columns] - coarse[rows] @ coarse[columns].T
            a, b = np.nonzero(halves <= limit)
            a, b = a + start, b + other
            a, b = a[a < b], b[a < b]
            distance = _distances(fine, a, b)
            close = distance <= THRESHOLD
            found.append((kept[a[close]], kept[b[close]], distance[close]))
            total += int(close.sum())
            if total > MOST:
                return Pairs(*(np.concatenate(x)[:MOST] for x in zip(*found, strict=True)), False)
    if not found:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs(*(np.concatenate(x) for x in zip(*found, strict=True)))


def _distances(rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Float64 [P] between rows a and b, some at a time: there may be a block full of candidates."""
    parts = [
        np.sqrt(((rows[a[i : i + _BLOCK]] - rows[b[i : i + _BLOCK]]).astype(float) ** 2).sum(1))
        for i in range(0, len(a), _BLOCK)
    ]
    return np.concatenate([np.zeros(0), *parts])


def _standardised(thumbnails: np.ndarray) -> np.ndarray:
    """Float32 [N, 256] of mean 0 whose norm is 1, so that distances are root mean squares.

    Rows in which nothing varies are 0.
    """
    side = SIDE // _SIDE
    small = thumbnails.reshape(-1, _SIDE, side, _SIDE, side).mean(axis=(2, 4), dtype=np.float32)
    flat = small.reshape(len(small), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.sqrt((flat**2).sum(axis=1, keepdims=True))
    return np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 1e-3)
