"""Speaking a text, step by step: the language model writes the codes of its speech.

The sequence is that of `layout`: a voice, a text, then speech, in which the model also
says to itself which token it is at. That token is not left to chance: at each step
the model only decides whether the present one lasts or the next one begins. So
nothing can be skipped or repeated, and the end is reached. With `follow=False` the
model chooses among all tokens, and is found to do all of that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab import layout
from speechlm_lab.lm import KVCache, LanguageModel
from speechlm_lab.patterns import delay, undelay
from speechlm_lab.sampling import guide, sample


@dataclass(frozen=True)
class SpeakConfig:
    """How codes and durations are drawn."""

    temperature: float | tuple[float, ...] = 0.3  # of codes, or of each level's
    exact: int = 1  # levels that are drawn; those above come nearest to the mean
    top_k: int | None = None  # of codes
    top_p: float | None = None  # of codes
    pace: float = 0.3  # spread of durations: 0 the likely median, 1 all that is likely
    guidance: float = 1.5  # strength of the text, 1: as learnt (see sampling.guide)
    follow: bool = True  # keep to the text; False: the model is free to stray
    text_temperature: float = 1.0  # of the text that it then says to itself
    longest_token: int = 100  # frames after which a token must end
    longest: int = 1_500  # frames after which all must end


class Speaking:
    """One utterance in the making. Iterate over it: each frame's codes `[K]`.

    After that, `tokens` (ids) and `first` (frames) say what was spoken when, and
    `ended` is False where the model had to be stopped.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt: Tensor,
        tokens: Tensor | None,
        config: SpeakConfig | None = None,
        generator: torch.Generator | None = None,
        codebooks: Tensor | None = None,
    ) -> None:
        self.model = model
        self.codebooks = codebooks
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
        self.branches = [_Branch(model, prompt, tokens)]
        if self.config.guidance != 1:
            self.branches.append(_Branch(model, prompt, None))

    @torch.no_grad()
    def __iter__(self) -> Iterator[Tensor]:
        levels, blank = self.model.config.codebooks, self.model.config.blank
        behind = layout.LEAD + levels - 1  # steps from a frame's text to its last code
        frames = self.config.longest  # until END says otherwise
        history: list[Tensor] = []
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
            drawn = self.draw()
            codes = torch.full((levels,), blank)
            for k in range(levels):
                if 0 <= step - layout.LEAD - k < frames:
                    codes[k] = drawn[k]
            history.append(codes)
            texts.append(said)
            seen = self._seen(texts, step)
            for i, branch in enumerate(self.branches):
                branch.advance(codes, seen if i == 0 else torch.zeros_like(seen))
            if step >= behind:
                start = step - behind + layout.LEAD
                yield torch.stack([history[start + k][k] for k in range(levels)])
            step += 1

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

    def draw(self) -> Tensor:
        """Codes `[K]`, drawn from what the model now expects."""
        scores = self.branches[0].code_logits
        if len(self.branches) > 1:
            without = self.branches[1].code_logits
            scores = guide(scores, without, self.config.guidance)
        c, temperature = self.config, self.config.temperature
        if not isinstance(temperature, tuple):
            temperature = (temperature,) * len(scores)
        rows = [
            sample(row, t, c.top_k, c.top_p, self.generator)
            for row, t in zip(scores, temperature, strict=True)
        ]
        if self.codebooks is not None:
            for k in range(c.exact, len(rows)):
                rows[k] = nearest_to_mean(scores[k], self.codebooks[k])
        return torch.stack(rows)

    def _next_text(self, step: int) -> int:
        """The id of this step's text; writes down each token that begins."""
        scores = self.branches[0].text_logits
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

        The model says at each step how likely the token is to end there. Drawing that
        anew each time would draw a duration from all that are possible, the odd ones
        too. So the chance that the token still lasts is followed down, and it ends
        where that falls below a half, or, with `pace`, below a level drawn around it.
        """
        done = len(self.tokens)
        if done == 0:
            return self.wanted[0]
        now, then = layout.hold(self.wanted[done - 1]), self.wanted[done]
        if step - self.first[-1] >= self.config.longest_token:
            return then
        if step == self.first[-1] + 1:
            self._lasting = 1.0
            drawn = torch.rand((), generator=self.generator).item()
            self._ends_below = 0.5 + (drawn - 0.5) * self.config.pace
        # what comes next is known; only whether it comes now is asked
        begins = scores[1 : 1 + len(layout.TOKENS)].logsumexp(0)
        self._lasting *= torch.sigmoid(scores[now] - begins).item()
        return now if self._lasting > self._ends_below else then


def nearest_to_mean(logits: Tensor, codebook: Tensor) -> Tensor:
    """The code of `codebook` `[V, D]` with the least expected squared distance.

    That is the one nearest to the mean vector under the probabilities of `logits`
    `[V]`. Where hundreds of codes are as likely, as in the fine levels, a drawn one
    is noise and the likeliest one is arbitrary; this one errs least.
    """
    mean = logits.softmax(-1) @ codebook
    return (codebook - mean).square().sum(-1).argmin()


class _Branch:
    """The model with its memory of one sequence."""

    def __init__(
        self, model: LanguageModel, prompt: Tensor, tokens: Tensor | None
    ) -> None:
        self.model = model
        self.caches = [KVCache() for _ in model.layers]
        tokens = torch.zeros(0, dtype=torch.long) if tokens is None else tokens
        levels, blank = model.config.codebooks, model.config.blank
        count = len(tokens) + 1  # the last step begins the speech
        nothing = torch.full((levels, count), blank)
        roles = [(layout.LISTEN, prompt.shape[1]), (layout.READ, len(tokens))]
        roles = [torch.full((n,), role) for role, n in [*roles, (layout.SPEAK, 1)]]
        silent = torch.zeros(5, prompt.shape[1], dtype=torch.long)
        places = (1 + torch.arange(len(tokens))).clamp(max=model.config.text_places - 1)
        none = torch.zeros_like(tokens)
        read = torch.stack(layout.TextSlots(tokens, none, none, places, none))
        self._see(
            torch.cat([prompt, nothing], dim=1),
            torch.cat([silent, read, torch.zeros(5, 1, dtype=torch.long)], dim=1),
            torch.cat(roles),
        )

    def advance(self, codes: Tensor, text: Tensor) -> None:
        """Take one step of speech: codes `[K]` and its text slots `[5]`."""
        self._see(codes[:, None], text[:, None], torch.tensor([layout.SPEAK]))

    def _see(self, codes: Tensor, text: Tensor, roles: Tensor) -> None:
        x = self.model.embed(codes[None], text[None], roles[None])
        x = self.model.hidden(x, self.caches)[0, -1]
        self.code_logits = torch.stack([head(x) for head in self.model.heads])
        self.text_logits = self.model.text_head(x)


@torch.no_grad()
def babble(
    model: LanguageModel,
    heard: Tensor,
    frames: int,
    config: SpeakConfig | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Go on with speech without a text: codes `[K, P]` to `[K, P + frames]`.

    `heard`, P >= 0 frames, is taken for the model's own speech so far. Of `config` only
    what concerns codes is used.
    """
    levels, blank = model.config.codebooks, model.config.blank
    config = replace(
        config or SpeakConfig(), guidance=1.0
    )  # there is no text to follow
    speaking = Speaking(model, heard[:, :0], None, config, generator)
    branch = speaking.branches[0]
    total = heard.shape[1] + frames
    steps = delay(nnf.pad(heard, (layout.LEAD, frames), value=-1)[None], blank)[0]
    steps[:, : layout.LEAD] = blank
    for k in range(levels):  # nor are there codes before the first frame
        steps[k, : layout.LEAD + k] = blank
    for s in range(steps.shape[1]):
        drawn = speaking.draw()
        steps[:, s] = torch.where(steps[:, s] == -1, drawn, steps[:, s])
        branch.advance(steps[:, s], torch.zeros(5, dtype=torch.long))
    return undelay(steps[None])[0][:, layout.LEAD : layout.LEAD + total]
