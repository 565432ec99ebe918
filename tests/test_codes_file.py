"""`.codes` files: what is written is read, and damage is noticed."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from speechlm_lab.codec import Codec, CodecConfig
from speechlm_lab.codes_file import (
    CodesError,
    Header,
    bits,
    fingerprint,
    pack,
    read_body,
    read_header,
    unpack,
    write_body,
    write_header,
)

HEADER_BYTES = 116


def random_codes(levels, size, frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(size, (levels, frames), generator=generator)


def written(codes, size, pieces=512, **changes):
    file = io.BytesIO()
    frames, crc = write_body(file, codes.split(pieces, dim=1), size)
    header = Header(
        codec="Codec", fingerprint=bytes(range(32)), levels=len(codes),
        codebook_size=size, sample_rate=16_000, hop=320, frames=frames,
        samples=320 * frames - 7, original_rate=16_000,
        original_samples=320 * frames - 7, body_crc=crc,
    )  # fmt: skip
    header = replace(header, **changes)
    write_header(file, header)
    return file.getvalue(), header


@given(
    levels=st.integers(1, 12),
    size=st.integers(2, 5_000),
    frames=st.integers(1, 90),
    pieces=st.integers(1, 40),
    read=st.integers(1, 5),
)
@settings(deadline=None)
def test_what_is_written_is_read(levels, size, frames, pieces, read):
    codes = random_codes(levels, size, frames, seed=frames)
    codes[0, 0] = size - 1
    data, header = written(codes, size, pieces)
    file = io.BytesIO(data)
    assert read_header(file, "x") == header
    assert header.frames == frames
    back = torch.cat(list(read_body(file, header, 8 * read)), dim=1)
    assert torch.equal(back, codes)
    assert len(data) == HEADER_BYTES + -(-frames * levels * bits(size) // 8)
    assert header.report()["bytes"] == len(data)


@pytest.mark.parametrize("size", [2, 16, 512, 1024])
def test_a_code_takes_log2_v_bits(size):
    assert bits(size) == np.log2(size)
    codes = random_codes(3, size, 80)
    assert len(pack(codes, size)) == 3 * 80 * np.log2(size) / 8
    _, header = written(codes, size)
    assert header.bitrate == 50 * 3 * np.log2(size)


def test_what_is_read_in_pieces_of_the_usual_size_is_the_whole():
    codes = random_codes(13, 512, 1_300)
    data, header = written(codes, 512)
    back = torch.cat(list(read_body(io.BytesIO(data), header)), dim=1)
    assert torch.equal(back, codes)
    with pytest.raises(ValueError, match="multiple of 8"):
        next(read_body(io.BytesIO(data), header, 500))


def test_the_bits_lie_as_documented():
    codes = torch.tensor([[5, 1], [0, 7]])  # frames (5, 0), (1, 7): 101 000 001 111
    assert pack(codes, 8) == bytes([0b10100000, 0b11110000])
    assert torch.equal(unpack(bytes([0b10100000, 0b11110000]), 2, 8, 2), codes)


@pytest.mark.parametrize("code", [16, -1])
def test_codes_outside_the_codebook_are_not_written(code):
    with pytest.raises(ValueError, match=r"0\.\.15"):
        pack(torch.tensor([[code]]), 16)


def test_the_report_gives_the_samples_at_both_rates():
    sizes = {"original_rate": 8_000, "original_samples": 3_196}
    report = written(random_codes(2, 16, 20), 16, **sizes)[1].report()
    assert report["samples"] == 6_393
    assert report["original_samples"] == 3_196


def test_every_damaged_byte_is_noticed():
    data, _ = written(random_codes(2, 16, 20), 16)
    for position in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= flip
            with pytest.raises(CodesError, match="again|encode"):
                read_header(io.BytesIO(damaged), "x")


def test_every_cut_and_every_tail_is_noticed():
    data, _ = written(random_codes(2, 16, 20), 16)
    for length in range(len(data)):
        with pytest.raises(CodesError):
            read_header(io.BytesIO(data[:length]), "x")
    with pytest.raises(CodesError, match="damaged"):
        read_header(io.BytesIO(data + b"\0"), "x")


@given(st.binary(max_size=300))
def test_other_bytes_are_refused(data):
    with pytest.raises(CodesError):
        read_header(io.BytesIO(data), "x")


def test_the_words_name_the_fault():
    data, _ = written(random_codes(2, 16, 20), 16)
    cases = {
        b"": "empty",
        b"RIFF": r"no \.codes file",
        data[:40]: "cut short, within its header",
        data[:-10]: r"cut short: 50%",
        data[:8] + b"\2" + data[9:]: "version 2",
        data[:50] + b"\xaa" + data[51:]: "header",
        data[:-1] + b"\xaa": "codes in .* damaged",
    }
    for damaged, words in cases.items():
        with pytest.raises(CodesError, match=words):
            read_header(io.BytesIO(damaged), "clip.codes")


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": 3}, {"hop": 0}, {"codebook_size": 1}, {"original_rate": 0},
        {"original_samples": 2**60}, {"samples": 0}, {"levels": 0},
        {"original_samples": 6_300},  # and 6,393 at the same rate
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_header_that_cannot_be_is_refused(changes):
    """Its checksum is right: such a file was made, not damaged."""
    data, _ = written(random_codes(2, 16, 20), 16, **changes)
    with pytest.raises(CodesError, match="contradicts"):
        read_header(io.BytesIO(data), "x")


def test_the_fingerprint_is_of_the_weights():
    config = CodecConfig(
        width=8, fine_width=8, encoder_layers=1, decoder_layers=1, fine_layers=1,
        spectrum=4, codebooks=2, codebook_size=4,
    )  # fmt: skip
    torch.manual_seed(0)
    codec = Codec(config)
    first = fingerprint(codec)
    assert first == fingerprint(codec) and len(first) == 32
    with torch.no_grad():
        codec.quantizer.levels[1].codebook[3, 0] += 1e-6
    assert fingerprint(codec) != first


def test_the_fingerprint_is_of_names_and_shapes_too():
    one, two = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    two.weight.data = one.weight.data.reshape(2, 3)
    prints = {fingerprint(module) for module in (one, two, nn.Sequential(one))}
    assert len(prints) == 3
