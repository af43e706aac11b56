"""Real images in, records out: sources, splits, augmentation, loader, pools."""
