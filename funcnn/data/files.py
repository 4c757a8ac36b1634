"""Files as they are read here: one that cannot be read is named, in one line."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from funcnn.data.dataset import DataError


def read_bytes(path: Path) -> bytes:
    """What a file holds. Raises `DataError` where it is absent or cannot be read.

    >>> read_bytes(Path("no/such/file"))
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: no/such/file: no such file
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        leads = f"a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
        raise DataError(f"{path}: {leads or 'no such file'}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def read_unzipped(path: Path) -> bytes:
    """What a file holds, gzipped or not. Raises `DataError` as `read_bytes`, or for damaged gzip.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a"
    >>> _ = path.write_bytes(gzip.compress(b"abc"))
    >>> read_unzipped(path)
    b'abc'
    """
    raw = read_bytes(path)
    if raw[:2] != b"\x1f\x8b":
        if raw and path.suffix == ".gz":
            raise DataError(f"{path}: not gzipped although its name ends in .gz")
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from None


def read_text(path: Path) -> str:
    """The text in a file of UTF-8. Raises `DataError` where it is none, or as `read_bytes`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "latin"
    >>> _ = path.write_bytes("ok\\nh\xe4".encode("latin-1"))
    >>> read_text(path)
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: .../latin: not UTF-8: byte 0xe4 at position 4, in line 2
    """
    raw = read_bytes(path)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{raw[error.start]:02x} at position {error.start}, in line {line}"
        raise DataError(f"{path}: not UTF-8: {byte}") from None


def check_folder(folder: Path, wanted: str) -> None:
    """Raise `DataError` where there is no such folder; `wanted` says what it must hold.

    >>> check_folder(Path("/no/such"), "a file a")
    Traceback (most recent call last):
    funcnn.data.dataset.DataError: /no/such: no such folder; it must hold a file a
    """
    if not folder.is_dir():
        here = "" if folder.is_absolute() else f" in {Path.cwd()}"
        wrong = "is a file, not a folder" if folder.exists() else f"no such folder{here}"
        raise DataError(f"{folder}: {wrong}; it must hold {wanted}")


def shown(path: Path) -> Iterator[Path]:
    """What stands in a folder, in the order of its names and without hidden files.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("b", ".hidden", "a"):
    ...     (folder / name).touch()
    >>> [path.name for path in shown(folder)]
    ['a', 'b']
    """
    return iter(sorted(p for p in path.iterdir() if not p.name.startswith(".")))
