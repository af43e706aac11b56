"""TIFF files made for tests, byte by byte: what Pillow does not write, by code that it is not."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np


def tiff(
    pages: Sequence[np.ndarray],
    *,
    tile: int = 0,
    deflate: bool = False,
    order: str = "<",
    tags: Sequence[dict[int, int]] = (),
) -> bytes:
    """Grey pages [H, W] uint8 or uint16, in one strip or in square tiles, as TIFF 6.0 has them.

    Args:
        pages: the images.
        tile: side of the tiles, a multiple of 16; 0 = one strip.
        deflate: whether strips and tiles are compressed.
        order: '<' or '>', of all bytes.
        tags: of each page, further ones {tag: short}.
    """
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 0)
    link = 4
    for number, page in enumerate(pages):
        pieces, (high, wide) = [], page.shape
        side = tile or max(high, wide)
        for top in range(0, high, side):
            for left in range(0, wide, side):
                part = page[top : top + side, left : left + side]
                if tile:
                    part = np.pad(part, [(0, side - n) for n in part.shape])
                raw = part.astype(page.dtype.newbyteorder(order)).tobytes()
                pieces.append(zlib.compress(raw) if deflate else raw)
        places = []
        for piece in pieces:
            content += bytes(len(content) % 2)
            places.append(len(content))
            content += piece
        lengths = [len(piece) for piece in pieces]
        where, long = {}, {}
        for tag, values in ((324 if tile else 273, places), (325 if tile else 279, lengths)):
            content += bytes(len(content) % 2)
            where[tag], long[tag] = len(content), values
            content += struct.pack(f"{order}{len(values)}I", *values)
        shorts = {
            256: wide, 257: high, 258: 8 * page.itemsize, 259: 8 if deflate else 1, 262: 1, 277: 1,
            **({322: side, 323: side} if tile else {278: high}),
            **(tags[number] if tags else {}),
        }  # fmt: skip
        entries = {tag: struct.pack(order + "HHIHH", tag, 3, 1, x, 0) for tag, x in shorts.items()}
        for tag, values in long.items():
            value = values[0] if len(values) == 1 else where[tag]
            entries[tag] = struct.pack(order + "HHII", tag, 4, len(values), value)
        content += bytes(len(content) % 2)
        content = content[:link] + struct.pack(order + "I", len(content)) + content[link + 4 :]
        content += struct.pack(order + "H", len(entries))
        content += b"".join(entry for _, entry in sorted(entries.items()))
        link = len(content)
        content += struct.pack(order + "I", 0)
    return content
