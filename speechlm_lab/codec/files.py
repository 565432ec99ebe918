"""Sound files to `.codes` files and back, of any length, in constant memory."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from speechlm_lab import shipped
from speechlm_lab.audio_blocks import (
    BlockReader,
    exactly,
    resample_blocks,
    save_blocks,
)
from speechlm_lab.codec import Codec, load_shipped
from speechlm_lab.codec.chunked import decode_chunks, encode_chunks
from speechlm_lab.codes_file import (
    CodesError,
    Header,
    bits,
    fingerprint,
    read_body,
    read_header,
    write_body,
    write_header,
)
from speechlm_lab.whole_files import check_apart, replacing


def load_codec(folder: str | os.PathLike | None = None) -> Codec:
    """The codec in `folder`, or the one that comes with the package.

    Raises ValueError where the folder holds no codec, or not all of it.
    """
    if folder is None:
        return load_shipped()
    return shipped.load(Codec, folder)


def choose_levels(
    codec: Codec, levels: int | None = None, max_bitrate: float | None = None
) -> int:
    """Levels to keep: `levels`, or as many as `max_bitrate` (bit/s) allows, or all.

    Raises ValueError for levels that the codec lacks, and where not one level fits.
    """
    most = codec.config.codebooks
    if levels is not None and not 1 <= levels <= most:
        raise ValueError(
            f"this codec has {most} levels: choose from 1 to {most}, not {levels}"
        )
    if max_bitrate is None:
        return most if levels is None else levels
    each = codec.frame_rate * bits(codec.config.codebook_size)
    fitting = [k for k in range(1, most + 1) if k * each <= max_bitrate]
    if not fitting:
        raise ValueError(
            f"one level alone takes {each:g} bit/s, more than {max_bitrate:g}: allow "
            f"at least {each:g}"
        )
    return fitting[-1]


def encode_file(
    source: str | os.PathLike,
    target: str | os.PathLike,
    codec: Codec | None = None,
    levels: int | None = None,
    max_bitrate: float | None = None,
) -> Header:
    """Encode a sound file of any length, rate and number of channels.

    Args:
        source: a file that libsndfile reads; its channels are averaged.
        target: the `.codes` file; it appears whole or not at all.
        codec: the shipped one when None.
        levels: how many to keep, all when None.
        max_bitrate: in bit/s; keeps as many levels as fit instead.

    Raises:
        ValueError: a bad sound file (AudioError), levels that there are not, no place
            for the file, or a target that is the source.
    """
    check_apart(source, target)
    codec = codec or load_shipped()
    levels = choose_levels(codec, levels, max_bitrate)
    size, samples = codec.config.codebook_size, 0

    def counted(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        nonlocal samples
        for block in blocks:
            samples += len(block)
            yield block[None]
        if samples == 0:  # so short that no sample is left at the codec's rate
            samples = 1
            yield torch.zeros(1, 1)

    with (
        BlockReader(source, codec.sample_rate) as sound,
        replacing(target) as part,
        open(part, "wb") as file,
    ):
        pieces = (codes[0, :levels] for codes in encode_chunks(codec, counted(sound)))
        body = write_body(file, pieces, size)
        header = Header(
            type(codec).__name__, fingerprint(codec), levels, size, codec.sample_rate,
            codec.hop, body.frames, samples, sound.rate, sound.samples, body.crc,
        )  # fmt: skip
        write_header(file, header)
    return header


def decode_file(
    source: str | os.PathLike,
    target: str | os.PathLike,
    codec: Codec | None = None,
    original_rate: bool = False,
) -> Header:
    """Decode a `.codes` file to a mono sound file of the length of the original.

    Args:
        source: the `.codes` file.
        target: .wav, .flac or .ogg; it appears whole or not at all.
        codec: the one that encoded it; the shipped one when None.
        original_rate: write the original's rate and number of samples. Otherwise it is
            the codec's rate (16 kHz): what lies above half of that is lost anyway.
            Where the original's rate is the lower one, what the decoder makes up above
            half of it is taken out, since it was never there.

    Raises:
        CodesError: missing, no `.codes` file, damaged, or made by another codec.
        ValueError: no place for the file, or a target that is the source.
    """
    source = Path(source)
    check_apart(source, target)
    if not source.is_file():
        raise CodesError(f"there is no file {source}: check the path")
    codec = codec or load_shipped()
    with open(source, "rb") as file:
        header = read_header(file, str(source))
        if header.fingerprint != fingerprint(codec):
            raise CodesError(
                f"{source} was made by another codec ({header.codec} "
                f"{header.fingerprint.hex()[:12]}): name the folder of that one with "
                "--codec, or encode the sound again"
            )
        pieces = (codes[None] for codes in read_body(file, header))
        blocks = (wave[0] for wave in decode_chunks(codec, pieces))
        blocks = exactly(blocks, header.samples)
        rate, samples = header.sample_rate, header.samples
        narrow = header.original_rate < header.sample_rate
        if original_rate or narrow:
            rate, samples = header.original_rate, header.original_samples
            blocks = resample_blocks(blocks, header.sample_rate, rate)
            blocks = exactly(blocks, samples)
        if narrow and not original_rate:
            blocks = resample_blocks(blocks, rate, header.sample_rate)
            rate, samples = header.sample_rate, header.samples
            blocks = exactly(blocks, samples)
        save_blocks(target, blocks, rate, samples)
    return header
