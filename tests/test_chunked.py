"""Long recordings: chunks give what the whole recording gives."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from speechlm_lab.codec import Codec, CodecConfig, load_shipped
from speechlm_lab.codec.chunked import (
    Context,
    decode_chunks,
    decoder_context,
    encode_chunks,
    encoder_context,
    windows,
)
from speechlm_lab.corpus import tiny_voices

SMALL = CodecConfig(
    width=16, fine_width=12, encoder_layers=1, decoder_layers=1, fine_layers=1,
    spectrum=8, codebooks=3, codebook_size=16,
)  # fmt: skip
SHORT_HOP = CodecConfig(
    hop=160, fine_hop=80, window=400, width=16, fine_width=12, encoder_layers=1,
    decoder_layers=2, fine_layers=1, spectrum=8, codebooks=2, codebook_size=16,
)  # fmt: skip
CAUSAL = replace(SMALL, causal=True)
CODECS = {}


def codec_of(config):
    if config not in CODECS:
        torch.manual_seed(0)
        CODECS[config] = Codec(config).eval()
    return CODECS[config]


def noise(samples, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, samples, generator=generator)


def join(pieces):
    return torch.cat(list(pieces), dim=-1)


def split(stream, lengths):
    """Pieces of the stream, of these lengths in turn, over and over."""
    position, index = 0, 0
    while position < stream.shape[-1]:
        length = lengths[index % len(lengths)]
        yield stream[..., position : position + length]
        position, index = position + length, index + 1


@given(
    samples=st.integers(1, 20_000),
    pieces=st.lists(st.integers(1, 9_000), min_size=1, max_size=4),
    chunk=st.integers(1, 70),
    config=st.sampled_from([SMALL, SHORT_HOP, CAUSAL]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_encoding_in_chunks_is_encoding_the_whole(samples, pieces, chunk, config):
    codec, wave = codec_of(config), noise(samples)
    if min(pieces) < 100:  # single samples take long and show nothing more
        pieces = [length + 100 for length in pieces]
    chunked = join(encode_chunks(codec, split(wave, pieces), chunk))
    assert torch.equal(chunked, codec.encode(wave))


@given(
    frames=st.integers(1, 120),
    pieces=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    chunk=st.integers(1, 70),
    levels=st.integers(1, 2),
    config=st.sampled_from([SMALL, SHORT_HOP, CAUSAL]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_decoding_in_chunks_is_decoding_the_whole(
    frames, pieces, chunk, levels, config
):
    # in float32 sums in another order change the last bits of a pitch, which the phase
    # then adds up
    codec = copy.deepcopy(codec_of(config)).double()
    generator = torch.Generator().manual_seed(frames)
    codes = torch.randint(16, (2, levels, frames), generator=generator)
    chunked = join(decode_chunks(codec, split(codes, pieces), chunk))
    whole = codec.decode(codes)
    assert chunked.shape == whole.shape
    assert torch.allclose(chunked, whole, atol=2e-6 * float(whole.abs().max() + 1))


def test_the_shipped_codec_has_no_seams():
    codec = load_shipped()
    clips = [tiny_voices.speak("she sells red apples", seed=i).wave for i in range(4)]
    wave = torch.cat(clips)[None]
    whole = codec.encode(wave)
    assert torch.equal(join(encode_chunks(codec, [wave], chunk=50)), whole)
    heard = join(decode_chunks(codec, [whole], chunk=50))
    # over seconds, last digits of the pitch add up to a thousandth of a period
    assert torch.allclose(heard, codec.decode(whole), atol=1e-3)


@pytest.mark.parametrize("config", [SMALL, SHORT_HOP, CodecConfig(), CAUSAL])
def test_the_measured_context_is_that_of_the_layers(config):
    """Added up by hand: kernels reach half their width, spectra half theirs."""
    codec = Codec(config).eval()
    tracker = codec.encoder.tracker
    # the pitch is averaged twice over half a second, spectra reach half a window
    reach = (len(tracker.shape) - config.fine_hop) // 2  # samples
    smooth = 2 * (tracker.near.shape[-1] // 2) + -(-reach // config.fine_hop)
    encoder = -(-smooth // config.fold) + 1 + 3 * config.encoder_layers
    coarse, fine = 3 * config.decoder_layers, 3 * config.fine_layers
    before = after = 3 + coarse + -(-fine // config.fold)
    if config.causal:  # what the blocks do not see after them, they see before
        before, after = 3 + 2 * coarse + -(-2 * fine // config.fold), 3
    assert encoder_context(codec) == Context(encoder, encoder)
    assert decoder_context(codec) == Context(before, after)


def test_a_shorter_context_leaves_seams(monkeypatch):
    """So the context is needed, and the tests above can fail."""
    from speechlm_lab.codec import chunked

    codec = codec_of(SMALL)
    codes = torch.randint(16, (1, 3, 100), generator=torch.Generator().manual_seed(0))
    whole = codec.decode(codes)
    context = decoder_context(codec)
    for shorter in (
        Context(context.before // 2, context.after),
        Context(context.before, context.after // 2),
    ):
        monkeypatch.setattr(chunked, "decoder_context", lambda _, c=shorter: c)
        error = (join(decode_chunks(codec, [codes], 20)) - whole).abs().max()
        assert error > 1e-4


def test_a_codec_without_horizon_is_refused():
    codec = Codec(SMALL).eval()

    class Everything(nn.Module):
        features = codec.encoder.features

        def forward(self, mel, voice):
            return codec.encoder(mel, voice) + mel.mean()

    whole = Codec(SMALL).eval()
    whole.encoder = Everything()
    with pytest.raises(ValueError, match="short recordings"):
        encoder_context(whole)


@given(
    length=st.integers(0, 60),
    pieces=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    chunk=st.integers(1, 20),
    before=st.integers(0, 12),
    after=st.integers(0, 12),
    begin=st.none() | st.integers(1, 25),
)
def test_windows_hold_the_stream_once(length, pieces, chunk, before, after, begin):
    stream = torch.arange(length)
    position, size = 0, begin or chunk
    parts = windows(split(stream, pieces), chunk, before, after, begin)
    for values, start, end in parts:
        first, last = position - start, position + len(values) - start
        assert torch.equal(values, stream[first:last])
        assert first == max(0, position - before)
        assert end > start and len(values) <= before + size + 2 * after
        assert last == length or last - position == size + after
        position, size = position + end - start, chunk
    assert position == length


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_without_a_frame_is_refused(chunk):
    codec = codec_of(SMALL)
    with pytest.raises(ValueError, match="at least one frame"):
        next(encode_chunks(codec, [torch.zeros(1, 640)], chunk))
    with pytest.raises(ValueError, match="at least one frame"):
        next(decode_chunks(codec, [torch.zeros(1, 1, 2, dtype=torch.long)], chunk))
