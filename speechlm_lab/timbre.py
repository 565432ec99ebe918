"""Keep the timbre of what is said near that of the voice that was listened to.

The mean spectrum of a few seconds of a voice is a poor measure of it: it depends on
what was said. So is that of what the model says, which errs otherwise. The middle of
two poor measures is a better one, so speech is moved towards it (chapter 11).
"""

import torch
from torch import Tensor


class Timbre:
    """Called with one latent after another, in their order: returns them, moved.

    What is missing to the mean of the voice, on average over the frames said so far
    (this one included), is added by `share`. Later frames play no part, so a
    stream is what the whole is.

    voice: float32 `[P, D]`, latents of the voice, P > 0.
    spectrum: the first so many of the D dimensions describe the spectrum. The very
        first, nearly its loudness, is left as it is, and so is what follows: pitch
        and strength (see `codec.config`).
    share: 0 moves nothing; with 1 the mean in the end is that of the voice.
    """

    patience = 5  # frames more than there were: the first ones move little

    def __init__(self, voice: Tensor, spectrum: int, share: float) -> None:
        self.share, self.part = share, slice(1, spectrum)
        self.wanted = voice[:, self.part].mean(0)
        self.missing = torch.zeros_like(self.wanted)  # summed over the frames
        self.frames = 0

    def __call__(self, latent: Tensor) -> Tensor:
        """A latent `[D]`, moved: `[D]`."""
        self.missing += self.wanted - latent[self.part]
        self.frames += 1
        moved = latent.clone()
        more = self.missing / (self.frames + self.patience)
        moved[self.part] += self.share * more
        return moved
