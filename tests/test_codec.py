"""The toy codec: spectra, encode and decode, losses."""

import copy
from dataclasses import replace

import librosa
import numpy as np
import pytest
import torch

from speechlm_lab.codec import Codec, CodecConfig, SpectralLoss
from speechlm_lab.codec.blocks import ConvNeXtBlock, Spectra
from speechlm_lab.codec.config import OCTAVE
from speechlm_lab.codec.decoder import Controls
from speechlm_lab.codec.encoder import Encoder
from speechlm_lab.codec.losses import SCALES
from speechlm_lab.codec.voice import loudness
from speechlm_lab.corpus import tiny_voices
from speechlm_lab.recipes import CodecRecipe

SMALL = CodecConfig(
    width=16, fine_width=12, encoder_layers=1, decoder_layers=1, fine_layers=1,
    spectrum=8, codebooks=3, codebook_size=16,
)  # fmt: skip
TAUGHT = replace(SMALL, semantic=4)


def noise(batch=2, samples=3_200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, samples, generator=generator)


@pytest.fixture
def codec():
    torch.manual_seed(0)
    return Codec(SMALL).eval()


def test_spectra_agree_with_librosa():
    wave = noise(1, 1_600)
    ours = Spectra(640, 160)(wave)[0]
    padded = np.pad(wave[0].numpy(), 240)
    theirs = librosa.stft(padded, n_fft=640, hop_length=160, center=False)
    assert ours.shape == (321, 10)
    assert np.allclose(ours.numpy(), theirs, atol=1e-4)


@pytest.mark.parametrize(("window", "hop"), [(640, 160), (512, 128), (640, 320)])
def test_spectra_are_inverted(window, hop):
    wave = noise(2, 10 * hop)
    spectra = Spectra(window, hop)
    assert torch.allclose(spectra.inverse(spectra(wave)), wave, atol=1e-5)


def test_a_zeroed_block_is_the_identity():
    block = ConvNeXtBlock(16)
    torch.nn.init.zeros_(block.scale)
    x = torch.randn(2, 16, 9)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 3_200, 5_000])
def test_any_length_goes_through(codec, samples):
    wave = noise(2, samples)
    codes = codec.encode(wave)
    frames = -(-samples // 320)
    assert codes.shape == (2, 3, frames)
    assert codec.decode(codes).shape == (2, frames * 320)
    assert codec.decode(codes, length=samples).shape == wave.shape
    assert codec(wave).wave.shape == wave.shape


def test_forward_agrees_with_encode_and_decode(codec):
    wave = noise()
    out = codec(wave)
    assert torch.equal(out.codes, codec.encode(wave))
    assert torch.equal(out.codes[:, :2], codec.encode(wave, levels=2))
    assert torch.allclose(out.wave, codec.decode(out.codes), atol=1e-6)


def test_unquantized_passes_by_the_quantizer(codec):
    wave = noise()
    free = codec(wave, quantize=False)
    assert free.codes is None
    assert free.commitment == 0
    straight = codec.decoder(codec.latents(wave))
    assert torch.allclose(free.wave, straight[:, : wave.shape[1]], atol=1e-6)
    assert not torch.allclose(free.wave, codec(wave).wave)


def test_levels_are_the_first_codebooks(codec):
    codes = codec.encode(noise())
    assert torch.equal(codec.decode(codes, levels=2), codec.decode(codes[:, :2]))
    assert not torch.equal(codec.decode(codes, levels=2), codec.decode(codes))


def test_items_of_a_batch_do_not_touch(codec):
    wave = noise(3)
    together = codec.encode(wave)
    alone = torch.cat([codec.encode(w[None]) for w in wave])
    assert torch.equal(together, alone)


def test_the_encoder_hears_loudness_and_pitch():
    encoder = Encoder(SMALL)
    time = torch.arange(3_200) / 16_000

    def hear(frequency, gain=0.1):
        wave = gain * torch.sin(2 * np.pi * frequency * time)[None]
        mel, voice = encoder.features(wave)
        return mel, voice.octaves[0, 10].item()

    base, pitch = hear(220)
    louder = hear(220, 0.2)[0] - base
    middle = louder[0, 5:15, base[0, 10].argmax()]
    assert torch.allclose(middle, 1.6 * torch.full((10,), 2.0).log10(), atol=1e-3)
    higher, octave_up = hear(440)
    assert higher[0, 10].argmax() > base[0, 10].argmax()
    assert pitch == pytest.approx(np.log2(2.2), abs=0.02)
    assert octave_up - pitch == pytest.approx(1, abs=0.02)


def test_each_level_listens_to_its_part():
    weights = TAUGHT.weights()
    spectrum, voice, semantic = TAUGHT.split(weights)
    assert weights.shape == (3, 8 + 4 + 4)
    assert semantic[0].all() and not semantic[1:].any()
    assert not voice[0].any() and voice[1:].all()
    assert not spectrum[1].any() and spectrum[2].all()
    assert SMALL.split(SMALL.weights())[0][0].all()


def test_gradients_reach_everything():
    torch.manual_seed(0)
    codec = Codec(TAUGHT)
    out = codec(noise())
    assert out.phones.shape == (2, 10, TAUGHT.phones)
    total = out.wave.abs().mean() + out.commitment + out.detuned + out.phones.mean()
    total.backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert codec.encoder.out.weight.grad.abs().sum(1).all(), "each latent dimension"


@pytest.mark.parametrize("level", range(3))
def test_gradients_reach_the_encoder_from_every_level(level):
    torch.manual_seed(0)
    codec = Codec(TAUGHT)
    latents = codec.latents(noise())
    codes = codec.quantizer.encode(latents)
    residual = latents
    for earlier in range(level):
        residual = residual - codec.quantizer.levels[earlier].decode(codes[:, earlier])
    step = codec.quantizer.levels[level].pass_through(residual, codes[:, level])
    step.square().mean().backward()
    assert codec.encoder.out.weight.grad.abs().sum() > 0


def test_phones_are_read_off_the_first_code():
    torch.manual_seed(0)
    codec = Codec(TAUGHT).eval()
    out = codec(noise())
    chosen = codec.quantizer.levels[0].decode(out.codes[:, 0])
    expected = codec.phones(TAUGHT.split(chosen)[2])
    assert torch.allclose(out.phones, expected, atol=1e-5)


def test_started_its_latents_are_principal_components(codec):
    wave = noise(4)
    codec.start(wave, torch.Generator().manual_seed(0))
    mel, voice = codec.encoder.features(wave)
    plain = codec.encoder.basis(mel.reshape(4, 10, -1))
    spectrum = SMALL.split(codec.encoder(mel, voice))[0]
    assert torch.allclose(spectrum, plain, atol=1e-6)


def test_a_seed_fixes_a_start(codec):
    other = copy.deepcopy(codec)
    for each in (codec, other):
        each.start(noise(4), torch.Generator().manual_seed(0))
    for name, value in codec.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_started_it_already_speaks():
    """Principal components, source and filter, and no step of training."""
    torch.manual_seed(0)
    words = "The quick brown fox jumps over the lazy dog, and runs away."
    wave = tiny_voices.speak(words, speaker=1).wave
    wave = wave[: len(wave) // 3_200 * 3_200]
    config = replace(SMALL, spectrum=24, codebooks=8, codebook_size=64)
    codec, loss = Codec(config).eval(), SpectralLoss()
    codec.start(wave.reshape(-1, 3_200), torch.Generator().manual_seed(0))
    decoded = codec.decode(codec.encode(wave[None]))
    shifted = wave.roll(8_000)[None]
    assert loss(decoded, wave[None]) < 0.6 * loss(shifted, wave[None])


def test_the_decoder_filters_pulses_and_noise(codec):
    pitch = torch.full((1, 40), 200.0)
    closed, open_low = torch.full((1, 40, 80), -12.0), torch.full((1, 40, 80), -12.0)
    open_low[..., :40] = -3.0
    decoder = codec.decoder
    free = torch.zeros_like(closed)
    controls = Controls(pitch, open_low, closed, free)
    tone = decoder.render(controls, decoder.start(controls))
    power = torch.fft.rfft(tone[0, 1_600:4_800]).abs().square()  # 5 Hz apart
    harmonics = power[40:400:40].sum()
    assert harmonics > 0.9 * power[20:420].sum()
    assert power[1_000:].sum() < 1e-3 * power.sum(), "nothing where the filter is shut"
    controls = Controls(pitch, closed, open_low, free)
    hiss = decoder.render(controls, decoder.start(controls))
    power = torch.fft.rfft(hiss[0, 1_600:4_800]).abs().square()
    assert power[40:400:40].sum() < 0.1 * power[20:420].sum()


@pytest.mark.parametrize("silent", ["noise", None])
def test_bands_are_held_to_what_was_asked(codec, silent):
    generator = torch.Generator().manual_seed(0)
    pitch = 120 + 40 * torch.rand(1, 60, generator=generator)
    slow = torch.rand(1, 60, 8, generator=generator).repeat_interleave(10, 2)
    filters = {"pulses": -2 - slow, "noise": -2 - slow}
    if silent:
        filters[silent] = torch.full_like(slow, -12.0)
    decoder = codec.decoder
    asked = torch.logaddexp(2 * filters["pulses"], 2 * filters["noise"]) / 2

    def off(hold: float) -> float:
        controls = Controls(pitch, **filters, hold=torch.full_like(slow, hold))
        wave = decoder.render(controls, decoder.start(controls))
        there = loudness(decoder.bank, decoder.spectra(wave)) - decoder.unit[:, None]
        # the ends of a wave are half silence
        return 8.69 * (there.mT - asked)[:, 3:-3].abs().mean().item()  # dB

    assert off(1.0) < 0.8 * off(0.0)
    assert off(0.5) < off(0.0)


def test_training_hears_another_noise_each_time(codec):
    controls = codec.decoder.controls(torch.zeros(2, 6, SMALL.latent))
    begin = codec.decoder.start(controls)
    once, again = (codec.decoder.render(controls, begin) for _ in range(2))
    assert torch.equal(once, again) and torch.equal(once[0], once[1])
    codec.decoder.train()
    torch.manual_seed(0)
    once, again = (codec.decoder.render(controls, begin) for _ in range(2))
    codec.decoder.eval()
    assert not torch.allclose(once[0], once[1])
    assert not torch.allclose(once, again)


def test_a_rendering_goes_on_where_it_stopped(codec):
    generator = torch.Generator().manual_seed(0)
    pitch = 100 + 100 * torch.rand(2, 60, generator=generator)
    filters = -3 - torch.rand(2, 60, 80, generator=generator)
    hold = torch.rand(2, 60, 80, generator=generator)
    whole, decoder = Controls(pitch, filters, filters - 1, hold), codec.decoder
    begin = decoder.start(whole)
    first = Controls(*(c[:, :30] for c in whole))
    rest = Controls(*(c[:, 30:] for c in whole))
    sound = decoder.render(whole, begin)
    again = decoder.render(rest, decoder.after(first, begin))
    # beside the cut, windows reach over it
    assert torch.allclose(again[:, 640:], sound[:, 30 * 160 + 640 :], atol=1e-4)


def test_the_decoder_tunes_to_the_latents(codec):
    latents = torch.zeros(1, 6, SMALL.latent)
    latents[..., 8:10] = OCTAVE  # both pitches of each frame, an octave up
    with torch.no_grad():
        torch.nn.init.zeros_(codec.decoder.head.weight)
        high = codec.decoder.controls(latents).pitch
        low = codec.decoder.controls(torch.zeros_like(latents)).pitch
    assert torch.allclose(high, 2 * low)


def test_decoding_is_repeatable_and_clipped(codec):
    codes = codec.encode(noise())
    assert torch.equal(codec.decode(codes), codec.decode(codes))
    with torch.no_grad():
        codec.decoder.head.bias.fill_(5.0)
    assert codec.decode(codes).abs().max() == 1


def test_bit_rate():
    codec = Codec(CodecConfig(hop=640, codebooks=4))
    assert codec.frame_rate == 25
    assert codec.bitrate() == pytest.approx(25 * 4 * 9)
    assert codec.bitrate(levels=1) == pytest.approx(225)


def test_it_saves_and_loads(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    loaded = Codec.from_pretrained(tmp_path).eval()
    assert loaded.config == SMALL
    codes = codec.encode(noise())
    assert torch.equal(loaded.encode(noise()), codes)
    assert torch.equal(loaded.decode(codes), codec.decode(codes))


def test_the_shipped_size_fits():
    codec = Codec(CodecRecipe().codec)
    floats = sum(t.numel() for t in codec.state_dict().values())
    assert 4 * floats <= 11.15e6, "the package may carry 25 MB with the LM"


def test_the_loss_agrees_with_librosa():
    one, two = noise(1, 8_000), noise(1, 8_000, seed=1)
    expected = []
    for window, bands in SCALES:
        mels = [
            librosa.feature.melspectrogram(
                y=w[0].numpy(), sr=16_000, n_fft=window, hop_length=window // 4,
                n_mels=bands, power=1.0, pad_mode="constant",
            )
            for w in (one, two)
        ]  # fmt: skip
        logs = [np.log10(np.maximum(m, 1e-4)) for m in mels]
        expected.append(np.abs(logs[0] - logs[1]).mean())
    assert SpectralLoss()(one, two).item() == pytest.approx(np.mean(expected), rel=1e-3)


def test_the_loss_counts_a_gain_in_decibels():
    loss, wave = SpectralLoss(), noise()
    assert loss(wave, wave) == 0
    assert loss(wave, 2 * wave).item() == pytest.approx(np.log10(2), rel=1e-3)


def test_the_loss_is_deaf_below_its_floor():
    quiet = 1e-6 * noise()
    assert SpectralLoss()(quiet, 0.5 * quiet) == 0


def test_the_loss_survives_silence():
    wave = torch.zeros(1, 4_000, requires_grad=True)
    SpectralLoss()(wave, noise(1, 4_000)).backward()
    assert wave.grad.isfinite().all()


def test_the_loss_wants_waves_of_one_shape():
    with pytest.raises(ValueError, match="one shape"):
        SpectralLoss()(noise(1), noise(2))


def test_it_learns_two_tones():
    torch.manual_seed(0)
    codec, loss = Codec(SMALL), SpectralLoss()
    time = torch.arange(3_200) / 16_000
    tones = torch.stack([0.2 * torch.sin(2 * np.pi * f * time) for f in (300, 3_000)])
    codec.start(tones, torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(codec.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        out = codec(tones)
        (loss(out.wave, tones) + 0.25 * out.commitment).backward()
        optimizer.step()
    codec.eval()
    decoded = codec.decode(codec.encode(tones))
    assert loss(decoded, tones) < 0.7 * loss(decoded, tones.flip(0))


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (torch.zeros(320), r"wave\[None\]"),
        (torch.zeros(1, 0), "T > 0"),
        (torch.zeros(1, 320, dtype=torch.int16), "float"),
        (torch.zeros(1, 320, dtype=torch.float64), "to\\(torch.float32\\)"),
        (torch.zeros(1, 320).numpy(), "as_tensor"),
        (torch.full((1, 320), torch.nan), "repair"),
        (torch.full((1, 320), 3e4), "32768"),
    ],
)
def test_bad_waves_are_refused(codec, wave, message):
    with pytest.raises(ValueError, match=message):
        codec.encode(wave)


def test_what_the_codes_do_not_hold_is_refused(codec):
    codes = codec.encode(noise(samples=640))
    for length in (0, 641):
        with pytest.raises(ValueError, match=f"from 1 to that, not {length}"):
            codec.decode(codes, length=length)
    with pytest.raises(ValueError, match="hold no frame"):
        codec.decode(codes[..., :0])
    for levels in (0, 4):
        with pytest.raises(ValueError, match=r"levels must lie in 1\.\.3"):
            codec.decode(codes, levels=levels)
        with pytest.raises(ValueError, match=r"levels must lie in 1\.\.3"):
            codec.bitrate(levels=levels)
    with pytest.raises(ValueError, match="integers"):
        codec.decode(codes.float())
    assert torch.equal(codec.decode(codes.short()), codec.decode(codes))


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of fine_hop"):
        CodecConfig(hop=500)
    with pytest.raises(ValueError, match="even number"):
        CodecConfig(window=641)
