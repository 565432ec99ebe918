"""What a language model has listened to and read, and what it now expects."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab import layout
from speechlm_lab.lm import KVCache, LanguageModel
from speechlm_lab.stepping import Stepper


@dataclass(frozen=True)
class Heard:
    """A voice that a model has listened to, to be spoken in any number of times.

    It comes first in the sequence, so it is the same whatever is read after it.
    """

    codes: Tensor  # int64 [K, P], P >= 0
    keys: list[Tensor]  # of each layer, [1, kv_heads, P, D / heads]; [] where P is 0
    values: list[Tensor]

    def caches(self, rows: int, layers: int) -> list[KVCache]:
        """For each layer a cache that goes on from here, in so many rows."""
        found = [KVCache() for _ in range(layers)]
        for cache, keys, values in zip(found, self.keys, self.values, strict=False):
            cache.append(*(part.expand(rows, -1, -1, -1) for part in (keys, values)))
        return found


@torch.no_grad()
def hear(model: LanguageModel, codes: Tensor) -> Heard:
    """Let the model listen to the codes `[K, P]` of a voice."""
    caches, heard = [KVCache() for _ in model.layers], codes.shape[1]
    if not heard:
        return Heard(codes, [], [])
    silent = torch.zeros(1, 5, heard, dtype=torch.long)
    roles = torch.full((1, heard), layout.LISTEN)
    model.hidden(model.embed(codes[None], silent, roles), caches, last=1)
    return Heard(codes, [c.keys for c in caches], [c.values for c in caches])


class Memory:
    """The model with its memory of a sequence, and of the same one without its text.

    `code_logits` and `text_logits` are what it now expects. Steps of a `draft` are read
    together with the text, in one go; they count as they are taken, and from the first
    one that comes otherwise each is computed by itself (Leviathan, Kalman & Matias
    2023, arXiv 2211.17192, have a smaller model write the draft).
    """

    @torch.no_grad()
    def __init__(
        self,
        model: LanguageModel,
        heard: Heard,
        tokens: Tensor | None,
        guided: bool = False,
        draft: Tensor | None = None,  # text slots [n, 5] of steps that may come first
    ) -> None:
        tokens = torch.zeros(0, dtype=torch.long) if tokens is None else tokens
        levels, blank = model.config.codebooks, model.config.blank
        self.reads = torch.tensor([[1], [0]] if guided else [[1]])
        caches = heard.caches(len(self.reads), len(model.layers))
        self.draft = torch.zeros(0, 5, dtype=torch.long) if draft is None else draft
        ahead = 1 + len(self.draft)  # steps of speech that are taken at once
        places = (1 + torch.arange(len(tokens))).clamp(max=model.config.text_places - 1)
        none = torch.zeros_like(tokens)
        read = torch.stack(layout.TextSlots(tokens, none, none, places, none))
        read = torch.cat([nnf.pad(read, (0, 1)), self.draft.T], dim=1)
        roles = torch.full((1, read.shape[1]), layout.READ)
        roles[:, -ahead:] = layout.SPEAK
        nothing = torch.full((len(self.reads), levels, read.shape[1]), blank)
        x = model.embed(nothing, self.reads[:, :, None] * read, roles)
        self.coming = model.hidden(x, caches, last=ahead).unbind(1)
        self.hidden, self.blank = self.coming[0], blank
        self.stepper = Stepper(model, caches)
        self.stepper.trunk.at -= len(self.draft)  # not taken yet
        self.taken = 0

    def advance(self, codes: Tensor, text: Tensor) -> None:
        """Take one step of speech: codes `[K]` and its text slots `[5]`."""
        self.taken += 1
        if self.taken <= len(self.draft):
            silent = bool((codes == self.blank).all())
            if silent and torch.equal(text, self.draft[self.taken - 1]):
                self.hidden = self.coming[self.taken]
                self.stepper.trunk.at += 1
                return
            self.draft = self.draft[:0]  # it came otherwise, so what follows is void
        codes = codes.expand(len(self.reads), -1)
        self.hidden = self.stepper(codes, self.reads * text, layout.SPEAK)

    def code_logits(self, levels: int | None = None) -> Tensor:
        """Logits `[rows, K, V]` of the codes, or of so many levels; row 1: no text."""
        return self.stepper.logits(self.hidden, levels and range(levels))

    def text_logits(self) -> Tensor:
        """Logits `[TEXTS]` of the text token."""
        return self.stepper.text_logits(self.hidden[:1])[0]
