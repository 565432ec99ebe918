"""What every corpus of this package hands out: an `Item`, labelled by `Span`s."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Span:
    """A labelled stretch of a recording.

    label: the word, the phoneme (IPA), or the event ("laugh", "cough" ...).
    start, end: seconds from the beginning of the recording, 0 <= start <= end.
    """

    label: str
    start: float  # s
    end: float  # s

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class Item:
    """One recording and all that is known about it.

    Only the first three fields are always there; a corpus fills in what it knows.
    Two items are compared by their fields, one by one: `==` is identity, because
    a wave has no single truth value.
    """

    wave: Tensor  # float32 [T], in [-1, 1]
    sample_rate: int  # Hz
    text: str  # what was asked to be spoken, tags such as [laugh] included
    speaker: str | None = None  # "17", "held-out:3", "jackson" ...
    emotion: str | None = None  # "neutral", "happy" ...
    scene: str | None = None  # name of the background sound, None: quiet
    caption: str | None = None  # one sentence that says what is to be heard
    words: tuple[Span, ...] = ()
    phones: tuple[Span, ...] = ()  # IPA, without silences
    events: tuple[Span, ...] = ()  # non-verbal sounds

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.wave.shape[-1] / self.sample_rate
