"""The model a user calls: a codec and a language model over its codes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from speechlm_lab import codec as codecs
from speechlm_lab import layout
from speechlm_lab.audio import AudioError, check_wave
from speechlm_lab.codec import Codec
from speechlm_lab.codec.chunked import render_chunks
from speechlm_lab.corpus import tiny_voices
from speechlm_lab.corpus.items import Span
from speechlm_lab.lm import LanguageModel
from speechlm_lab.memory import Heard, hear
from speechlm_lab.shipped import load, load_shipped
from speechlm_lab.speaking import SpeakConfig, Speaking, babble
from speechlm_lab.timbre import Timbre

VOICE_SECONDS = (0.5, 3.0)  # of a voice: the least that is taken, the most that is used
LONGEST_VOICE = 30.0  # s; a longer recording is hardly one voice
_LEVEL = 0.063  # RMS that a voice is brought to, that of neutral TinyVoices
SPEAKING = "speaking.json"  # beside a model's weights: its own `SpeakConfig`
_QUIET = 0.05  # of a recording's peak; what is below it before speech is no speech
_WAITING = 0.5  # s without speech that may lie before it
_CLIPPED = 0.005  # share of samples at the limits that makes a recording a clipped one


class Continuation(NamedTuple):
    """A recording that a model went on with."""

    wave: Tensor  # float32 [T], the prompt as the codec renders it, then what follows
    codes: Tensor  # int64 [1, K, F], of all of it
    start: int  # the sample at which the model's own part begins


class Utterance(NamedTuple):
    """A text that a model has spoken."""

    wave: Tensor  # float32 [T]
    codes: Tensor  # int64 [1, K, F], as the language model reads its own speech
    latents: Tensor  # float32 [1, F, D], as the codec's decoder hears it
    tokens: tuple[Span, ...]  # what was said when, as the model says it of itself
    ended: bool  # False: it did not come to an end and was stopped


class SpeechLM:
    """A codec and a language model that speaks its codes."""

    def __init__(
        self, codec: Codec, lm: LanguageModel, config: SpeakConfig | None = None
    ) -> None:
        if lm.config.codebook_size != codec.config.codebook_size:
            raise ValueError(
                f"the language model knows {lm.config.codebook_size} codes a level, "
                f"the codec has {codec.config.codebook_size}: they do not belong "
                "together"
            )
        self.codec = codec.eval()
        self.lm = lm.eval()
        self.config = config or SpeakConfig()  # where `speak` is not told otherwise
        every = torch.arange(lm.config.codebook_size)
        levels = self.codec.quantizer.levels[: lm.config.codebooks]
        with torch.no_grad():  # [K, V, D]
            self.codebooks = torch.stack([level.decode(every) for level in levels])

    @classmethod
    def from_pretrained(cls, lm: str | Path | None = None) -> "SpeechLM":
        """A language model, the shipped one when None, with the codec that it knows.

        `lm` is a folder of a training. The codec is that of its `codec`, where the
        training made one, else the shipped one. Raises ValueError for a folder without
        such a model, FileNotFoundError, with the command that trains it, where a
        shipped part is not there.
        """
        if lm is None:
            model = load_shipped(LanguageModel, "lm", "speechlm")
            return cls(codecs.load_shipped(), model)
        if (Path(lm) / "codec" / "config.json").exists():
            return cls.from_folders(Path(lm) / "codec", lm)
        return cls(codecs.load_shipped(), load(LanguageModel, lm), _own_config(lm))

    @classmethod
    def from_folders(cls, codec: str | Path, lm: str | Path) -> "SpeechLM":
        """Load a codec and a language model from the folders of their trainings."""
        return cls(load(Codec, codec), load(LanguageModel, lm), _own_config(lm))

    @property
    def sample_rate(self) -> int:
        """Hz, of waves in and out."""
        return self.codec.sample_rate

    @torch.no_grad()
    def continue_(
        self,
        wave: Tensor,
        seconds: float = 3.0,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> Continuation:
        """Go on with a recording: wave, codes, more codes, wave.

        `wave` is float32 `[T]` at `sample_rate`; its last part frame, if any, is left
        out, because it would be padded with silence. `seconds` is how much to add.
        The same `seed` gives the same continuation. Raises ValueError for a wave that
        is not `[T]` or shorter than one frame.
        """
        if wave.ndim != 1 or len(wave) < self.codec.hop:
            raise ValueError(
                f"wave must be [T] with at least {self.codec.hop} samples (one "
                f"frame), got {list(wave.shape)}"
            )
        if seconds < 0:
            raise ValueError(f"seconds must be at least 0, got {seconds}")
        start = len(wave) - len(wave) % self.codec.hop
        prompt = self.codec.encode(wave[None, :start], self.lm.config.codebooks)
        frames = round(seconds * self.codec.frame_rate)
        generator = torch.Generator().manual_seed(seed)
        if self.lm.config.texts:
            drawn = SpeakConfig(temperature=temperature, top_k=top_k, top_p=top_p)
            codes = babble(self.lm, prompt[0], frames, drawn, generator)[None]
        else:
            codes = self.lm.generate(
                prompt, frames, temperature, top_k, top_p, generator
            )
        return Continuation(self.codec.decode(codes)[0], codes, start)

    def speak(
        self,
        text: str,
        voice: Tensor | Heard | int | str | None = None,
        emotion: str = layout.ANY,
        seed: int = 0,
        config: SpeakConfig | None = None,
    ) -> Utterance:
        """Say any English text; a long one is said in pieces (`layout.split`).

        text: words, punctuation, numbers and tags such as [laugh], as TinyVoices reads
            them.
        voice: float32 `[T]` at `sample_rate`, somebody's speech of half a second to
            30 s, of which 3 s are listened to, from where it begins; or the number or
            name of a TinyVoices speaker, who then says a sentence to listen to; None: a
            voice that the model makes up. What `hear` made of one of these is the same
            voice, sooner.
        emotion: one of TinyVoices' or "any".
        seed: another seed gives another way of saying the same.
        config: temperatures, guidance and so on; the model's own when None.

        Raises TextError for a text that cannot be spoken, AudioError for a voice that
        cannot be used, ValueError for an emotion that does not exist.
        """
        frames, tokens, ended, passed = [], [], True, 0
        for part in self._speaking(text, voice, emotion, seed, config):
            frames += list(part)
            ends = [*part.first[1:], len(frames) - passed]
            for token, *span in zip(part.tokens, part.first, ends, strict=True):
                if token != layout.begin(layout.END):
                    begin, end = ((passed + f) / self.codec.frame_rate for f in span)
                    tokens.append(Span(layout.name(token), begin, end))
            ended, passed = ended and part.ended, len(frames)
        codes = torch.stack([frame.codes for frame in frames], dim=1)[None]
        latents = torch.stack([frame.latent for frame in frames])[None]
        wave = self.codec.render(latents)[0]
        return Utterance(wave, codes, latents, tuple(tokens), ended)

    def stream(
        self,
        text: str,
        voice: Tensor | Heard | int | str | None = None,
        emotion: str = layout.ANY,
        seed: int = 0,
        config: SpeakConfig | None = None,
        chunk: int = 5,
    ) -> Iterator[Tensor]:
        """`speak`, piece by piece: yields waves `[t]`, `chunk` frames each.

        The first is one frame, so that the sound begins early. Joined, they are the
        wave of `speak` to float32 rounding. Raises what it raises, when the first piece
        is asked for.
        """
        parts = self._speaking(text, voice, emotion, seed, config)
        latents = (frame.latent[None, :, None] for part in parts for frame in part)
        for wave in render_chunks(self.codec, latents, chunk, first=1):
            yield wave[0]

    def clone(
        self, text: str, prompt: Tensor, seed: int = 0,
        emotion: str = layout.ANY, config: SpeakConfig | None = None,
    ) -> Utterance:  # fmt: skip
        """Say `text` in the voice of `prompt`, a wave `[T]`; see `speak`."""
        return self.speak(text, prompt, emotion, seed, config)

    def _speaking(
        self,
        text: str,
        voice: Tensor | Heard | int | str | None,
        emotion: str,
        seed: int,
        config: SpeakConfig | None,
    ) -> Iterator[Speaking]:
        """The parts of a text, each to be spoken when the one before it has been."""
        if not self.lm.config.texts:
            raise ValueError(
                "this language model reads no text: use one that was trained by the "
                "recipe speechlm"
            )
        whole = layout.read(text, emotion)  # raises what is wrong with them
        heard, config = self.hear(voice), config or self.config
        generator, timbre = torch.Generator().manual_seed(seed), None
        if config.timbre and heard.keys:  # one for all pieces: it is one voice
            latents = self.codec.quantizer.decode(heard.codes[None])[0]
            timbre = Timbre(latents, self.codec.config.spectrum, config.timbre)
        pieces = [text] if len(whole) <= layout.MOST else layout.split(text)
        for piece in pieces:
            read = whole if piece == text else layout.read(piece, emotion)
            tokens = torch.tensor([layout.begin(token) for token in read])
            yield Speaking(
                self.lm, heard, tokens, self.codebooks, config, generator, timbre
            )

    def hear(self, voice: Tensor | Heard | int | str | None) -> Heard:
        """Listen to a voice once, to speak in it many times; see `speak`."""
        if isinstance(voice, Heard):
            return voice
        return hear(self.lm, self.listen(voice))

    def listen(self, voice: Tensor | int | str | None) -> Tensor:
        """Codes `[K, P]` of a voice, as the language model takes them; see `speak`."""
        levels = self.lm.config.codebooks
        if voice is None:
            return torch.zeros(levels, 0, dtype=torch.long)
        if isinstance(voice, int | str):
            voice = tiny_voices.speak(_SAMPLE, voice).wave
        wave = prepare_voice(voice, self.sample_rate)
        return self.codec.encode(wave[None], levels)[0]


def _own_config(lm: str | Path) -> SpeakConfig | None:
    """What a training found best for its model, if it left that beside the weights."""
    path = Path(lm) / SPEAKING
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        pairs = {k: tuple(v) for k, v in found.items() if isinstance(v, list)}
        return SpeakConfig(**found | pairs)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): delete it, to speak with the defaults, "
            "or copy it again"
        ) from error


_SAMPLE = "The old clock in the hall is never on time."  # said by TinyVoices speakers


def prepare_voice(wave: Tensor, sample_rate: int) -> Tensor:
    """The part of somebody's speech `[T]` that is listened to, at one level.

    Raises AudioError when it is no wave, not mono, silent, clipped, too short or too
    long.
    """
    least, most = VOICE_SECONDS
    check_wave(wave, sample_rate, min_seconds=least)
    if len(wave) > LONGEST_VOICE * sample_rate:
        raise AudioError(
            f"the voice lasts {len(wave) / sample_rate:.0f} s: give a stretch of "
            f"{least:g} to {LONGEST_VOICE:g} s in which one person speaks"
        )
    if (wave.abs() >= 0.999).float().mean() > _CLIPPED:
        raise AudioError(
            "the voice is clipped: record it again at a lower level, since its peaks "
            "are lost"
        )
    begin = int((wave.abs() > _QUIET * wave.abs().max()).int().argmax())
    if begin > _WAITING * sample_rate:  # nobody speaks yet
        check_wave(wave[begin:], sample_rate, min_seconds=least)
        wave = wave[begin - round(_WAITING * sample_rate) :]
    wave = wave[: round(most * sample_rate)]
    wave = wave * (_LEVEL / wave.square().mean().sqrt().clamp(min=1e-6))
    return wave.clamp(-1, 1)
