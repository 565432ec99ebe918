"""The toy codec: spectra, encode and decode, losses."""

import librosa
import numpy as np
import pytest
import torch

from speechlm_lab.codec import Codec, CodecConfig, SpectralLoss
from speechlm_lab.codec.losses import SCALES
from speechlm_lab.codec.model import ConvNeXtBlock, Encoder, Spectra

SMALL = CodecConfig(
    width=16, fine_width=12, encoder_layers=1, decoder_layers=1, fine_layers=1,
    latent=8, codebooks=3, codebook_size=16,
)  # fmt: skip


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
    assert torch.allclose(out.wave, codec.decode(out.codes), atol=1e-6)


def test_unquantized_passes_by_the_quantizer(codec):
    wave = noise()
    free = codec(wave, quantize=False)
    assert free.codes is None
    assert free.commitment == 0
    assert torch.allclose(free.wave, codec.decoder(codec.latents(wave)), atol=1e-6)
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
        return encoder.features(gain * torch.sin(2 * np.pi * frequency * time)[None])

    base = hear(440)
    louder = hear(440, 0.2) - base
    middle = louder[0, 5:15, base[0, 10].argmax()]
    assert torch.allclose(middle, 1.6 * torch.full((10,), 2.0).log10(), atol=1e-3)
    assert hear(2_000)[0, 10].argmax() > base[0, 10].argmax()


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
    codec = Codec()
    floats = sum(t.numel() for t in codec.state_dict().values())
    assert 4 * floats <= 11e6, "the package may carry 11 MB for it"


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


def test_the_loss_survives_silence():
    wave = torch.zeros(1, 4_000, requires_grad=True)
    SpectralLoss()(wave, noise(1, 4_000)).backward()
    assert wave.grad.isfinite().all()


def test_it_learns_two_tones():
    torch.manual_seed(0)
    codec, loss = Codec(SMALL), SpectralLoss()
    time = torch.arange(3_200) / 16_000
    tones = torch.stack([0.2 * torch.sin(2 * np.pi * f * time) for f in (300, 3_000)])
    optimizer = torch.optim.Adam(codec.parameters(), 1e-2)
    for step in range(120):
        if step == 60:
            latents = codec.latents(tones)
            codec.quantizer.start(latents, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        out = codec(tones, quantize=step >= 60)
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
    ],
)
def test_bad_waves_are_refused(codec, wave, message):
    with pytest.raises(ValueError, match=message):
        codec.encode(wave)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of fine_hop"):
        CodecConfig(hop=500)
    with pytest.raises(ValueError, match="even number"):
        CodecConfig(window=641)
