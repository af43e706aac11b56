"""Small videos made for tests."""

import pathlib
from typing import Any

import numpy as np


def save_video(
    path: pathlib.Path,
    frames: np.ndarray,
    *,
    codec: str = "ffv1",
    kind: str = "",
    **options: Any,
) -> pathlib.Path:
    """Write frames [N, H, W] uint8 or uint16, or [N, H, W, 3] uint8, at 10 a second.

    Args:
        path: its suffix gives the container.
        frames: what is shown.
        codec: ffv1 is lossless.
        kind: pixel format in the file; by default one that keeps all of the frames.
        options: of the codec.
    """
    import av

    given = "rgb24" if frames.ndim == 4 else {1: "gray", 2: "gray16le"}[frames.itemsize]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 10, {k: str(v) for k, v in options.items()})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = kind or {"rgb24": "bgr0"}.get(given, given)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=given)))
        container.mux(stream.encode())
    return path
