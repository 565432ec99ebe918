"""The codec: wave to codes to wave, by way of spectra and of what makes a voice.

    wave -> log-mel + pitch -> fold -> ConvNeXt -> ResidualVQ
         -> ConvNeXt -> unfold -> two filters -> over pulses and noise -> iSTFT -> wave

No layer works on samples, which is several times faster on a CPU than strided
convolutions over the wave. The networks only correct what is known beforehand: the
latents begin as the principal components of log-mel spectra, and the decoder as
chapter 02's source and filter, a train of pulses and a noise behind two filters (as in
the vocoders before neural ones, and in DDSP: Engel et al. 2020, arXiv 2001.04643). A
network that has to find all that by itself needs hours.
"""

import torch
from torch import Tensor, nn

from speechlm_lab.codec.base import BaseCodec, Coded
from speechlm_lab.codec.blocks import start_weights
from speechlm_lab.codec.config import CodecConfig
from speechlm_lab.codec.decoder import Decoder
from speechlm_lab.codec.encoder import Encoder
from speechlm_lab.codec.voice import Voice, detuned
from speechlm_lab.quantize import ResidualVQ, VQConfig, straight_through
from speechlm_lab.shipped import Pretrained


class Codec(
    BaseCodec,
    Pretrained,
    coders={CodecConfig: (vars, lambda values: CodecConfig(**values))},
):
    """Encode waves to codes, decode codes to waves.

    Waves are float tensors `[B, T]` in [-1, 1] at `sample_rate`; codes are int64
    tensors `[B, K, F]` with F = ceil(T / hop). A new codec is random: see `start`.
    """

    def __init__(self, config: CodecConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CodecConfig()
        self.encoder = Encoder(config)
        self.quantizer = ResidualVQ(
            config.codebooks, config.codebook_size, config.latent,
            config=VQConfig(decay=0.99, restart_below=0.2), weights=config.weights(),
        )  # fmt: skip
        self.decoder = Decoder(config)
        if config.semantic:
            self.phones = nn.Linear(config.semantic, config.phones)
        self.apply(start_weights)

    @torch.no_grad()
    def start(self, wave: Tensor, generator: torch.Generator | None = None) -> None:
        """Place all that can be placed before training, from clips `[B, T]` of speech.

        The latents become the principal components of log-mel spectra, and k-means
        places the codebooks. `generator` draws its first points.
        """
        mel, voice = self._features(wave)
        frames = mel.reshape(-1, self.config.fold * self.config.bands)
        mean = frames.mean(0)
        *_, directions = torch.linalg.svd(frames - mean, full_matrices=False)
        directions = directions[: self.config.spectrum]
        self.encoder.basis.weight.copy_(directions)
        self.encoder.basis.bias.copy_(-directions @ mean)
        self.decoder.basis.weight.copy_(directions.T)
        self.decoder.basis.bias.copy_(mean)
        # what the networks add begins at nothing, but for the semantic part
        self.encoder.out.weight[: self.config.spectrum] = 0
        nn.init.zeros_(self.decoder.head.weight)
        self.quantizer.start(self.encoder(mel, voice), generator)

    def _features(self, wave: Tensor) -> tuple[Tensor, Voice]:
        return self.encoder.features(self._padded(wave))

    def latents(self, wave: Tensor) -> Tensor:
        return self.encoder(*self._features(wave))

    def forward(self, wave: Tensor, quantize: bool = True) -> Coded:
        """Encode and decode `wave` `[B, T]` for training; returns T samples.

        With `quantize` False the latents go straight to the decoder.
        """
        mel, voice = self._features(wave)
        latents = vectors = self.encoder(mel, voice)
        codes, commitment, scores = None, latents.new_zeros(()), None
        if quantize:
            vectors, codes, commitment = self.quantizer(latents)
        if self.config.semantic:
            *_, semantic = self.config.split(latents)
            if quantize:  # read off the first level alone
                chosen = self.quantizer.levels[0].decode(codes[:, 0])
                semantic = straight_through(self.config.split(chosen)[2], semantic)
            scores = self.phones(semantic)
        controls = self.decoder.controls(vectors)
        off = detuned(controls.pitch, voice)
        decoded = self.decoder.render(controls, self.decoder.start(controls))
        return Coded(decoded[:, : wave.shape[1]], codes, commitment, off, scores)
