"""Probes: how much of a property can be read from codes, and how sure is that?

A probe is a small classifier on top of something that stays frozen. `CodeProbe` has a
score for each code and class: the most that a linear classifier can do with codes.
A plain `torch.nn.Linear` on the vectors behind the codes is the other probe used here;
`fit` trains either.

What a probe reaches on unseen data is a lower bound on what is there: a larger
classifier may find more. What it reaches on data that it was trained on says little,
see Hewitt and Liang (2019), "Designing and Interpreting Probes with Control Tasks",
arXiv 1909.03368. So labels, splits and intervals are here too: `frame_labels` and
`pitch` give labels, `interval` says how far the result depends on who was tested.
`next_code_bits` measures how well a code follows from the one before it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from speechlm_lab.corpus.items import Span

WINDOW = 1024  # samples under one estimate of pitch
VOICED = 0.5  # least autocorrelation, of 1, at which a frame has a pitch
QUIET = 0.01  # root of the mean square below which a frame has none


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.0%} ({self.low:.0%} to {self.high:.0%})"


def frame_labels(
    spans: Sequence[Span], frames: int, frame_rate: float, silence: str = ""
) -> list[str]:
    """The label of the span that holds the middle of each frame.

    spans: such as `Item.phones`, times in seconds; frames: F; frame_rate: Hz;
    silence: the label where there is no span. Returns F labels. Of two spans that
    overlap, the later one counts.
    """
    labels = [silence] * frames
    for span in spans:
        # frame f has its middle at (f + 1/2) / frame_rate
        first = max(0, math.ceil(span.start * frame_rate - 0.5))
        last = min(frames, math.ceil(span.end * frame_rate - 0.5))
        labels[first:last] = [span.label] * (last - first)
    return labels


def pitch(
    wave: Tensor,
    sample_rate: int = 16_000,
    hop: int = 320,
    low: float = 60.0,
    high: float = 400.0,
) -> Tensor:
    """Fundamental frequency of each frame by autocorrelation, 0 where there is none.

    A voiced sound repeats itself: the lag after which it is most like itself is its
    period. Dividing by the window's own autocorrelation keeps long lags from looking
    worse than they are (Boersma 1993). Of several good lags the shortest counts:
    twice the period fits as well.

    Args:
        wave: [T], in [-1, 1]. Raises ValueError for another shape.
        sample_rate: Hz.
        hop: samples from one frame to the next.
        low, high: range of pitch in Hz.

    Returns:
        Hz [F], F = ceil(T / hop); 0 for silence, noise, whisper.
    """
    if wave.ndim != 1 or not len(wave):
        raise ValueError(
            f"pitch() takes one wave [T], not {list(wave.shape)}: pick one, wave[0]"
        )
    count = -(-len(wave) // hop)
    before = (WINDOW - hop) // 2
    padded = nnf.pad(wave, (before, count * hop - len(wave) + WINDOW))
    frames = padded.unfold(0, WINDOW, hop)[:count]  # [F, WINDOW], centred
    window = torch.hann_window(WINDOW)
    correlation = autocorrelation((frames - frames.mean(1, keepdim=True)) * window)
    shortest, longest = int(sample_rate / high), int(sample_rate / low)
    # the window's own: without it, long lags look worse than they are
    correlation = correlation / autocorrelation(window[None]).clamp(min=1e-3)
    correlation = correlation / correlation[:, :1].clamp(min=1e-9)
    inside = correlation[:, shortest - 1 : longest + 2]
    best = inside[:, 1:-1].max(1, keepdim=True).values
    middle = inside[:, 1:-1]
    peak = (middle >= inside[:, :-2]) & (middle >= inside[:, 2:])
    good = peak & (middle > 0.9 * best) & (best > VOICED)  # [F, lags]
    loud = frames.square().mean(1).sqrt() > QUIET
    lag = shortest + good.float().argmax(1)  # the first good one
    return torch.where(good.any(1) & loud, sample_rate / lag, 0.0)


def autocorrelation(frames: Tensor) -> Tensor:
    """How like itself each row `[F, W]` is after each lag 0..W-1: `[F, W]`."""
    width = frames.shape[-1]
    power = torch.fft.rfft(frames, n=2 * width).abs().square()
    return torch.fft.irfft(power)[..., :width] / width


class CodeProbe(nn.Module):
    """A score for each code and class; the scores of all codes that go in are added.

    codebooks: levels that go in; size: V, codes a level; classes: how many.
    """

    def __init__(self, codebooks: int, size: int, classes: int) -> None:
        super().__init__()
        self.size = size
        self.scores = nn.Parameter(torch.zeros(codebooks * size, classes))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, codes: Tensor, starts: Tensor | None = None) -> Tensor:
        """Scores of codes `[k, F]`: of each frame `[F, classes]`, or of utterances.

        starts: `[U]`, the first frame of each utterance; the scores of its frames are
        averaged, `[U, classes]`. None: each frame is one.
        """
        levels, frames = codes.shape
        if starts is None:
            starts = torch.arange(frames)
        rows = codes + self.size * torch.arange(levels).unsqueeze(1)
        mean = nnf.embedding_bag(rows.T.flatten(), self.scores, levels * starts)
        return levels * mean + self.bias


def fit(
    probe: nn.Module,
    inputs: Sequence[Tensor],
    labels: Tensor,
    steps: int = 60,
    learning_rate: float = 0.3,
    decay: float = 1e-5,
) -> nn.Module:
    """Train `probe(*inputs)` to give `labels` `[N]`; returns it.

    Full batches and Adam on the cross-entropy, plus `decay` times the sum of the
    squared parameters. The same data give the same probe.
    """
    adam = torch.optim.Adam(probe.parameters(), lr=learning_rate)
    for _ in range(steps):
        loss = nnf.cross_entropy(probe(*inputs), labels)
        squares = sum(p.square().sum() for p in probe.parameters())
        adam.zero_grad()
        (loss + decay * squares).backward()
        adam.step()
    return probe.eval()


@torch.no_grad()
def hits(probe: nn.Module, inputs: Sequence[Tensor], labels: Tensor) -> Tensor:
    """1.0 where the highest score is that of the label, else 0.0: `[N]`."""
    return (probe(*inputs).argmax(1) == labels).float()


def pool(vectors: Sequence[Tensor]) -> Tensor:
    """Mean and spread over the frames of each utterance: U of `[F, D]` to `[U, 2D]`."""
    return torch.stack([torch.cat([v.mean(0), v.std(0)]) for v in vectors])


def interval(
    scores: Tensor,
    groups: Tensor,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of scores, with a confidence interval by the bootstrap over groups.

    Frames of one utterance are alike, and so are utterances of one speaker: what may
    be drawn anew is the group, not the frame. (Efron 1979; for word errors, Bisani and
    Ney 2004 draw whole sentences.)

    Args:
        scores: [N], such as `hits`.
        groups: [N], integers: the utterance or the speaker of each score.
        draws: how often groups are drawn, with replacement, as many as there are.
        level: part of the draws that lies inside.
        seed: of the draws.

    Returns:
        The mean of all scores, and the bounds.
    """
    _, groups = groups.unique(return_inverse=True)
    total = torch.bincount(groups, scores.double())  # [G]
    count = torch.bincount(groups).double()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(total), (draws, len(total)), generator=generator)
    means = total[drawn].sum(1) / count[drawn].sum(1)
    outside = (1 - level) / 2
    low, high = means.quantile(torch.tensor([outside, 1 - outside]).double()).tolist()
    return Interval(scores.double().mean().item(), low, high)


class Bits(NamedTuple):
    """What a code costs under two ways of guessing, in bits."""

    alone: float  # by how often each code occurs
    after: float  # by what usually follows the code before


def next_code_bits(
    train: Sequence[Tensor], test: Sequence[Tensor], size: int, trust: float = 100.0
) -> Bits:
    """Mean bits a code takes when it is guessed by counting: a bigram model.

    train, test: code streams `[F]`; size: V; trust: how many times a code must
    have been seen before what followed it outweighs the overall counts.
    """
    single = torch.full((size,), 0.5)
    pairs = torch.zeros(size, size)
    for codes in train:
        single += torch.bincount(codes, minlength=size)
        at = (codes[:-1], codes[1:])
        pairs.index_put_(at, torch.ones(len(codes) - 1), accumulate=True)
    share = single / single.sum()  # [V]
    seen = pairs.sum(1, keepdim=True)
    follows = (pairs + trust * share) / (seen + trust)  # [before, V], rows add up to 1
    alone = torch.cat([share[codes[1:]] for codes in test])
    after = torch.cat([follows[codes[:-1], codes[1:]] for codes in test])
    return Bits(-alone.log2().mean().item(), -after.log2().mean().item())
