"""The strided codec: causality, streaming, and the interface that it shares."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from speechlm_lab.codec import Codec, SpectralLoss, StridedCodec, StridedConfig
from speechlm_lab.codec.streaming import ACTIVATIONS, Conv, Snake, UpConv, with_past
from speechlm_lab.codec.strided import Encoder, ResidualUnit
from speechlm_lab.quantize import VQConfig

HOP = 12
SIZES = {
    "strides": (3, 4), "widths": (4, 8, 8), "units": (1, 2, 1), "kernel": 3,
    "latent": 8, "codebooks": 3, "codebook_size": 16,
}  # fmt: skip


def noise(batch=2, samples=20 * HOP, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, samples, generator=generator)


def make(**changes):
    torch.manual_seed(0)
    return StridedCodec(StridedConfig(**SIZES | changes)).eval()


@pytest.fixture(params=["leaky", "elu", "snake"])
def causal(request):
    return make(causal=True, activation=request.param)


@pytest.fixture
def centred():
    return make()


def cut(x, sizes, dim):
    """`x` along `dim` in blocks of these sizes, over and over."""
    blocks, at, i = [], 0, 0
    while at < x.shape[dim]:
        size = min(sizes[i % len(sizes)], x.shape[dim] - at)
        blocks.append(x.narrow(dim, at, size))
        at, i = at + size, i + 1
    return blocks


# --- causality


def test_codes_do_not_depend_on_later_sound(causal):
    wave = noise()
    for at in (5 * HOP, 5 * HOP + 1, 6 * HOP - 1):
        changed = wave.clone()
        changed[:, at:] = noise(seed=1)[:, at:]
        before, after = causal.latents(wave), causal.latents(changed)
        assert torch.equal(before[:, :5], after[:, :5])
        assert not torch.allclose(before[:, 5], after[:, 5]), "a frame hears its end"


def test_sound_does_not_depend_on_later_codes(causal):
    codes = causal.encode(noise())
    changed = codes.clone()
    changed[:, :, 5:] = (changed[:, :, 5:] + 1) % 16
    before, after = causal.decode(codes), causal.decode(changed)
    assert torch.equal(before[:, : 5 * HOP], after[:, : 5 * HOP])
    assert not torch.isclose(before[:, 5 * HOP], after[:, 5 * HOP]).all()


def reach(codec):
    """First and last sample in and after frame 10 that have a part in its sound."""
    wave = noise(1).requires_grad_()
    codec(wave, quantize=False).wave[:, 10 * HOP : 11 * HOP].sum().backward()
    touched = wave.grad[0].nonzero().flatten()
    return touched.min().item(), touched.max().item()


def test_the_gradient_shows_who_looks_ahead(causal, centred):
    first, last = reach(causal)
    assert first < 10 * HOP and last == 11 * HOP - 1
    first, last = reach(centred)
    assert first < 10 * HOP and last >= 11 * HOP


# --- layers


@pytest.mark.parametrize("dilation", [1, 3])
def test_a_centred_convolution_is_that_of_torch(dilation):
    layer = Conv(3, 5, 7, dilation=dilation, causal=False)
    same = nn.Conv1d(3, 5, 7, padding=3 * dilation, dilation=dilation, bias=False)
    same.load_state_dict(layer.conv.state_dict())
    x = torch.randn(2, 3, 40)
    assert torch.allclose(layer(x, {}), same(x), atol=1e-6)


@pytest.mark.parametrize("stride", [2, 4])
def test_a_centred_transposed_convolution_is_that_of_torch(stride):
    layer = UpConv(3, 5, stride, act="elu", causal=False)
    same = nn.ConvTranspose1d(3, 5, 2 * stride, stride, stride // 2, bias=False)
    same.load_state_dict(layer.conv.state_dict())
    x = torch.randn(2, 3, 40)
    assert torch.allclose(layer(x, {}), same(nn.functional.elu(x)), atol=1e-6)


def test_a_causal_transposed_convolution_only_loses_its_end():
    layer = UpConv(3, 5, 4, act="elu", causal=True)
    x = torch.randn(2, 3, 10)
    full = layer.conv(nn.functional.elu(x))
    assert full.shape[2] == 44
    assert torch.allclose(layer(x, {}), full[..., :40], atol=1e-6)


def whole_numbers(layer):
    """Small integers for weights: float32 then adds without rounding, in any order."""
    with torch.no_grad():
        for value in layer.parameters():
            value.copy_(torch.randint(-3, 4, value.shape))
    return layer


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    stride=st.integers(1, 5),
    dilation=st.integers(1, 4),
)
@settings(deadline=None, max_examples=40)
def test_blocks_are_the_whole_bit_for_bit_where_sums_are_exact(sizes, stride, dilation):
    x = torch.randint(-9, 10, (2, 3, 40 * stride)).float()
    down = Conv(3, 4, 2 * stride + 1, stride=stride, dilation=dilation, causal=True)
    up = UpConv(3, 4, stride, act="elu", causal=True)
    up.activation = nn.Identity()
    for layer, unit in ((whole_numbers(down), stride), (whole_numbers(up), 1)):
        memory = {}
        blocks = cut(x, [size * unit for size in sizes], dim=2)
        parts = [layer(block, memory) for block in blocks]
        assert torch.equal(torch.cat(parts, dim=2), layer(x, {}))


def test_the_past_is_kept_and_nothing_else():
    layer, memory = nn.Identity(), {}
    first = with_past(layer, torch.tensor([[[1.0, 2.0, 3.0]]]), 2, memory)
    assert first.tolist() == [[[0, 0, 1, 2, 3]]]
    second = with_past(layer, torch.tensor([[[4.0]]]), 2, memory)
    assert second.tolist() == [[[2, 3, 4]]]
    assert memory[layer].tolist() == [[[3, 4]]]
    assert memory[layer].untyped_storage().nbytes() == 2 * 4, "not a view of the block"


def test_snake_is_as_defined():
    snake = Snake(3).double()
    torch.nn.init.normal_(snake.log_a)
    x = torch.randn(2, 3, 50, dtype=torch.double)
    a = snake.log_a.exp()
    assert torch.allclose(snake(x), x + torch.sin(a * x).square() / a)
    assert torch.equal(snake(0 * x), 0 * x)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_new_weights_make_up_for_what_the_activation_does_to_the_level(act):
    torch.manual_seed(0)
    layer = Conv(64, 256, 7, act=act, causal=True)
    power = layer(torch.randn(4, 64, 400), {}).square().mean().item()
    assert power == pytest.approx(1, abs=0.06)


def test_a_zeroed_unit_is_the_identity():
    unit = ResidualUnit(4, 7, 3, act="snake", causal=True)
    nn.init.zeros_(unit.point.conv.weight)
    x = torch.randn(2, 4, 30)
    assert torch.equal(unit(x, {}), x)


# --- streaming


@given(
    sizes=st.lists(st.integers(1, 3 * HOP), min_size=1, max_size=5),
    frames=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    samples=st.integers(1, 20 * HOP),
)
@settings(deadline=None, max_examples=40)
def test_a_stream_says_what_the_codec_says(sizes, frames, samples):
    codec = make(causal=True)
    wave = noise(samples=samples)
    codes = codec.encode(wave)
    stream = codec.stream()
    parts = [stream.encode(block) for block in cut(wave, sizes, dim=1)]
    parts.append(stream.finish())
    assert torch.equal(torch.cat(parts, dim=2), codes)
    blocks = cut(codes, frames, dim=2)
    said = torch.cat([stream.decode(block) for block in blocks], dim=1)
    # the same sums, but in another order
    assert torch.allclose(said, codec.decode(codes), rtol=1e-5, atol=1e-6)


def test_only_rounding_parts_stream_and_codec(causal):
    codec = causal.double()
    wave = noise().double()
    stream = codec.stream()
    for i, block in enumerate(cut(wave, [HOP], dim=1)):
        codes = stream.encode(block)
        assert torch.equal(codes, codec.encode(wave)[:, :, i : i + 1])
        said = stream.decode(codes)
        whole = codec.decode(codec.encode(wave))[:, i * HOP : (i + 1) * HOP]
        assert (said - whole).abs().max() < 1e-13


def test_each_frame_is_coded_as_soon_as_it_is_complete(causal):
    stream = causal.stream()
    assert stream.encode(noise(samples=HOP - 1)).shape == (2, 3, 0)
    assert stream.encode(noise(samples=1)).shape == (2, 3, 1)
    assert stream.encode(noise(samples=2 * HOP + 1)).shape == (2, 3, 2)
    assert stream.finish().shape == (2, 3, 1)


def test_a_stream_that_ends_with_a_frame_leaves_nothing(causal):
    stream = causal.stream()
    stream.encode(noise(samples=2 * HOP))
    assert stream.finish().shape == (2, 3, 0)
    assert stream.decode(torch.zeros(2, 3, 0, dtype=torch.long)).shape == (2, 0)


def test_streams_of_one_codec_do_not_touch(causal):
    waves = noise(), noise(seed=1)
    streams = causal.stream(), causal.stream()
    parts = [[], []]
    for at in range(0, 20 * HOP, HOP):
        for wave, stream, part in zip(waves, streams, parts, strict=True):
            part.append(stream.encode(wave[:, at : at + HOP]))
    for wave, part in zip(waves, parts, strict=True):
        assert torch.equal(torch.cat(part, dim=2), causal.encode(wave))


def test_a_stream_may_use_fewer_levels(causal):
    codes = causal.encode(noise())
    said = causal.stream().decode(codes, levels=2)
    assert torch.allclose(said, causal.decode(codes, levels=2), atol=1e-6)


# --- the codec


@given(samples=st.integers(1, 5 * HOP), looks_ahead=st.booleans())
@settings(deadline=None, max_examples=30)
def test_any_length_goes_through(samples, looks_ahead):
    codec = make(causal=not looks_ahead)
    wave = noise(samples=samples)
    codes = codec.encode(wave)
    frames = -(-samples // HOP)
    assert codes.shape == (2, 3, frames) and codes.dtype == torch.long
    assert codec.decode(codes).shape == (2, frames * HOP)
    assert codec.decode(codes, length=samples).shape == wave.shape
    assert codec(wave).wave.shape == wave.shape


@pytest.mark.parametrize("looks_ahead", [True, False])
def test_the_gradient_reaches_every_parameter(looks_ahead):
    vq = VQConfig(update="gradient", code_width=4)
    codec = make(causal=not looks_ahead, activation="snake", dropout=0.0, vq=vq)
    wave = noise()
    out = codec.train()(wave)
    (SpectralLoss()(out.wave, wave) + out.commitment).backward()
    without = [
        name
        for name, p in codec.named_parameters()
        if p.grad is None or not p.grad.any()
    ]
    assert not without
    assert len(codec.quantizer.levels) == 3


def test_it_has_all_that_a_codec_has():
    public = {name for name in dir(Codec) if not name.startswith("_")}
    assert public <= set(dir(StridedCodec))
    codec = StridedCodec()
    assert (codec.sample_rate, codec.hop, codec.frame_rate) == (16_000, 320, 50)
    assert codec.config.hop == 320
    assert codec.bitrate() == 50 * 8 * 9
    assert codec.bitrate(levels=1) == 450


def test_a_start_places_every_codebook(centred):
    before = [level.codebook.clone() for level in centred.quantizer.levels]
    centred.start(noise(4), torch.Generator().manual_seed(0))
    for level, old in zip(centred.quantizer.levels, before, strict=True):
        assert not torch.isclose(level.codebook, old).any()


def test_what_is_decoded_stays_in_bounds(causal):
    with torch.no_grad():
        causal.decoder.layers[-1].conv.weight.mul_(1e4)
    codes = causal.encode(noise())
    assert causal.decode(codes).abs().max() == 1
    assert torch.allclose(causal.stream().decode(codes), causal.decode(codes))


def test_forward_agrees_with_encode_and_decode(centred):
    wave = noise()
    out = centred(wave)
    assert torch.equal(out.codes, centred.encode(wave))
    assert torch.allclose(out.wave, centred.decode(out.codes), atol=1e-6)


def test_unquantized_passes_by_the_quantizer(centred):
    wave = noise()
    free = centred(wave, quantize=False)
    assert free.codes is None and free.commitment == 0
    assert torch.equal(free.wave, centred.decoder(centred.latents(wave)))
    assert not torch.allclose(free.wave, centred(wave).wave)


def test_without_biases_a_gain_stays_a_gain(centred):
    wave = noise()
    loud = centred(4 * wave, quantize=False).wave
    assert torch.allclose(loud, 4 * centred(wave, quantize=False).wave, rtol=1e-4)


def test_items_of_a_batch_do_not_touch(causal):
    wave = noise(3)
    alone = torch.cat([causal.encode(w[None]) for w in wave])
    assert torch.equal(causal.encode(wave), alone)


def test_new_weights_keep_speech_at_its_level():
    torch.manual_seed(0)
    codec = StridedCodec()
    wave = noise(2, 16_000)
    assert 0.1 < codec.latents(wave).std() < 10
    assert 0.003 < codec(wave, quantize=False).wave.std() < 1


@pytest.mark.parametrize("looks_ahead", [True, False])
def test_it_saves_and_loads(tmp_path, looks_ahead):
    vq = VQConfig(update="gradient", code_width=4, by_direction=True)
    codec = make(causal=not looks_ahead, activation="snake", vq=vq, dropout=0.2)
    codec.save_pretrained(tmp_path)
    loaded = StridedCodec.from_pretrained(tmp_path).eval()
    assert loaded.config == codec.config
    codes = codec.encode(noise())
    assert torch.equal(loaded.encode(noise()), codes)
    assert torch.equal(loaded.decode(codes), codec.decode(codes))


@pytest.mark.parametrize("looks_ahead", [True, False])
def test_it_learns_two_tones(looks_ahead):
    torch.manual_seed(0)
    sizes = {"strides": (4, 4, 5), "widths": (4, 8, 16, 16), "units": (0, 1, 1, 1)}
    config = StridedConfig(**SIZES | sizes, causal=not looks_ahead)
    codec, loss = StridedCodec(config), SpectralLoss()
    time = torch.arange(3_200) / 16_000
    tones = torch.stack([0.2 * torch.sin(6.2832 * f * time) for f in (300, 3_000)])
    optimizer = torch.optim.Adam(codec.parameters(), 1e-2)
    for step in range(100):
        if step == 50:
            codec.start(tones, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        out = codec(tones, quantize=step >= 50)
        (loss(out.wave, tones) + 0.25 * out.commitment).backward()
        optimizer.step()
    codec.eval()
    decoded = codec.decode(codec.encode(tones))
    assert loss(decoded, tones) < 0.7 * loss(decoded, tones.flip(0))


# --- what is refused


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (torch.zeros(320), r"wave\[None\]"),
        (torch.zeros(1, 0), "T > 0"),
        (torch.zeros(1, 320, dtype=torch.int16), "float"),
    ],
)
def test_bad_waves_are_refused(causal, wave, message):
    with pytest.raises(ValueError, match=message):
        causal.encode(wave)
    with pytest.raises(ValueError, match=message):
        causal.stream().encode(wave)


def test_what_the_codes_do_not_hold_is_refused(causal):
    codes = causal.encode(noise(samples=2 * HOP))
    for length in (0, 2 * HOP + 1):
        with pytest.raises(ValueError, match=f"from 1 to that, not {length}"):
            causal.decode(codes, length=length)
    with pytest.raises(ValueError, match=r"levels must lie in 1\.\.3"):
        causal.decode(codes, levels=4)
    with pytest.raises(ValueError, match=r"levels must lie in 1\.\.3"):
        causal.bitrate(levels=0)


def test_streams_say_what_to_do_instead(causal, centred):
    with pytest.raises(ValueError, match="causal=True"):
        centred.stream()
    stream = causal.stream()
    with pytest.raises(ValueError, match=r"encode\(block\) before"):
        stream.finish()
    stream.encode(noise())
    with pytest.raises(ValueError, match="start another stream"):
        stream.encode(noise(3))
    stream.finish()
    with pytest.raises(ValueError, match="start another stream"):
        stream.encode(noise())
    stream.decode(causal.encode(noise()))
    with pytest.raises(ValueError, match="start another stream"):
        stream.decode(causal.encode(noise(3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (4, 8)}, "give 3 widths and units"),
        ({"units": (1,)}, "give 3 widths and units"),
        ({"strides": (1, 12)}, "strides must be 2 or more"),
        ({"strides": (), "widths": (4,), "units": (1,)}, "strides must be 2 or more"),
        ({"units": (1, -1, 1)}, "units"),
        ({"kernel": 4}, "odd"),
        ({"activation": "relu"}, r"one of \('leaky', 'elu', 'snake'\)"),
    ],
)
def test_bad_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        StridedConfig(**SIZES | changes)


def test_the_encoder_needs_no_memory():
    encoder = Encoder(StridedConfig(**SIZES, causal=True))
    wave = noise()
    assert torch.equal(encoder(wave), encoder(wave, {}))
