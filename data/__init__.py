"""Real images in, records out: sources, splits, augmentation, loader, pools."""

import os

# Arrow's own allocator keeps what writing and reading tables once took: 60 to 90 MB in a process
# that makes a pool, more the longer it is. The system's gives it to whoever asks next. Arrow looks
# when it is first imported, so this must come before.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
