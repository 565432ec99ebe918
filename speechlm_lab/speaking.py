"""Speaking a text, step by step: the language model writes the codes of its speech.

The sequence is that of `layout`: a voice, a text, then speech, in which the model also
says to itself which token it is at. That token is not left to chance: at each step
the model only decides whether the present one lasts or the next one begins. So
nothing can be skipped or repeated, and the end is reached. With `follow=False` the
model chooses among all tokens, and is found to do all of that.
"""

from collections.abc import Iterator
from dataclasses import dataclass

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

    temperature: float | tuple[float, ...] = 0.4  # of codes, or of each level's
    top_k: int | None = None  # of codes
    top_p: float | None = None  # of codes
    pace_temperature: float = 0.7  # of the choice between holding a token and going on
    guidance: float = 1.0  # strength of the text, 1: as learnt (see sampling.guide)
    follow: bool = True  # keep to the text; False: the model is free to stray
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
    ) -> None:
        self.model = model
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
        step = 0
        while step < frames + behind:
            if step < frames:
                said = self._next_text(step)
                if said == layout.begin(layout.END):
                    frames, self.ended = step, True
            else:
                said = layout.hold(layout.begin(layout.END))
                if step == frames and not self.ended:
                    said = layout.begin(layout.END)
            drawn = self.draw()
            codes = torch.full((levels,), blank)
            for k in range(levels):
                if 0 <= step - layout.LEAD - k < frames:
                    codes[k] = drawn[k]
            history.append(codes)
            for i, branch in enumerate(self.branches):
                branch.advance(codes, said if i == 0 else layout.NO_TEXT)
            if step >= behind:
                start = step - behind + layout.LEAD
                yield torch.stack([history[start + k][k] for k in range(levels)])
            step += 1

    def draw(self) -> Tensor:
        """Codes `[K]`, drawn from what the model now expects."""
        scores = self.branches[0].code_logits
        if len(self.branches) > 1:
            without = self.branches[1].code_logits
            scores = guide(scores, without, self.config.guidance)
        c, temperature = self.config, self.config.temperature
        if not isinstance(temperature, tuple):
            return sample(scores, temperature, c.top_k, c.top_p, self.generator)
        rows = [
            sample(row, t, c.top_k, c.top_p, self.generator)
            for row, t in zip(scores, temperature, strict=True)
        ]
        return torch.stack(rows)

    def _next_text(self, step: int) -> int:
        """The id of this step's text; writes down each token that begins."""
        scores = self.branches[0].text_logits
        if self.config.follow:
            said = self._hold_or_go_on(scores, step)
        else:
            scores[layout.NO_TEXT] = -torch.inf
            said = int(
                sample(scores, self.config.pace_temperature, generator=self.generator)
            )
        if layout.begins(said):
            self.tokens.append(said)
            self.first.append(step)
        return said

    def _hold_or_go_on(self, scores: Tensor, step: int) -> int:
        done = len(self.tokens)
        if done == 0:
            return self.wanted[0]
        now, then = layout.hold(self.wanted[done - 1]), self.wanted[done]
        if step - self.first[-1] >= self.config.longest_token:
            return then
        choice = scores[[now, then]]
        temperature = self.config.pace_temperature
        return (now, then)[int(sample(choice, temperature, generator=self.generator))]


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
        silent = torch.zeros(prompt.shape[1], dtype=torch.long)
        self._see(
            torch.cat([prompt, nothing], dim=1),
            torch.cat([silent, tokens, torch.tensor([layout.NO_TEXT])]),
            torch.cat(roles),
        )

    def advance(self, codes: Tensor, said: int) -> None:
        """Take one step of speech: codes `[K]` and the text's id."""
        self._see(codes[:, None], torch.tensor([said]), torch.tensor([layout.SPEAK]))

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
        branch.advance(steps[:, s], layout.NO_TEXT)
    return undelay(steps[None])[0][:, layout.LEAD : layout.LEAD + total]
