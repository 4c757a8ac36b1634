"""Some hundred damaged IDX files: each is read as what its header says, or named in one line."""

import gzip
import random

import numpy as np
import pytest
from idx_folder import CODES, write_idx_folder

from funcnn.data import DataError, idx, read_idx

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TYPES = {code: np.dtype(name) for name, code in CODES.items()}


def of_rank(rng, content):
    """A header of any rank whose sizes make the length of the file, or nearly."""
    rank, code = rng.randrange(256), rng.choice([*TYPES, rng.randrange(256)])
    sizes = [1] * rank
    for _ in range(rng.randrange(4)):
        if rank:
            sizes[rng.randrange(rank)] = rng.choice([0, 1, 2, 3, 2**16, 2**31, 2**32 - 1])
    header = bytes([0, 0, code, rank]) + np.array(sizes, ">u4").tobytes()
    elements = min(int(np.prod(np.array(sizes, object))), 500) if rank else 0
    return header + bytes(elements * getattr(TYPES.get(code), "itemsize", 1))


def resized(rng, content):
    place = rng.choice([4, 8, 12])
    size = rng.choice([0, 1, 59, 61, 2**16, 2**31, 2**32 - 1]).to_bytes(4, "big")
    return content[:place] + size + content[place + 4 :]


def flipped(rng, content):
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        found[rng.randrange(min(len(found), rng.choice([4, 16, 4000])))] ^= 1 << rng.randrange(8)
    return bytes(found)


def cut(rng, content):
    return content[: rng.randrange(rng.choice([20, len(content)]))]


def longer(rng, content):
    return content + rng.randbytes(rng.choice([1, 4, 1000]))


def zipped(rng, content):
    found = gzip.compress(content, mtime=0)
    return rng.choice([lambda rng, c: c, flipped, cut, longer])(rng, found)


MUTATIONS = (of_rank, of_rank, of_rank, resized, flipped, cut, longer, zipped)


def check(path, content, read):
    """One line that begins with the file, or what `read` returns."""
    path.write_bytes(content)
    try:
        return read()
    except DataError as error:
        message = str(error)
    assert message.startswith(str(path.parent))
    assert path.name in message
    assert len(message.splitlines()) == 1
    assert len(message) < len(str(path)) + 400
    return None


def test_one_damaged_file(tmp_path):
    whole = (write_idx_folder(tmp_path, gz=False) / IMAGES).read_bytes()
    path, arrays = tmp_path / "damaged", 0
    for seed in range(500):
        rng = random.Random(seed)
        content = rng.choice(MUTATIONS)(rng, whole)
        array = check(path, content, lambda: read_idx(path))
        if array is not None:
            content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            assert TYPES[content[2]] == array.dtype, seed
            assert content[3] == array.ndim, seed
            dimensions = np.frombuffer(content, ">u4", array.ndim, 4).tolist()
            assert dimensions == [*array.shape], seed
            arrays += 1
    assert 30 < arrays < 250  # the mutations are neither all harmless nor all the same


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_a_folder_with_one_damaged_file(tmp_path, name):
    whole = (write_idx_folder(tmp_path, gz=False) / name).read_bytes()
    for seed in range(150):
        rng = random.Random(seed)
        content = rng.choice(MUTATIONS)(rng, whole)
        data = check(tmp_path / name, content, lambda: idx(tmp_path, classes=10))
        if data is not None:
            assert data.train.y.max() < 10, seed
            assert 0 <= data.train.x.min() <= data.train.x.max() <= 1, seed
