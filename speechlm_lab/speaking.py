"""Speaking a text, step by step: the language model writes the codes of its speech.

The sequence is that of `layout`: a voice, a text, then speech, in which the model also
says to itself which token it is at. That token is not left to chance: at each step
the model only decides whether the present one lasts or the next one begins. So
nothing can be skipped or repeated, and the end is reached. With `follow=False` the
model chooses among all tokens, and is found to do all of that.

Nor is the sound. A code that is drawn among hundreds that are as likely is noise. So
the decoder is not given that code's vector but the mean of all codes' vectors under
their probabilities, and the model reads the code that lies nearest to it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab import layout
from speechlm_lab.lm import LanguageModel
from speechlm_lab.memory import Heard, Memory, hear
from speechlm_lab.patterns import delay, undelay
from speechlm_lab.sampling import Sampling, guide, sample
from speechlm_lab.stepping import Codebooks
from speechlm_lab.timbre import Timbre


@dataclass(frozen=True)
class SpeakConfig:
    """How codes and durations are chosen."""

    drawn: int = 0  # levels whose codes are drawn; of the others the mean is heard
    temperature: float | tuple[float, ...] = 0.3  # of drawn codes, or of each level's
    top_k: int | None = None  # of drawn codes
    top_p: float | None = None  # of drawn codes
    # of the mean on the first level, and on the others: above 1 likely codes count more
    sharpness: tuple[float, float] = (1.0, 2.0)
    pace: float = 0.3  # spread of durations: 0 the likely median, 1 all that is likely
    # strength of the text and of the voice (see sampling.guide); 1: as learnt, which
    # is quicker, since each of them wants another row; then sharpen by (1.5, 2.0)
    guidance: float = 1.5
    voice_guidance: float = 1.0
    timbre: float = 0.5  # share by which speech is moved to the voice; see `timbre`
    follow: bool = True  # keep to the text; False: the model is free to stray
    text_temperature: float = 1.0  # of the text that it then says to itself
    longest_token: int = 100  # frames after which a token must end
    longest: int = 1_500  # frames after which all must end

    def __post_init__(self) -> None:
        each = self.temperature
        for t in each if isinstance(each, tuple) else (each,):
            Sampling(t, self.top_k, self.top_p)  # raises what is wrong with them
        if self.drawn < 0 or self.pace < 0 or min(self.sharpness) <= 0:
            raise ValueError(
                "drawn and pace must be at least 0 and sharpness above it, got "
                f"{self.drawn}, {self.pace} and {self.sharpness}"
            )
        if not 0 <= self.timbre <= 1:
            raise ValueError(f"timbre must lie in 0..1, got {self.timbre}")
        numbers = (self.pace, *self.sharpness, self.guidance, self.voice_guidance)
        if not all(0 <= number < math.inf for number in numbers):
            raise ValueError(
                "pace, sharpness, guidance and voice_guidance must be finite and at "
                f"least 0, got {numbers}"
            )
        if self.longest_token < 1 or self.longest < 1:
            raise ValueError(
                "longest_token and longest must be at least 1 frame, got "
                f"{self.longest_token} and {self.longest}"
            )


class Frame(NamedTuple):
    """A frame of speech."""

    codes: Tensor  # int64 [K], as the model reads them
    latent: Tensor  # float32 [D], as the decoder hears it


class Speaking:
    """One utterance in the making. Iterate over it: `Frame` after `Frame`.

    After that, `tokens` (ids) and `first` (frames) say what was spoken when, and
    `ended` is False where the model had to be stopped.

    prompt: int64 `[K, P]`, codes of the voice, P >= 0; or what `hear` made of them.
    tokens: int64 `[S]`, ids of the text; None: no text.
    codebooks: float32 `[K, V, D]`, the vectors of the codes.
    timbre: moves what the decoder hears; None: it is left as it is.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt: Tensor | Heard,
        tokens: Tensor | None,
        codebooks: Tensor,
        config: SpeakConfig | None = None,
        generator: torch.Generator | None = None,
        timbre: Timbre | None = None,
    ) -> None:
        self.model, self.timbre = model, timbre
        self.codebooks, self.books = codebooks, Codebooks(codebooks)
        self.config = config or SpeakConfig()
        temperature, levels = self.config.temperature, model.config.codebooks
        if isinstance(temperature, tuple) and len(temperature) != levels:
            raise ValueError(
                f"{len(temperature)} temperatures for {levels} levels: give one or "
                "one a level"
            )
        self.generator = generator
        wanted = [] if tokens is None else tokens.tolist()
        self.wanted = [*wanted, layout.begin(layout.END)]
        self.tokens: list[int] = []
        self.first: list[int] = []
        self.ended = False
        heard = prompt if isinstance(prompt, Heard) else hear(model, prompt)
        guided, draft = self.config.guidance != 1, self._draft()
        self.memory = Memory(model, heard, tokens, guided, draft)
        # the same without the voice, if that is to be led away from
        self.voiceless = None
        if self.config.voice_guidance != 1 and heard.keys:
            nobody = hear(model, heard.codes[:, :0])
            self.voiceless = Memory(model, nobody, tokens, draft=draft)

    @torch.no_grad()
    def __iter__(self) -> Iterator[Frame]:
        levels, blank = self.model.config.codebooks, self.model.config.blank
        behind = layout.LEAD + levels - 1  # steps from a frame's text to its last code
        frames = self.config.longest  # until END says otherwise
        history: list[tuple[Tensor, Tensor]] = []
        texts: list[int] = []
        step = 0
        while step < frames + behind:
            if step < frames:
                said = self._next_text(step)
                if said == layout.begin(layout.END):
                    frames, self.ended = step, True
            else:
                said = layout.hold(layout.begin(layout.END))
                if step == frames and not self.ended:  # it had to be stopped
                    said = self._begin(layout.begin(layout.END), step)
            codes, vectors = torch.full((levels,), blank), self.codebooks[:, 0].clone()
            begun = min(step - layout.LEAD + 1, levels)  # levels, each a step later
            if begun > 0:  # before that nothing is heard
                # dice are thrown for all levels, so that seeds mean what they meant
                each = self.choose(max(begun, min(self.config.drawn, levels)))
                codes[:begun], vectors[:begun] = (part[:begun] for part in each)
            codes[: max(0, step - layout.LEAD - frames + 1)] = blank  # these have ended
            history.append((codes, vectors))
            texts.append(said)
            seen = self._seen(texts, step)
            self.memory.advance(codes, seen)
            if self.voiceless is not None:
                self.voiceless.advance(codes, seen)
            if step >= behind:  # the last code of a frame: level k came k steps before
                past = history[step - levels + 1 :]
                rows = [(c[k], v[k]) for k, (c, v) in enumerate(past)]
                parts, vectors = zip(*rows, strict=True)
                latent = torch.stack(vectors).sum(0)
                moved = self.timbre(latent) if self.timbre else latent
                yield Frame(torch.stack(parts), moved)
            step += 1

    def _draft(self) -> Tensor:
        """What the steps before the first sound see if the first token outlasts them.

        It nearly always does: it is the emotion, which lasts as long as the silence
        before the first phone.
        """
        texts = [self.wanted[0], *[layout.hold(self.wanted[0])] * (layout.LEAD - 1)]
        self.tokens, self.first = texts[:1], [0]
        seen = [self._seen(texts[: s + 1], s) for s in range(layout.LEAD)]
        self.tokens, self.first = [], []
        return torch.stack(seen)

    def _seen(self, texts: list[int], step: int) -> Tensor:
        """What the next step sees of the text, int64 `[5]`; see `layout.TextSlots`."""
        heard = step + 1 - layout.LEAD
        done = len(self.tokens)
        then = self.wanted[min(done, len(self.wanted) - 1)]
        return torch.tensor(
            layout.TextSlots(
                said=texts[-1],
                next=then if self.config.follow else layout.NO_TEXT,
                now=texts[heard] if heard >= 0 else layout.NO_TEXT,
                place=min(done, self.model.config.text_places - 1),
                lasted=min(step - self.first[-1] + 1, layout.LONGEST),
            )
        )

    def choose(self, levels: int | None = None) -> tuple[Tensor, Tensor]:
        """Codes `[K]` of what is now expected, and the vectors `[K, D]` to be heard.

        levels: of the first so many; None: of all.
        """
        c, (plain, *textless) = self.config, self.memory.code_logits(levels)  # [K, V]
        if c.guidance != 1:
            scores = guide(plain, textless[0], c.guidance)
        else:
            scores = plain.log_softmax(-1)
        if self.voiceless is not None:  # what the voice changes, in nats, once more
            nobody = self.voiceless.code_logits(levels)[0].log_softmax(-1)
            voice = plain.log_softmax(-1) - nobody
            scores = scores + (c.voice_guidance - 1) * voice
        drawn = min(c.drawn, len(scores))
        codes = draw(scores[:drawn], c, self.generator)
        vectors = [self.codebooks[k, code] for k, code in enumerate(codes)]
        sharp = torch.tensor([c.sharpness[min(k, 1)] for k in range(len(scores))])
        means = self.books.means((sharp[:, None] * scores)[drawn:], drawn)
        codes = torch.cat([codes, self.books.nearest(means, drawn)])
        return codes, torch.stack([*vectors, *means])

    def _next_text(self, step: int) -> int:
        """The id of this step's text; writes down each token that begins."""
        scores = self.memory.text_logits()
        if self.config.follow:
            said = self._hold_or_go_on(scores, step)
        else:
            scores[layout.NO_TEXT] = -torch.inf
            if step == 0:  # nothing has begun that could last
                scores[1 + len(layout.TOKENS) :] = -torch.inf
            said = int(
                sample(scores, self.config.text_temperature, generator=self.generator)
            )
        return self._begin(said, step)

    def _begin(self, said: int, step: int) -> int:
        """Write a token down if it begins."""
        if layout.begins(said):
            self.tokens.append(said)
            self.first.append(step)
        return said

    def _hold_or_go_on(self, scores: Tensor, step: int) -> int:
        """Whether the present token lasts or the next one begins.

        The model says at each step how likely the token is to end there. To draw that
        anew each time would be to draw from all durations, the odd ones too. So the
        chance that it still lasts is followed down, and it ends where that falls below
        a half, or, with `pace`, below a level drawn around it.
        """
        done = len(self.tokens)
        if done == 0:
            return self.wanted[0]
        now, then = layout.hold(self.wanted[done - 1]), self.wanted[done]
        if step - self.first[-1] >= self.config.longest_token:
            return then
        if step == self.first[-1] + 1:
            self._lasting = 1.0
            spread = torch.rand((), generator=self.generator).item() - 0.5
            self._ends_below = 0.5 + spread * self.config.pace
        # what comes next is known; only whether it comes now is asked
        odds = scores.softmax(-1)
        lasts, begins = odds[now], odds[1 : 1 + len(layout.TOKENS)].sum()
        self._lasting *= (lasts / (lasts + begins)).item()
        return now if self._lasting > self._ends_below else then


def draw(
    logits: Tensor, config: SpeakConfig, generator: torch.Generator | None
) -> Tensor:
    """Codes `[k]`, one of each level, drawn from `logits` `[k, V]`."""
    if not len(logits):
        return torch.zeros(0, dtype=torch.long)
    rest = config.top_k, config.top_p, generator
    if not isinstance(config.temperature, tuple):
        return sample(logits, config.temperature, *rest)
    rows = zip(logits, config.temperature, strict=False)
    return torch.stack([sample(row, t, *rest) for row, t in rows])


@torch.no_grad()
def babble(
    model: LanguageModel,
    heard: Tensor,
    frames: int,
    config: SpeakConfig | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Go on with speech without a text: codes `[K, P]` to `[K, P + frames]`.

    `heard`, P >= 0 frames, is taken for the model's own speech so far. All levels are
    drawn: without a text their mean would be a hum. Of `config` only what concerns
    drawn codes is used.
    """
    levels, blank = model.config.codebooks, model.config.blank
    config = config or SpeakConfig()
    memory = Memory(model, hear(model, heard[:, :0]), None)
    total = heard.shape[1] + frames
    steps = delay(nnf.pad(heard, (layout.LEAD, frames), value=-1)[None], blank)[0]
    steps[:, : layout.LEAD] = blank
    for k in range(levels):  # nor are there codes before the first frame
        steps[k, : layout.LEAD + k] = blank
    for s in range(steps.shape[1]):
        drawn = draw(memory.code_logits()[0], config, generator)
        steps[:, s] = torch.where(steps[:, s] == -1, drawn, steps[:, s])
        memory.advance(steps[:, s], torch.zeros(5, dtype=torch.long))
    return undelay(steps[None])[0][:, layout.LEAD : layout.LEAD + total]
