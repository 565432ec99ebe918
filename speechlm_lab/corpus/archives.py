"""Unpack an archive into a folder: whole or not at all, and nowhere else."""

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

CHUNK = 1 << 18  # bytes
# what reading a cut or altered archive raises
BROKEN_ARCHIVE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError)


class UnsafeArchive(RuntimeError):
    """An archive has a member that would be written outside its folder, or a link."""


def extract(
    archive: Path,
    folder: Path,
    keep: Mapping[str, str] | None = None,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Unpack a .zip or .tar.* into `folder`, which appears whole or not at all.

    The archive's single top folder is dropped. keep: see `Archive`; None keeps all.
    finish: called on the unpacked folder before it is moved to its place; if it
    raises, nothing is kept. A `folder` that is there already is replaced.

    Every member must be a plain file or folder below the archive's root. An absolute
    path, "..", a link or a device raises `UnsafeArchive`, kept part or not.
    """
    unpacked = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(unpacked, ignore_errors=True)  # left by a process that was killed
    unpacked.mkdir(parents=True)
    try:
        for name, is_file, is_folder, open_member in _members(archive):
            parts = PurePosixPath(name).parts
            if (
                not (is_file or is_folder)
                or name.startswith("/")
                or ".." in parts
                or "\\" in name
                or ":" in name
            ):
                raise UnsafeArchive(
                    f"{archive.name} holds {name!r}, which could be written outside"
                    " its folder: refused, nothing was unpacked."
                )
            place = _place("/".join(parts[1:]), keep)
            if is_folder or place is None:
                continue
            target = unpacked / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_member() as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out, CHUNK)
        if finish is not None:
            finish(unpacked)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(unpacked, folder)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _members(
    archive: Path,
) -> Iterator[tuple[str, bool, bool, Callable[[], BinaryIO]]]:
    """Name, whether a plain file, whether a folder, and how to open it."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                plain = kind in (0, stat.S_IFREG) and not info.is_dir()
                is_folder = kind in (0, stat.S_IFDIR) and info.is_dir()
                yield info.filename, plain, is_folder, lambda i=info: opened.open(i)
    else:
        with tarfile.open(archive, "r|*") as opened:  # "|": one pass, no seeking
            for info in opened:
                member = lambda i=info: opened.extractfile(i)  # noqa: E731
                yield info.name, info.isreg(), info.isdir(), member


def _place(path: str, keep: Mapping[str, str] | None) -> str | None:
    if keep is None:
        return path or None
    for source, target in keep.items():
        if path == source or (source.endswith("/") and path.startswith(source)):
            return target + path[len(source) :]
    return None
