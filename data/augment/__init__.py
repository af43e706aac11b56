"""Classical augmentation of image batches: named, seeded transforms with one strength.

Images are [B, H, W, C], or volumes [B, D, H, W, C], float32 in [-1, 1] and stay there. Transforms
and their magnitudes are listed in docs/augmentation.md.
"""

from data.augment.pipeline import NAMES, augment, augment_masks, check_names, make_batch

__all__ = ["NAMES", "augment", "augment_masks", "check_names", "make_batch"]
