"""The training of the shipped speech language model: text to speech in any voice."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as nnf

from speechlm_lab import layout, parallel
from speechlm_lab.codec import SHIPPED, Codec
from speechlm_lab.layout import Steps
from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.recipes.card import write_checkpoint
from speechlm_lab.recipes.lm import _fingerprint
from speechlm_lab.recipes.utterances import (
    UtteranceConfig,
    make_utterances,
    sample_steps,
)
from speechlm_lab.train import (
    TrainConfig,
    Training,
    seed_all,
    step_generator,
    train,
)


@dataclass(frozen=True)
class SpeechLMRecipe:
    """All that decides the outcome of a speech language model's training."""

    codec: str | None = None  # folder of the codec whose codes are learnt; shipped
    lm: LMConfig = field(
        default_factory=lambda: LMConfig(
            codebooks=6, texts=layout.TEXTS, roles=layout.ROLES
        )
    )
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=8_000,
            learning_rate=1.5e-3,
            warmup=100,
            betas=(0.9, 0.98),
            weight_decay=0.05,
            threads=1,
        )
    )
    data: UtteranceConfig = field(default_factory=UtteranceConfig)
    batch: int = 10  # utterances a step
    prompt: tuple[int, int] = (25, 125)  # frames of the voice, from, to
    mask: float = 0.15  # share of speech steps whose codes are blanked out
    without_text: float = 0.1  # share of sequences that leave the text out
    weights: tuple[float, ...] = (3.0, 2.0, 1.0, 0.7, 0.5, 0.4)  # of levels' losses
    text_weight: float = 1.0  # of the text stream's loss

    def __post_init__(self) -> None:
        if len(self.weights) != self.lm.codebooks:
            raise ValueError(
                f"{self.lm.codebooks} codebooks want as many loss weights, got "
                f"{len(self.weights)}"
            )

    def run(self, folder: Path, resume: bool = True) -> Training:
        """Train, measure and save; takes up what `folder` holds of this recipe."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(self.train.threads)
        codec = Codec.from_pretrained(self.codec or SHIPPED).eval()
        fingerprint = _fingerprint(self.codec)
        data = make_utterances(
            self.data, codec, self.lm.codebooks, folder / "utterances.npz", fingerprint
        )
        seed_all(self.train.seed)
        model = LanguageModel(self.lm)
        device = parallel.device()
        weights = torch.tensor([*self.weights, self.text_weight], device=device)
        weights /= weights.sum()

        def loss(step: int) -> dict[str, Tensor]:
            generator = step_generator(self.train.seed, step)
            steps = sample_steps(
                data, self.batch, self.prompt, self.lm.blank, self.without_text,
                generator,
            )  # fmt: skip
            steps = Steps(*[part.to(device) for part in steps])
            losses = steps_loss(model, steps, self.mask)
            names = [f"level_{k}" for k in range(len(losses) - 1)] + ["text"]
            total = (weights * losses).sum()
            return {"loss": total, **dict(zip(names, losses, strict=True))}

        # the recipe as the checkpoint keeps it, less what `train` adds itself
        settings = {k: v for k, v in asdict(self).items() if k != "train"}
        settings["codec"] = fingerprint
        training = train(model, loss, self.train, folder, settings, resume)
        if training.finished and parallel.rank() == 0:
            metrics = {}
            described = (
                f"TinyVoices, {len(data.speakers):,} utterances of "
                f"{self.data.speakers:,} voices, as codes of the codec whose weights "
                f"have SHA-256 {fingerprint[:12]}"
            )
            write_checkpoint(
                model.cpu(), "speechlm", str(self), described, metrics, training, folder
            )
        return training


def steps_loss(model: LanguageModel, steps: Steps, mask: float = 0.0) -> Tensor:
    """Cross-entropy in nats of each level and of the text stream, `[K + 1]`.

    `mask` is the share of speech steps that see no codes, in training, which makes the
    model listen to the text and the voice and not only to its last step.
    """
    codes, blank = steps.codes, model.config.blank
    speech = steps.roles == layout.SPEAK
    if mask:
        drop = torch.rand(speech.shape, device=speech.device) < mask
        codes = codes.masked_fill((drop & speech)[:, None], blank)
    x = model.hidden(model.embed(codes, steps.text, steps.roles))
    x = x[speech]  # nothing else is predicted
    wanted = steps.next_codes.transpose(1, 2)[speech]  # [N, K]
    losses = [
        nnf.cross_entropy(head(x), wanted[:, k], ignore_index=blank)
        for k, head in enumerate(model.heads)
    ]
    text = steps.next_text[speech]
    # where every text was left out there is nothing to learn, and a mean of nothing
    total = nnf.cross_entropy(
        model.text_head(x), text, ignore_index=layout.NO_TEXT, reduction="sum"
    )
    losses.append(total / (text != layout.NO_TEXT).sum().clamp(min=1))
    return torch.stack(losses)
