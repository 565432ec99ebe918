"""One file over HTTP: checked, resumed where it broke off, whole or not at all."""

import hashlib
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

ATTEMPTS = 4  # how often a broken connection is taken up again
PAUSE = 1.0  # s before the second attempt, twice that before the third ...
TIMEOUT = 30.0  # s without a byte until a connection counts as broken
CHUNK = 1 << 18  # bytes
BROKEN_CONNECTION = (
    urllib.error.URLError,
    ConnectionError,
    TimeoutError,
    HTTPException,
    ssl.SSLError,
)


class DownloadError(RuntimeError):
    """A data set cannot be had; the message is one line and names the remedy."""


def fetch(url: str, path: Path, checksum: str = "", progress: bool = True) -> Path:
    """Download `url` to the file `path`, unless it is there already.

    What has arrived waits in `<path>.part` and becomes `path` only when it is whole.
    A broken connection, or an earlier process that was killed, is taken up where it
    stopped if the server can do that (HTTP Range), else from the start. A wrong
    checksum deletes what came and starts over, once. Not safe for two processes on
    one path: hold `locked`. Raises `DownloadError`.
    """
    if path.exists():
        if not checksum or _checksum(path, checksum) == checksum:
            return path
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    remedy = (
        f"Save {url} as {path} and try again, or set SPEECHLM_LAB_DATA to a folder"
        " that holds the data."
    )
    mismatch = False
    trouble: Exception | None = None
    for attempt in range(ATTEMPTS):
        if trouble is not None:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            _receive(url, part, progress)
        except urllib.error.HTTPError as error:
            trouble = error
            if error.code == 416:  # what we hold does not fit the file: start over
                part.unlink(missing_ok=True)
            elif error.code not in (408, 429, 500, 502, 503, 504):
                break
            continue
        except BROKEN_CONNECTION as error:
            trouble = error
            if attempt == 0 and isinstance(error, urllib.error.URLError):
                break  # not even reached: most likely there is no network
            continue
        found = _checksum(part, checksum) if checksum else ""
        if found == checksum:
            os.replace(part, path)
            _tag(part).unlink(missing_ok=True)
            return path
        part.unlink()
        _tag(part).unlink(missing_ok=True)
        if mismatch:
            raise DownloadError(
                f"{url} has {found}, expected {checksum}. Nothing was kept. The file"
                " was changed at its source, or on its way: try another network."
            )
        mismatch = True
        trouble = ValueError("wrong checksum")
    reason = getattr(trouble, "reason", None) or trouble
    raise DownloadError(f"Cannot download {path.name} ({reason}). {remedy}") from None


def _checksum(path: Path, like: str) -> str:
    kind = like.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def _tag(part: Path) -> Path:
    """Where the server's mark of the version that `part` belongs to is kept."""
    return part.with_name(part.name + ".tag")


def _receive(url: str, part: Path, shown: bool) -> None:
    """One connection: append to `part` what is missing, or write it anew."""
    held = part.stat().st_size if part.exists() and _tag(part).exists() else 0
    headers = {"User-Agent": "speechlm-lab"}
    if held:
        # If-Range: a server whose file has changed since sends all of the new one
        headers |= {"Range": f"bytes={held}-", "If-Range": _tag(part).read_text()}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if response.status != 206:
            held = 0
        length = response.headers.get("Content-Length")
        total = held + int(length) if length is not None else None
        with (
            open(part, "ab" if held else "wb") as file,
            progress_of(part.name.removesuffix(".part"), total, held, shown) as report,
        ):
            _keep_tag(part, response.headers)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                report(len(chunk))
    if total is not None and part.stat().st_size != total:
        raise ConnectionError(f"closed after {part.stat().st_size} of {total} bytes")


@contextmanager
def progress_of(
    name: str, total: int | None, done: int = 0, shown: bool = True
) -> Iterator[Callable[[int], None]]:
    """Report a download: a bar in a terminal, else a printed line at each tenth.

    total, done: bytes; total None if unknown. Gives a function to call with the number
    of bytes that have come since the last call. Lines go to standard output, because
    the book's build takes what a cell writes to standard error for a fault.
    """
    terminal = sys.stderr.isatty()
    if shown and not terminal:
        size = "" if total is None else f" ({total / 1e6:.0f} MB)"
        print(f"Downloading {name}{size}", flush=True)
    lines = shown and not terminal and total is not None and total > 50e6
    tenths = 10 * done // total if lines else 0

    with tqdm(
        desc=name,
        total=total,
        initial=done,
        unit="B",
        unit_scale=True,
        disable=not (shown and terminal),
    ) as bar:

        def report(count: int) -> None:
            nonlocal done, tenths
            bar.update(count)
            done += count
            if lines and 10 * done // total > tenths:
                tenths = 10 * done // total
                print(f"Downloading {name}: {10 * tenths} %", flush=True)

        yield report


def _keep_tag(part: Path, headers: Mapping[str, str]) -> None:
    tag = headers.get("ETag")
    if tag is None or tag.startswith("W/"):  # If-Range takes no weak tags
        tag = headers.get("Last-Modified")
    if tag is None:
        _tag(part).unlink(missing_ok=True)
    else:
        _tag(part).write_text(tag)
