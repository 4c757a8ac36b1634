"""IDX files, the format of MNIST and its relatives, read with every mistake named.

A file is a magic number (two zero bytes, a type code, the number of dimensions), the dimensions as
big-endian 32-bit integers, and the elements, big-endian too.
"""

import math
from pathlib import Path

import numpy as np

from funcnn.data.dataset import DataError
from funcnn.data.files import read_unzipped

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_DIMENSIONS = 32  # of an array, in every NumPy


def read_idx(path: str | Path) -> np.ndarray:
    """The array in one IDX file, gzipped or not, in the machine's byte order.

    Raises `DataError` where the file is absent or empty, the gzip stream is damaged, the magic
    number is not one of IDX, or the length is not what the header says.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9]))
    >>> read_idx(path)
    array([7, 0, 9], dtype=uint8)
    """
    content = read_unzipped(Path(path))
    if not content:
        raise DataError(f"{path}: is empty; an IDX file has a header of 8 bytes or more")
    code, rank = (content[2], content[3]) if len(content) >= 4 else (0, 0)
    if content[:2] != b"\0\0" or code not in TYPES or rank == 0:
        raise DataError(
            f"{path}: not an IDX file: magic number 0x{content[:4].hex()}; images have 0x00000803, "
            "labels 0x00000801"
        )
    if rank > MOST_DIMENSIONS:
        message = f"its header has {rank} dimensions, and an array at most {MOST_DIMENSIONS}"
        raise DataError(f"{path}: damaged: {message}; images have 3, labels 1")
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(
            f"{path}: truncated: the header of {rank} dimensions has {start} bytes, "
            f"the file {len(content)}"
        )
    shape = tuple(np.frombuffer(content, ">u4", rank, 4).tolist())
    dtype = np.dtype(TYPES[code])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        wrong = "truncated" if len(content) < expected else "trailing bytes"
        sizes = " x ".join([*map(str, shape[:4]), *(["..."] if rank > 4 else [])])
        needed = expected if expected < 2**63 else "more than 2^63"
        raise DataError(
            f"{path}: {wrong}: {sizes} elements make {needed} bytes, the file has {len(content)}"
        )
    try:
        array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    except ValueError as error:  # no element, in dimensions larger than NumPy's arrays have
        raise DataError(f"{path}: damaged: its dimensions make no array: {error}") from None
    return array.astype(dtype.newbyteorder("="))
