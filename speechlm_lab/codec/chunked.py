"""A codec on recordings of any length: chunk by chunk, as if whole.

The codec looks both ways: a frame of codes depends on a few frames of sound before and
after it, and a frame of sound on a few frames of codes. So each chunk is handed over
together with that much of its surroundings, and only its own middle is kept:

    whole   |---------------------------------------------|
    1st     |== kept ==|-after-|
    2nd            |-before-|== kept ==|-after-|
    last                            |-before-|== kept ====|

At the two ends of the recording, a chunk ends where the recording does. The result is
that of the whole recording but for the last bits of float32, since matrix products of
other sizes are summed in another order. Codes are then the same, except where a latent
lies as near to one code as to another within these bits. In decoding they move the
pitch by its last bits too, so that after minutes the pulses may come a thousandth of a
period early or late.
"""

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from speechlm_lab.codec.decoder import Controls
from speechlm_lab.codec.model import Codec

CHUNK = 512  # frames; 10 seconds of the shipped codec
_LONGEST = 4_096  # frames; contexts beyond that are taken for endless


class Context(NamedTuple):
    """How far one frame of a result looks beyond its own frame."""

    before: int  # frames
    after: int  # frames


def encoder_context(codec: Codec) -> Context:
    """Frames of sound around its own that a frame of codes depends on.

    Measured, once for each codec, so that it holds for every configuration: NaN is put
    into one frame, and the frames that it reaches are those that depend on it.

    Raises:
        ValueError: there is no end to it, as with a recurrent layer or attention.
    """

    def reached(count: int) -> Tensor:
        wave = torch.zeros(1, count, codec.hop)
        wave[:, count // 2] = torch.nan
        return codec.latents(wave.flatten(1).to(_device(codec)))

    return _known(_ENCODERS, codec, reached)


def decoder_context(codec: Codec) -> Context:
    """Frames of codes around its own that the decoder's controls depend on.

    Measured as `encoder_context` is; raises what it raises.
    """

    def reached(count: int) -> Tensor:
        weight = next(codec.parameters())  # in its precision, where it is
        latents = weight.new_zeros(1, count, codec.config.latent)
        latents[:, count // 2] = torch.nan
        controls = torch.cat(
            [c.flatten(2) if c.ndim > 2 else c[..., None]
             for c in codec.decoder.controls(latents)], -1
        )  # fmt: skip
        return controls.reshape(1, count, -1)

    return _known(_DECODERS, codec, reached)


# contexts by codec, so that no later stream waits for the measurement
_ENCODERS: MutableMapping[Codec, Context] = WeakKeyDictionary()
_DECODERS: MutableMapping[Codec, Context] = WeakKeyDictionary()


def _known(
    found: MutableMapping[Codec, Context],
    codec: Codec,
    reached: Callable[[int], Tensor],
) -> Context:
    if codec not in found:
        found[codec] = _context(reached)
    return found[codec]


@torch.no_grad()
def _context(reached: Callable[[int], Tensor]) -> Context:
    """From `reached(count)` `[1, count, ...]`, NaN where frame count // 2 arrives."""
    count = 129  # frames, odd; more are tried where these are too few
    while count < 2 * _LONGEST:
        where = reached(count)[0].isnan().any(dim=-1).nonzero()
        first, last = int(where.min()), int(where.max())
        if 0 < first and last < count - 1:
            # an input that reaches later frames is what those look back at
            return Context(before=last - count // 2, after=count // 2 - first)
        count = 2 * count - 1
    raise ValueError(
        "this codec looks at the whole recording at once, so it cannot work in chunks: "
        "encode short recordings with codec.encode"
    )


def _device(codec: Codec) -> torch.device:
    return next(codec.parameters()).device


class Window(NamedTuple):
    """A chunk of a stream with its surroundings."""

    values: Tensor  # [..., n]
    start: int  # where in `values` the chunk starts
    end: int  # and where it ends


def windows(
    blocks: Iterable[Tensor],
    chunk: int,
    before: int,
    after: int,
    first: int | None = None,
) -> Iterator[Window]:
    """Cut a stream along its last axis into chunks that see their surroundings.

    Args:
        blocks: tensors `[..., n]` of any lengths n, laid end to end.
        chunk: length of a chunk. The last one is up to `after` longer.
        before, after: how much a chunk sees beyond its ends, where there is that much.
        first: length of the first chunk; None: as the others.

    Yields:
        The chunks with their surroundings. Joined, the chunks are the stream.

    Raises:
        ValueError: a chunk without a frame.
    """
    if chunk < 1:
        raise ValueError(f"a chunk has at least one frame, not {chunk}")
    held, start = None, 0  # start: where in `held` the next chunk begins
    size = chunk if first is None else first
    for block in blocks:
        held = block if held is None else torch.cat([held, block], dim=-1)
        while held.shape[-1] - start >= size + after:
            end, size = start + size, chunk
            yield Window(held[..., : end + after], start, end)
            drop = max(0, end - before)
            held, start = held[..., drop:], end - drop
    if held is not None and held.shape[-1] > start:
        yield Window(held, start, held.shape[-1])


@torch.no_grad()
def encode_chunks(
    codec: Codec, blocks: Iterable[Tensor], chunk: int = CHUNK
) -> Iterator[Tensor]:
    """Encode waves of any length in constant memory.

    Args:
        codec: in evaluation mode.
        blocks: a wave in pieces `[B, t]` of any lengths t, at the codec's rate.
        chunk: frames to encode at a time.

    Yields:
        Codes `[B, K, f]`. Joined, they are `codec.encode` of the joined blocks; the
        module's docstring says how exactly.
    """
    hop, context = codec.hop, encoder_context(codec)
    sizes = (size * hop for size in (chunk, context.before, context.after))
    for window, start, end in windows(blocks, *sizes):
        codes = codec.encode(window.to(_device(codec)))
        yield codes[..., start // hop : -(-end // hop)].cpu()


def decode_chunks(
    codec: Codec, codes: Iterable[Tensor], chunk: int = CHUNK
) -> Iterator[Tensor]:
    """Decode codes of any length in constant memory.

    Args:
        codec: in evaluation mode.
        codes: pieces `[B, k, f]`, k <= K, of any lengths f.
        chunk: frames to decode at a time.

    Yields:
        Waves `[B, t]`, F * hop samples in all. Joined, they are `codec.decode` of the
        joined codes, to float32 rounding.
    """
    latents = (codec.quantizer.decode(c.to(_device(codec))).mT for c in codes)
    return render_chunks(codec, latents, chunk)


@torch.no_grad()
def render_chunks(
    codec: Codec,
    latents: Iterable[Tensor],
    chunk: int = CHUNK,
    first: int | None = None,
) -> Iterator[Tensor]:
    """`decode_chunks` for latents, pieces `[B, D, f]` of any lengths f.

    `first` is the length of the first chunk, for those who wait; None: as the others.
    """
    context, fold = decoder_context(codec), codec.config.fold
    decoder, state = codec.decoder, None
    # A sample is made by the windows that lie over it, and these read the sources up to
    # a window away. But the phase of the pulses has come from the very beginning, and
    # is handed on from chunk to chunk.
    lap = -(-codec.config.window // codec.hop)
    around = (context.before + lap, context.after + lap)
    for window, start, end in windows(latents, chunk, *around, first):
        controls = decoder.controls(window.mT)
        begin, last = max(0, start - lap), min(end + lap, window.shape[-1])
        near = Controls(*(c[:, begin * fold : last * fold] for c in controls))
        state = state or decoder.start(near)
        wave = decoder.render(near, state).clamp(-1, 1)
        yield wave[:, (start - begin) * codec.hop : (end - begin) * codec.hop].cpu()
        kept = max(0, end - lap) - begin  # frames until the next chunk's first one
        if kept > 0:
            passed = Controls(*(c[:, : kept * fold] for c in near))
            state = decoder.after(passed, state)
