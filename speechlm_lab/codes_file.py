"""`.codes` files: what a codec made of a recording, packed bit by bit.

    bytes  0-7    89 43 4F 44 45 53 0D 0A: damage by text-mode copying shows here
           8-9    version of the format, 1
          10-115  the rest of the header (`_HEADER`), and the CRC-32 of all before it
         116-     the body: frame after frame, in it level after level, each code in
                  ceil(log2 V) bits, highest bit first; zeros fill the last byte

Numbers are little-endian. The header holds the SHA-256 of the codec's weights, so that
codes are decoded by the codec that made them or not at all, and the CRC-32 of the body.
Files are written and read some frames at a time, so they can be of any length.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

_MAGIC = b"\x89CODES\r\n"
_VERSION = 1
_HEADER = struct.Struct("<24s32sHIIIQQIQI")  # the fields of `Header`, in order
_CRC = struct.Struct("<I")
_BODY = len(_MAGIC) + 2 + _HEADER.size + _CRC.size  # where the body starts, in bytes
_READ = 65_536  # bytes read at a time
_ALIGNED = 8  # frames; with 8 of them, a piece of the body is whole bytes


class CodesError(ValueError):
    """A `.codes` file that cannot be used; the message names the remedy."""


@dataclass(frozen=True)
class Header:
    """What a `.codes` file says about its codes `[K, F]`."""

    codec: str  # class of the codec, at most 24 bytes
    fingerprint: bytes  # SHA-256 of the codec's weights
    levels: int  # K
    codebook_size: int  # V
    sample_rate: int  # Hz, of the codec
    hop: int  # samples in a frame
    frames: int  # F
    samples: int  # at `sample_rate`; the last frame may reach beyond them
    original_rate: int  # Hz, of the recording
    original_samples: int  # at `original_rate`
    body_crc: int  # CRC-32 of the body

    @property
    def frame_rate(self) -> float:
        """Frames a second, Hz."""
        return self.sample_rate / self.hop

    @property
    def bitrate(self) -> float:
        """Bits a second in the body; the header adds 116 bytes."""
        return self.frame_rate * self.levels * bits(self.codebook_size)

    @property
    def seconds(self) -> float:
        """Duration of the recording in seconds."""
        return self.original_samples / self.original_rate

    @property
    def body_bytes(self) -> int:
        """Size of the body in bytes."""
        return -(-self.frames * self.levels * bits(self.codebook_size) // 8)

    def report(self) -> dict[str, int | float | str]:
        """What a user wants to know: bitrate in bit/s, size of the file in bytes, …"""
        return {
            "bitrate": self.bitrate,
            "levels": self.levels,
            "frame_rate": self.frame_rate,
            "codebook_size": self.codebook_size,
            "frames": self.frames,
            "seconds": self.seconds,
            "bytes": _BODY + self.body_bytes,
            "sample_rate": self.sample_rate,
            "samples": self.samples,
            "original_rate": self.original_rate,
            "original_samples": self.original_samples,
            "codec": self.codec,
            "fingerprint": self.fingerprint.hex(),
        }


class Body(NamedTuple):
    """What `write_body` wrote."""

    frames: int  # F
    crc: int  # CRC-32


def bits(codebook_size: int) -> int:
    """Bits a code takes in a file: ceil(log2 V)."""
    return (codebook_size - 1).bit_length()


def fingerprint(codec: nn.Module) -> bytes:
    """SHA-256, 32 bytes, of the names, shapes and values of a codec's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(codec.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()


def pack(codes: Tensor, codebook_size: int) -> bytes:
    """Pack codes `[K, f]`, frame after frame; zero bits fill the last byte."""
    low, high = (int(value) for value in torch.aminmax(codes))
    if low < 0 or high >= codebook_size:
        raise ValueError(f"codes must lie in 0..{codebook_size - 1}, got {low}..{high}")
    shifts = np.arange(bits(codebook_size))[::-1]
    each = codes.T.reshape(-1, 1).numpy() >> shifts & 1
    return np.packbits(each.astype(np.uint8)).tobytes()


def unpack(data: bytes, levels: int, codebook_size: int, frames: int) -> Tensor:
    """Codes `[K, frames]`, int64, that `pack` made into `data`."""
    size = bits(codebook_size)
    flat = np.unpackbits(np.frombuffer(data, np.uint8), count=frames * levels * size)
    codes = flat.reshape(frames, levels, size) @ (1 << np.arange(size)[::-1])
    return torch.from_numpy(codes).T


def write_body(file: BinaryIO, pieces: Iterable[Tensor], codebook_size: int) -> Body:
    """Pack pieces of codes `[K, f]` into `file`, behind the place of the header."""
    file.seek(_BODY)
    frames, crc, held = 0, 0, None

    def put(codes: Tensor) -> None:
        nonlocal frames, crc
        data = pack(codes, codebook_size)
        file.write(data)
        frames, crc = frames + codes.shape[1], zlib.crc32(data, crc)

    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece], dim=1)
        whole = held.shape[1] - held.shape[1] % _ALIGNED
        if whole:
            put(held[:, :whole])
            held = held[:, whole:]
    if held is not None and held.shape[1]:
        put(held)
    return Body(frames, crc)


def write_header(file: BinaryIO, header: Header) -> None:
    """Write the header at the start of `file`."""
    name, *rest = astuple(header)
    packed = _HEADER.pack(name.encode()[:24], *rest)
    data = _MAGIC + _VERSION.to_bytes(2, "little") + packed
    file.seek(0)
    file.write(data + _CRC.pack(zlib.crc32(data)))


def read_header(file: BinaryIO, name: str) -> Header:
    """Read the header at the start of `file`, and check the whole file against it.

    Args:
        file: at its start.
        name: of the file, for messages.

    Raises:
        CodesError: no `.codes` file, of a newer version, or damaged anywhere.
    """
    data = file.read(_BODY)
    if not data:
        raise CodesError(f"{name} is empty (0 bytes): encode the sound again")
    if not data.startswith(_MAGIC):
        raise CodesError(
            f"{name} is no .codes file, or its beginning is damaged: give a file that "
            "`speechlm-lab encode` wrote"
        )
    again = "copy the file again, or encode the sound again"
    if len(data) < _BODY:
        raise CodesError(f"{name} is cut short, within its header: {again}")
    packed, crc = data[: -_CRC.size], data[-_CRC.size :]
    version = int.from_bytes(packed[len(_MAGIC) : len(_MAGIC) + 2], "little")
    if version != _VERSION:
        raise CodesError(
            f"{name} has format version {version}, and this program reads {_VERSION}: "
            "update the program, or encode the sound again"
        )
    if _CRC.unpack(crc) != (zlib.crc32(packed),):
        raise CodesError(f"the header of {name} is damaged: {again}")
    codec, *rest = _HEADER.unpack(packed[len(_MAGIC) + 2 :])
    header = Header(codec.rstrip(b"\0").decode(errors="replace"), *rest)
    _check_sizes(header, name)
    _check_body(file, header, name, again)
    return header


def _check_sizes(header: Header, name: str) -> None:
    rates = min(header.sample_rate, header.original_rate)
    samples = min(header.samples, header.original_samples)
    # both durations, times both rates: apart by what resampling rounds at most
    ours = header.samples * header.original_rate
    theirs = header.original_samples * header.sample_rate
    if (
        min(header.levels, header.hop, rates, samples) < 1
        or header.codebook_size < 2
        or header.frames != -(-header.samples // header.hop)
        or abs(ours - theirs) > header.original_rate
    ):
        raise CodesError(
            f"the header of {name} contradicts itself: encode the sound again"
        )


def _check_body(file: BinaryIO, header: Header, name: str, again: str) -> None:
    size, crc = 0, 0
    while data := file.read(_READ):
        size, crc = size + len(data), zlib.crc32(data, crc)
    if size < header.body_bytes:
        share = size / header.body_bytes
        raise CodesError(f"{name} is cut short: {share:.0%} of it are there: {again}")
    if size > header.body_bytes or crc != header.body_crc:
        raise CodesError(f"the codes in {name} are damaged: {again}")


def read_body(file: BinaryIO, header: Header, frames: int = 512) -> Iterator[Tensor]:
    """Codes `[K, f]`, int64, in pieces of at most `frames`, a multiple of 8.

    Raises ValueError for another number: a piece would begin inside a byte.
    """
    if frames < 8 or frames % 8:
        raise ValueError(f"frames must be a multiple of 8, not {frames}")
    file.seek(_BODY)
    left = header.frames
    while left:
        count = min(frames, left)
        size = -(-count * header.levels * bits(header.codebook_size) // 8)
        yield unpack(file.read(size), header.levels, header.codebook_size, count)
        left -= count
