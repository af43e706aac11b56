"""PNG and NPY files that promise what they do not hold, and PNG bombs."""

import io
import struct
import zlib

import numpy as np

NUMBERS = (0, 1, 2, 255, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def absurd_png(rng: np.random.Generator, content: bytes) -> bytes:
    """Another size, depth, colour type or interlacing, with a right checksum."""
    head = bytearray(content[16:29])
    if rng.random() < 0.6:
        place = 4 * rng.integers(2)
        head[place : place + 4] = struct.pack(">I", NUMBERS[rng.integers(len(NUMBERS))])
    else:
        head[8 + rng.integers(5)] = rng.integers(256)
    return content[:16] + bytes(head) + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + content[33:]


def bomb_png(rng: np.random.Generator, content: bytes) -> bytes:
    """An image of 9,000 to 60,000 pixels a side in few bytes, or a text that is one."""
    del content
    if rng.random() < 0.5:
        side = int(rng.choice([9000, 20000, 60000]))
        packer = zlib.compressobj(9)
        rows = min(side, 9000)
        data = b"".join(packer.compress(bytes(side // 8 + 1)) for _ in range(rows)) + packer.flush()
        head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    else:
        text = b"Comment\0\0" + zlib.compress(bytes(80 << 20), 9)
        small = zlib.compress(bytes(72))
        head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"zTXt", text), (b"IDAT", small), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def absurd_npy(rng: np.random.Generator, content: bytes) -> bytes:
    """A header that promises another shape or type."""
    shape = tuple(int(rng.choice(NUMBERS)) for _ in range(rng.integers(0, 5)))
    kind = str(rng.choice(["|u1", "<u2", ">u2", "<f4", "<f8", "<i8", "|O", "|b1", "<U9", "<c8"]))
    file = io.BytesIO()
    header = {"descr": kind, "fortran_order": bool(rng.integers(2)), "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content[128:]
