"""Real codecs behind our two verbs: small random models of each class, no network."""

import math
import pickle
import warnings

import huggingface_hub.constants
import numpy as np
import pytest
import requests
import torch
from safetensors.torch import load_file, save_file

from speechlm_lab.audio import AudioError
from speechlm_lab.codec.adapters import (
    CodecUnavailable,
    DacAdapter,
    EncodecAdapter,
    MimiAdapter,
    XcodecAdapter,
    load_codec,
)
from speechlm_lab.codec.descript import (
    DescriptAdapter,
    import_dac,
    load_descript,
    read_dac,
)

# transformers' codecs import torchaudio, which the adapters see to
from transformers import (  # isort: skip
    BertConfig,
    DacConfig,
    DacModel,
    EncodecConfig,
    EncodecModel,
    MimiConfig,
    MimiModel,
    XcodecConfig,
    XcodecModel,
)

DAC_SIZES = {"n_codebooks": 3, "codebook_size": 64}
ENCODEC_SIZES = {
    "hidden_size": 16,
    "num_filters": 4,
    "upsampling_ratios": [5, 4, 2],
    "codebook_size": 64,
    "num_lstm_layers": 1,
    "target_bandwidths": [3.6, 10.8],  # 600 frames/s of 6 bits: 1 and 3 levels
}


def small_descript():
    return import_dac().DAC(
        encoder_dim=8,
        encoder_rates=[2, 4, 5],
        decoder_dim=32,
        decoder_rates=[5, 4, 2],
        sample_rate=8_000,
        **DAC_SIZES,
    )


def small_dac():
    return DacModel(
        DacConfig(
            encoder_hidden_size=8,
            decoder_hidden_size=32,
            downsampling_ratios=[2, 4, 5],
            **DAC_SIZES,
        )
    )


def small_mimi():
    return MimiModel(
        MimiConfig(
            hidden_size=16,
            num_filters=4,
            upsampling_ratios=[5, 4],
            codebook_size=64,
            codebook_dim=8,
            vector_quantization_hidden_dimension=8,
            num_quantizers=4,
            num_hidden_layers=1,
            intermediate_size=32,
            num_attention_heads=2,
            num_key_value_heads=2,
            upsample_groups=16,
        )
    )


def small_xcodec():
    return XcodecModel(
        XcodecConfig(
            codebook_size=64,
            target_bandwidths=[0.3, 0.9],  # 50 frames/s of 6 bits: 1 and 3 levels
            acoustic_model_config={"encoder_hidden_size": 4, "decoder_hidden_size": 32},
            semantic_model_config={
                "hidden_size": 16,
                "conv_dim": [8] * 7,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "num_conv_pos_embeddings": 4,
                "num_conv_pos_embedding_groups": 2,
            },
        )
    )


# name: (adapter, model, sample rate, hop, levels)
CASES = {
    "descript": (DescriptAdapter, small_descript, 8_000, 40, 3),
    "dac": (DacAdapter, small_dac, 16_000, 40, 3),
    "encodec": (
        EncodecAdapter,
        lambda: EncodecModel(EncodecConfig(**ENCODEC_SIZES)),
        24_000,
        40,
        3,
    ),
    "mimi": (MimiAdapter, small_mimi, 24_000, 40, 4),
    "xcodec": (XcodecAdapter, small_xcodec, 16_000, 320, 3),
}


def build(name):
    torch.manual_seed(0)
    adapter, model, *_ = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # descript's weight_norm
        model = model().eval()
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith(("embed", "embed_sum")):
            buffer.normal_(std=0.02)  # these codebooks start as zeros
    if name == "encodec":  # its latents lie so close that all would get one code
        with torch.no_grad():
            latents = model.encoder(noise(64 * 40, 1)[:, None])[0].T
        model.quantizer.layers[0].codebook.embed.copy_(latents)
    return adapter(model)


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    return request.param, build(request.param)


@pytest.fixture(scope="module")
def descript():
    return build("descript")


def noise(samples=16_001, batch=2):
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(batch, samples, generator=generator)


def directly(name, model, wave):
    """Codes of `wave`, and the wave of these, by the library's own calls."""
    x = wave[:, None]
    with torch.no_grad():
        if name == "descript":
            latents, codes, *_ = model.encode(x)
            return codes, model.decode(latents)[:, 0]
        if name == "dac":
            out = model(x)
            return out.audio_codes, out.audio_values
        if name == "encodec":
            out = model(x, bandwidth=10.8)
            return out.audio_codes[0], out.audio_values[:, 0]
        out = model(x)
        return out.audio_codes, out.audio_values[:, 0]


def test_sizes_and_bit_rate_are_those_of_the_configuration(case):
    name, codec = case
    *_, sample_rate, hop, levels = CASES[name]
    assert (codec.sample_rate, codec.hop) == (sample_rate, hop)
    assert codec.frame_rate == sample_rate / hop
    assert codec.bitrate() == levels * 6 * sample_rate / hop  # 64 entries: 6 bits
    assert codec.bitrate(1) == 6 * sample_rate / hop


@pytest.mark.parametrize("frames", [0.01, 1, 7.5, 20])
def test_any_length_comes_back(case, frames):
    _, codec = case
    wave = noise(math.ceil(frames * codec.hop))
    codes = codec.encode(wave)
    assert codes.dtype == torch.int64
    assert codes.shape == (2, codec.codebooks, math.ceil(frames))
    assert codec.decode(codes).shape == (2, math.ceil(frames) * codec.hop)
    assert codec.decode(codes, length=wave.shape[1]).shape == wave.shape


def test_codes_and_waves_are_the_library_s_own(case):
    name, codec = case
    wave = noise(50 * codec.hop)
    codes, decoded = directly(name, codec.model, wave)
    assert len(codes.unique()) > 5
    assert torch.equal(codec.encode(wave), codes)
    ours = codec.decode(codes)[:, : decoded.shape[1]]
    assert torch.allclose(ours, decoded.clamp(-1, 1), atol=1e-5)
    assert ours.abs().max() > 0


def test_each_wave_of_a_batch_is_coded_alone(case):
    _, codec = case
    wave = noise(30 * codec.hop)
    both = codec.encode(wave)
    assert torch.equal(codec.encode(wave[1:]), both[1:])


def test_levels_are_the_first_codebooks(case):
    _, codec = case
    codes = codec.encode(noise(20 * codec.hop))
    fewer = codec.decode(codes, levels=2)
    assert torch.equal(fewer, codec.decode(codes[:, :2]))
    assert not torch.equal(fewer, codec.decode(codes))
    other = codes.clone()
    other[:, 2:] = (other[:, 2:] + 1) % 64
    assert torch.equal(fewer, codec.decode(other, levels=2))


def test_bad_input_is_refused(case):
    _, codec = case
    codes = torch.zeros(1, codec.codebooks, 2, dtype=torch.long)
    for wave, words in (
        (noise()[0], r"needs wave\[None\]"),
        (noise()[:, :0], "T > 0"),
        (torch.zeros(1, 99, dtype=torch.int16), "full scale"),
        (noise().numpy(), "as_tensor"),
        (noise() / 0, "repair"),
        (noise() * 30_000, "32768"),
    ):
        with pytest.raises(ValueError, match=words):
            codec.encode(wave)
    for bad in (codes[0], codes[..., :0], codes.float()):
        with pytest.raises(ValueError, match=r"integers \[B, K, F\]"):
            codec.decode(bad)
    for bad in (codes + 64, codes - 1, codes.repeat(1, 2, 1)):
        with pytest.raises(ValueError, match="another codec"):
            codec.decode(bad)
    for levels in (0, codec.codebooks + 1):
        with pytest.raises(ValueError, match="levels must be from 1"):
            codec.decode(codes, levels=levels)
        with pytest.raises(ValueError, match="levels must be from 1"):
            codec.bitrate(levels)
    for length in (0, 2 * codec.hop + 1):
        with pytest.raises(ValueError, match=f"hold {2 * codec.hop} samples"):
            codec.decode(codes, length=length)


@pytest.mark.parametrize(
    "options", [{"audio_channels": 2}, {"normalize": True}, {"chunk_length_s": 1.0}]
)
def test_an_encodec_whose_codes_are_not_all_is_refused(options):
    model = EncodecModel(EncodecConfig(**ENCODEC_SIZES, **options))
    with pytest.raises(ValueError, match="use the 24 kHz model"):
        EncodecAdapter(model)


@pytest.mark.parametrize("name", ["dac", "encodec", "mimi", "xcodec"])
def test_a_saved_folder_loads_as_the_same_codec(name, tmp_path):
    codec = build(name)
    codec.model.save_pretrained(tmp_path)
    loaded = load_codec(tmp_path)
    assert type(loaded) is type(codec)
    wave = noise(10 * codec.hop)
    assert torch.equal(loaded.encode(wave), codec.encode(wave))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CodecUnavailable, match="model.safetensors"):
        load_codec(tmp_path)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    build("mimi").model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    lost = min(name for name in weights if name.startswith("decoder."))
    del weights[lost]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(CodecUnavailable, match="lacks 1 of its weights"):
        load_codec(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CodecUnavailable, match="give the folder"):
        load_codec(tmp_path)


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for source in (tmp_path, tmp_path / "absent", "kyutai/mimi-not-in-any-cache"):
        with pytest.raises(CodecUnavailable, match="give the folder") as caught:
            load_codec(source)
        assert "\n" not in str(caught.value)
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'bert' model; there are adapters for dac"):
        load_codec(tmp_path)


# Descript's own package


def test_importing_dac_leaves_the_warnings_as_they_were():
    before = list(warnings.filters)
    assert import_dac().DAC
    assert warnings.filters == before


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_descript_weights_load_without_a_pickle_s_dangers(descript, tmp_path):
    path = tmp_path / "weights.pth"
    descript.model.save(path, package=False)
    loaded = load_descript(path)
    wave = noise(400)
    codes = descript.encode(wave)
    assert torch.equal(loaded.encode(wave), codes)
    assert torch.equal(loaded.decode(codes), descript.decode(codes))


class Trap:
    """Unpickling it would be seen."""

    sprung = []

    def __reduce__(self):
        return Trap.sprung.append, (1,)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_descript_weights_with_code_in_them_need_a_word(descript, tmp_path):
    path = tmp_path / "weights.pth"
    descript.model.save(path, package=False)
    saved = torch.load(path)
    saved["metadata"]["date"] = np.datetime64("2023-06-01")
    torch.save(saved, path)
    with pytest.raises(ValueError, match="pass allow_pickle=True"):
        load_descript(path)
    assert load_descript(path, allow_pickle=True).codebooks == 3


def test_files_without_descript_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(CodecUnavailable, match="there is no file"):
        load_descript(path)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="is no .pth file"):
        load_descript(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match="no weights of descript-audio-codec"):
        load_descript(path)


def test_descript_s_downloader_offline_says_what_to_do(tmp_path, monkeypatch):
    def get(*_, **__):
        raise requests.ConnectionError("offline")

    monkeypatch.setattr(requests, "get", get)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CodecUnavailable, match="give the path of the .pth file"):
        load_descript("16khz")


@pytest.mark.parametrize("samples", [5500, 13_000])  # in one piece, and in two
def test_dac_files_agree_with_the_package_s_own_reader(descript, tmp_path, samples):
    wave = noise(samples, 1)[0]
    path = descript.save_file(wave, tmp_path / "a.dac", 11_025)
    assert torch.equal(read_dac(path).codes, import_dac().DACFile.load(path).codes)
    decoded, rate = descript.load_file(path)
    assert rate == 11_025
    assert decoded.shape == wave.shape
    expected = descript.model.decompress(path).audio_data[0, 0]
    assert torch.allclose(decoded, expected.clamp(-1, 1), atol=1e-6)
    assert descript.model.padding


def test_dac_files_keep_their_length_where_the_package_s_reader_fails(
    descript, tmp_path
):
    path = descript.save_file(noise(5512, 1)[0], tmp_path / "a.dac", 11_025)
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        descript.model.decompress(path)
    assert descript.load_file(path)[0].shape == (5512,)


def test_dac_files_hold_the_levels_asked_for(descript, tmp_path):
    path = descript.save_file(noise(4000, 1)[0], tmp_path / "a.dac", 8_000, levels=2)
    assert read_dac(path).codes.shape[1] == 2
    with pytest.raises(ValueError, match="levels"):
        descript.save_file(noise(4000, 1)[0], tmp_path / "a.dac", 8_000, levels=4)
    with pytest.raises(ValueError, match="must end in .dac"):
        descript.save_file(noise(4000, 1)[0], tmp_path / "a.wav", 8_000)


def test_damaged_and_foreign_dac_files_are_refused(descript, tmp_path):
    path = descript.save_file(noise(4000, 1)[0], tmp_path / "a.dac", 8_000)
    whole = path.read_bytes()
    for part in (b"", b"RIFF", whole[:60], whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(AudioError, match="no .dac file of version"):
            descript.load_file(path)
    loudness = torch.tensor([-20.0])
    codes = torch.full((1, 3, 4), 64)
    other = import_dac().DACFile(codes, 4, 160, loudness, 1, 8_000, True, "1.0.0")
    with pytest.raises(AudioError, match="another codec"):
        descript.load_file(other.save(path))


def test_a_dac_file_with_code_in_it_runs_nothing(tmp_path):
    path = tmp_path / "trap.dac"
    with open(path, "wb") as stream:
        np.save(stream, {"codes": Trap(), "metadata": {}}, allow_pickle=True)
    with pytest.raises(AudioError, match="no .dac file"):
        read_dac(path)
    assert Trap.sprung == []
    data = path.read_bytes()
    pickle.loads(data[data.index(b"\x80") :])  # the trap works: see it spring
