"""Wave to codes to more codes to wave."""

from dataclasses import replace

import pytest
import torch

from speechlm_lab import layout
from speechlm_lab import speechlm as module
from speechlm_lab.audio import AudioError
from speechlm_lab.codec import Codec, CodecConfig
from speechlm_lab.corpus.text import TextError
from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.speaking import SpeakConfig
from speechlm_lab.speechlm import SpeechLM, prepare_voice
from speechlm_lab.timbre import Timbre

CODEC = CodecConfig(
    width=16, fine_width=12, encoder_layers=1, decoder_layers=1, fine_layers=1,
    spectrum=8, codebooks=3, codebook_size=16,
)  # fmt: skip
LM = LMConfig(codebooks=2, codebook_size=16, width=16, layers=1, heads=2, hidden=16)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SpeechLM(Codec(CODEC), LanguageModel(LM))


@pytest.fixture
def wave():
    return 0.1 * torch.randn(8_100, generator=torch.Generator().manual_seed(0))


def test_it_keeps_the_prompt_and_adds_what_was_asked(model, wave):
    out = model.continue_(wave, seconds=0.5)
    assert out.start == 25 * 320
    assert out.wave.shape == (out.start + 8_000,)
    assert out.codes.shape == (1, 2, 50)
    prompt = model.codec.encode(wave[None, : out.start])[:, :2]
    assert torch.equal(out.codes[..., :25], prompt)
    assert torch.equal(out.wave, model.codec.decode(out.codes)[0])


def test_a_seed_fixes_the_continuation(model, wave):
    one, two = (model.continue_(wave, 0.5, seed=3) for _ in "ab")
    assert torch.equal(one.wave, two.wave)
    other = model.continue_(wave, 0.5, seed=4)
    assert not torch.equal(one.codes, other.codes)


def test_it_loads_from_folders(model, wave, tmp_path):
    model.codec.save_pretrained(tmp_path / "codec")
    model.lm.save_pretrained(tmp_path / "lm")
    loaded = SpeechLM.from_folders(tmp_path / "codec", tmp_path / "lm")
    assert torch.equal(loaded.continue_(wave).wave, model.continue_(wave).wave)


def test_bad_input_is_refused(model, wave):
    with pytest.raises(ValueError, match="at least 320 samples"):
        model.continue_(wave[:300])
    with pytest.raises(ValueError, match=r"\[T\]"):
        model.continue_(wave[None])
    with pytest.raises(ValueError, match="seconds"):
        model.continue_(wave, seconds=-1)
    with pytest.raises(ValueError, match="do not belong"):
        SpeechLM(Codec(CODEC), LanguageModel(LMConfig()))


@pytest.fixture
def speaker():
    torch.manual_seed(0)
    texts = {"texts": layout.TEXTS, "roles": layout.ROLES}
    lm = LanguageModel(LMConfig(**(vars(LM) | texts)))
    for p in lm.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return SpeechLM(Codec(CODEC), lm)


def test_it_speaks_what_it_is_given(speaker, wave):
    said = speaker.speak("hi, you.", wave, "sad", seed=1)
    assert [s.label for s in said.tokens] == layout.read("hi, you.", "sad")
    assert said.ended and len(said.wave) == 320 * said.codes.shape[2]
    assert torch.equal(said.wave, speaker.codec.render(said.latents)[0])
    ends = [s.end for s in said.tokens]
    assert ends[:-1] == [s.start for s in said.tokens[1:]]
    assert ends[-1] == pytest.approx(said.codes.shape[2] / 50)
    cloned = speaker.clone("hi, you.", wave, 1, "sad")
    assert torch.equal(cloned.codes, said.codes)


LONG = "The dog is here. The cat is not here yet. Where is it, then? " * 3


def test_a_long_text_is_said_in_pieces_each_in_the_emotion(speaker):
    said = speaker.speak(LONG, emotion="sad", seed=1)
    count = len(layout.split(LONG))
    opened = [s.label for s in said.tokens if s.label[0] == "<"]
    assert count > 1 and opened == ["<sad>"] * count
    starts = [s.start for s in said.tokens]
    assert starts == sorted(starts)


def test_a_text_has_ended_if_all_its_pieces_have(speaker):
    speaker.lm.text_head.weight.data[:] = 0  # each token then lasts a frame
    pieces = layout.split(LONG + "Hi.")
    counts = [len(layout.read(piece)) for piece in pieces]
    config = replace(speaker.config, longest=counts[-1] + 5)
    assert counts[0] > config.longest
    assert speaker.speak(pieces[-1], config=config).ended
    assert not speaker.speak(LONG + "Hi.", config=config).ended


TEXT = "the dog is here, the cat is there, and who are you?"


def test_another_seed_says_it_in_another_way(speaker, wave):
    config = replace(speaker.config, drawn=2, temperature=1.0)
    one, again, other = (
        speaker.speak(TEXT, wave, seed=seed, config=config) for seed in (1, 1, 2)
    )
    assert torch.equal(one.wave, again.wave)
    shapes = one.latents.shape, other.latents.shape
    assert shapes[0] != shapes[1] or not torch.equal(one.latents, other.latents)


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_streaming_equals_speaking(speaker, wave, chunk):
    whole = speaker.speak(TEXT, wave, seed=2).wave
    pieces = list(speaker.stream(TEXT, wave, seed=2, chunk=chunk))
    assert torch.allclose(torch.cat(pieces), whole, atol=1e-4)
    assert len(pieces) > 2 if chunk < 64 else len(pieces) == 2
    assert len(pieces[0]) == speaker.codec.hop, "one frame, so that sound begins early"


def test_speech_is_moved_to_the_timbre_of_the_voice(speaker, wave):
    still, moved = (
        speaker.speak(TEXT, wave, seed=2, config=replace(speaker.config, timbre=share))
        for share in (0.0, 0.5)
    )
    assert torch.equal(still.codes, moved.codes)
    spectrum = speaker.codec.config.spectrum
    means = [u.latents[0, :, 1:spectrum].mean(0) for u in (still, moved)]
    voice = speaker.codec.quantizer.decode(speaker.listen(wave)[None])[0]
    voice = voice[:, 1:spectrum].mean(0)
    assert (means[1] - voice).norm() < 0.8 * (means[0] - voice).norm()
    assert torch.equal(still.latents[..., spectrum:], moved.latents[..., spectrum:])


def test_one_timbre_is_kept_through_all_pieces(speaker, wave, monkeypatch):
    made = []

    def noted(*arguments):
        made.append(Timbre(*arguments))
        return made[-1]

    monkeypatch.setattr(module, "Timbre", noted)
    said = speaker.speak(LONG, wave, seed=1)
    assert len(made) == 1 and made[0].frames == said.codes.shape[2]


def test_a_voice_that_was_heard_is_the_same_voice(speaker, wave):
    heard = speaker.hear(wave)
    assert speaker.hear(heard) is heard
    said = [speaker.speak(TEXT, voice, "sad", seed=2).wave for voice in (wave, heard)]
    assert torch.equal(*said)
    pieces = torch.cat(list(speaker.stream(TEXT, heard, "sad", seed=2)))
    assert torch.allclose(pieces, said[0], atol=1e-4)


def test_a_text_model_babbles_too(speaker, wave):
    out = speaker.continue_(wave, seconds=0.5, top_k=9, top_p=0.9, seed=1)
    prompt = speaker.codec.encode(wave[None, : out.start])[:, :2]
    assert torch.equal(out.codes[..., :25], prompt) and out.codes.shape[2] == 50


@pytest.mark.parametrize("which", ["model", "speaker"])
def test_truncated_to_one_code_a_continuation_is_the_likeliest(which, wave, request):
    model = request.getfixturevalue(which)
    best = model.continue_(wave, 0.5, temperature=0).codes
    for truncated in ({"top_k": 1}, {"top_p": 1e-6}):
        codes = model.continue_(wave, 0.5, temperature=1.0, **truncated).codes
        assert torch.equal(codes, best)


def test_a_voice_is_cut_and_brought_to_one_level(wave):
    loud, quiet = prepare_voice(wave, 16_000), prepare_voice(wave / 9, 16_000)
    assert torch.allclose(loud, quiet, atol=1e-5)
    assert len(prepare_voice(wave.repeat(8), 16_000)) == 48_000
    louder_later = torch.cat([wave.repeat(6)[:48_000], 2 * wave])
    for voice in (loud, prepare_voice(louder_later, 16_000)):
        assert voice.square().mean().sqrt().item() == pytest.approx(0.063, rel=1e-3)


def test_a_voice_is_heard_from_where_it_begins(wave):
    before = 1e-3 * torch.randn(64_000, generator=torch.Generator().manual_seed(0))
    found = prepare_voice(torch.cat([before, wave]), 16_000)
    begins = int((wave.abs() > 0.05 * wave.abs().max()).int().argmax())
    heard = found[8_000 - begins :]
    both = torch.stack([heard, wave[: len(heard)]])
    assert len(heard) > 8_000 and torch.corrcoef(both)[0, 1] > 0.999
    with pytest.raises(AudioError, match="longer"):
        prepare_voice(torch.cat([before, wave[: begins + 7_000]]), 16_000)


def test_what_cannot_be_said_is_refused(speaker, model, wave):
    with pytest.raises(ValueError, match="reads no text"):
        model.speak("hello")
    with pytest.raises(TextError):
        speaker.speak("[dance]")
    with pytest.raises(ValueError, match="no emotion"):
        speaker.speak("hello", emotion="cheerful")
    with pytest.raises(AudioError, match="longer"):
        speaker.clone("hello", wave[:1_600])
    with pytest.raises(ValueError, match="held-out"):
        speaker.speak("hello", voice="somebody")
    with pytest.raises(ValueError, match="temperature"):
        speaker.speak("hello", config=SpeakConfig(temperature=-1.0))
