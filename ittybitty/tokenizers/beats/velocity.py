"""Velocity codes: one of 512 tokens for each cell, learnt by a vector-quantised autoencoder [1, 2].

    rows (B, 48) of velocity, mask (B, 48) of what sounds
      encoder  linear(mean) + spread * MLP([velocity - mean, mask, mean])   -> z (B, Z)
      VQ       nearest of 512 codes, by moving average, dead codes revived from the batch
      decoder  h = MLP([code, mask]);  head([h, mask]) + linear(code) -> velocity / 127 (B, 48)

Mean and spread are those of the sounding frames: cells of one velocity, four in five, lie on a line whatever their mask.

As published [3]: the mask goes into the decoder twice, at its first projection and beside its last layer, so that all of
the code is left for velocity; the loss is the squared error over sounding frames only; the codebook is ResidualVQ of
vector-quantize-pytorch with one quantizer; pieces of one velocity (engraved scores) teach it nothing and are left out.
Rows of another number of frames are brought to the network's by nearest resampling, one function for training and coding.

Training has two halves. In the first, noise of deviation 1 replaces the quantizer, and a penalty on the size of z replaces the
limit of 512 codes [4]: the network learns a resolution for each kind of cell before there is a codebook. In the second half the
codebook starts from k-means of a large batch, and everything is trained together. In the first half, half of each batch is drawn
by how often rows occur and half evenly among different rows; otherwise the cells in which a key is struck twice, one in seven, are
not learnt in a reasonable time. Trained with a quantizer from the start for as long, the error is 0.78 MIDI steps, most of it in
such cells.

Rows and random numbers of a step depend on (seed, step) alone, so that an interrupted run is resumed exactly.

[1] van den Oord et al. 2017, Neural Discrete Representation Learning. [2] Dhariwal et al. 2020, Jukebox, for the revival
of dead codes. [3] Published model card of backbone_base_kmeans, "Key design decisions". [4] Ballé, Laparra & Simoncelli 2017,
End-to-end optimized image compression, section 3.
Left out: velocity of keys that do not sound, which nothing scores.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from vector_quantize_pytorch import ResidualVQ

from ... import paths
from ...errors import CorpusError, TokenizerError
from .grid import FRAMES
from .vocabulary import VELOCITIES

LOUDEST = 127
UNIT = 30.0  # size of z in which the noise has deviation 1, at the start
KMEANS_BATCHES = 16  # that the codebook begins with
FIX = "take an undamaged copy, or train it again with `ittybitty beats velocity`"


@dataclass(frozen=True)
class VelocityConfig:
    """Shape of the network."""

    frames: int = FRAMES  # that it reads; other rows are resampled
    width: int = 192  # of the hidden layers
    latent: int = 3  # Z
    codes: int = VELOCITIES
    decay: float = 0.99  # of the codebook's moving average
    dead_below: float = 0.2  # a code that fewer rows of a batch choose, on average, is revived


@dataclass(frozen=True)
class VelocityRecipe:
    """How it is trained."""

    steps: int = 6000  # both halves
    batch_size: int = 2048  # rows a step
    even_share: float = 0.5  # of them drawn evenly among different rows, in the first half
    learning_rate: float = 2e-3  # of the first half; falls to a fiftieth on a cosine
    quantized_learning_rate: float = 6e-4  # of the second, likewise
    rate_price: float = 2e-6  # of z squared, where noise stands for the quantizer
    commitment: float = 1e-7
    seed: int = 0


class VelocityVQ(nn.Module):
    """The network; `codes` and `velocities` are its two directions on NumPy arrays."""

    def __init__(self, config: VelocityConfig = VelocityConfig()):
        super().__init__()
        self.config = config
        n, w, z = config.frames, config.width, config.latent
        self.encoder = nn.Sequential(nn.Linear(2 * n + 1, w), nn.SiLU(), nn.Linear(w, w), nn.SiLU(), nn.Linear(w, z))
        self.level = nn.Linear(1, z, bias=False)
        self.common = nn.Linear(z, 1)
        self.quantizer = ResidualVQ(
            dim=z,
            num_quantizers=1,
            codebook_size=config.codes,
            decay=config.decay,
            threshold_ema_dead_code=config.dead_below,
            kmeans_init=True,
            kmeans_iters=10,
        )
        self.decoder = nn.Sequential(nn.Linear(z + n, w), nn.SiLU(), nn.Linear(w, w), nn.SiLU())
        self.head = nn.Linear(w + n, n)

    def latents(self, velocity: Tensor, mask: Tensor) -> Tensor:
        """(B, Z) of velocity (B, F) in 0..1 and mask (B, F)."""
        frames = mask.sum(-1, keepdim=True).clamp(min=1)
        mean = (velocity * mask).sum(-1, keepdim=True) / frames
        differences = (velocity - mean) * mask * 4  # of the order of the mean
        spread = differences.abs().sum(-1, keepdim=True) / frames
        return UNIT * (self.level(mean) + spread * self.encoder(torch.cat([differences, mask, mean], -1)))

    def reconstruct(self, code: Tensor, mask: Tensor) -> Tensor:
        """Velocity (B, F) in 0..1 from code vectors (B, Z) and mask (B, F)."""
        code = code / UNIT
        return self.head(torch.cat([self.decoder(torch.cat([code, mask], -1)), mask], -1)) + self.common(code)

    def forward(self, velocity: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(reconstruction (B, F), codes (B,), commitment loss)."""
        quantized, codes, loss = self.quantizer(self.latents(velocity, mask)[None])
        return self.reconstruct(quantized[0], mask), codes[0, :, 0], loss.sum()

    def noisy(self, velocity: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(reconstruction (B, F) from z with noise for the quantizer, mean squared size of z)."""
        z = self.latents(velocity, mask)
        return self.reconstruct(z + torch.randn_like(z), mask), z.square().sum(-1).mean()

    @torch.no_grad()
    def codes(self, rows: np.ndarray, batch: int = 65_536) -> np.ndarray:
        """(n,) codes 0..511 of rows (n, frames) of MIDI velocity, 0 where silent."""
        rows = resample(np.asarray(rows), self.config.frames)
        found = [np.empty(0, np.int64)]
        for start in range(0, len(rows), batch):
            velocity, mask = _tensors(rows[start : start + batch])
            found.append(self.quantizer(self.latents(velocity, mask)[None])[1][0, :, 0].numpy())
        return np.concatenate(found)

    @torch.no_grad()
    def velocities(self, codes: np.ndarray, sounding: np.ndarray) -> np.ndarray:
        """(n, frames) float MIDI velocity 1..127 for codes (n,) where `sounding` (n, frames) is True, 0 elsewhere."""
        frames = sounding.shape[-1]
        mask = torch.from_numpy(resample(np.asarray(sounding), self.config.frames).astype(np.float32))
        vectors = self.quantizer.get_output_from_indices(torch.as_tensor(np.asarray(codes, np.int64))[None, :, None])[0]
        made = resample((self.reconstruct(vectors, mask) * LOUDEST).numpy(), frames)
        return np.where(sounding, made.clip(1, LOUDEST), 0)

    @property
    def content_hash(self) -> str:
        """Of shape and weights."""
        content = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            content.update(name.encode() + value.contiguous().numpy().tobytes())
        return content.hexdigest()[:16]

    def to_bytes(self) -> bytes:
        """Weights as safetensors with the shape in its header."""
        return save(
            {k: v.contiguous() for k, v in self.state_dict().items()}, {"config": json.dumps(asdict(self.config))}
        )

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "the velocity code") -> VelocityVQ:
        """The network of `to_bytes`; TokenizerError when it is damaged."""
        try:
            size = int.from_bytes(data[:8], "little")
            config = VelocityConfig(**json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["config"]))
            model = cls(config)
            model.load_state_dict(load(data))
        except Exception as error:  # safetensors, json and torch each have their own errors for a damaged file
            raise TokenizerError(f"{name}: is not a velocity code ({type(error).__name__}); {FIX}") from None
        return model.eval()

    def write(self, path: str | Path) -> None:
        """Write the safetensors file, atomically."""
        with paths.atomic_path(Path(path)) as temporary:
            temporary.write_bytes(self.to_bytes())

    @classmethod
    def read(cls, path: str | Path) -> VelocityVQ:
        """The network in a file; TokenizerError when it is missing or damaged."""
        try:
            return cls.from_bytes(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise TokenizerError(f"{path}: cannot be read ({error.strerror}); {FIX}") from None


def resample(rows: np.ndarray, frames: int) -> np.ndarray:
    """Rows (n, any) at the nearest `frames` frames: frame i is that of floor(i · any / frames), as F.interpolate's "nearest"."""
    return rows if rows.shape[-1] == frames else rows[..., np.arange(frames) * rows.shape[-1] // frames]


def _tensors(rows: np.ndarray) -> tuple[Tensor, Tensor]:
    mask = torch.from_numpy((rows > 0).astype(np.float32))
    return torch.from_numpy(rows.astype(np.float32) / LOUDEST), mask


def masked_mse(made: Tensor, velocity: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over sounding frames; what a silent frame is made into does not count."""
    return ((made - velocity).square() * mask).sum() / mask.sum().clamp(min=1)


def mean_absolute_error(model: VelocityVQ, rows: np.ndarray, counts: np.ndarray, batch: int = 65_536) -> float:
    """MIDI steps between velocity and what its code decodes to, over the sounding frames of rows (n, 48) that occur `counts` times."""
    error = frames = 0.0
    for start in range(0, len(rows), batch):
        part, times = rows[start : start + batch], counts[start : start + batch, None]
        made = model.velocities(model.codes(part), part > 0)
        error += float((np.abs(made - part) * times).sum())
        frames += float(((part > 0) * times).sum())
    return error / max(frames, 1)


def train(
    rows: np.ndarray,
    counts: np.ndarray,
    recipe: VelocityRecipe = VelocityRecipe(),
    config: VelocityConfig = VelocityConfig(),
    state: str | Path | None = None,
    save_every: int = 500,
    on_step: Callable[[int, float], None] | None = None,
) -> VelocityVQ:
    """A velocity code from different rows (n, 48) and how often each occurs.

    With a file `state` the training is saved there every `save_every` steps and resumed from it. `on_step` is given each
    step's number and mean absolute error on its batch, in MIDI steps. CorpusError when no row sounds.
    """
    if not len(rows):
        raise CorpusError(
            "no cell of these pieces has a velocity to learn from (engraved scores have one velocity); give performances"
        )
    torch.manual_seed(recipe.seed)
    model = VelocityVQ(config)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    step = _resume(state, model, optimizer, recipe, rows, counts) if state and Path(state).exists() else 0
    cumulated, half = np.cumsum(counts), recipe.steps // 2
    model.train()
    while step < recipe.steps:
        random = np.random.default_rng([recipe.seed, step])
        torch.manual_seed(int(random.integers(2**62)))  # for the noise and the revival of codes
        drawn = _draw(
            cumulated,
            random,
            recipe.batch_size * (KMEANS_BATCHES if step == half else 1),
            recipe.even_share if step < half else 0.0,
        )
        velocity, mask = _tensors(resample(rows[drawn], config.frames))
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(recipe, step, half)
        if step < half:
            made, size = model.noisy(velocity, mask)
            price = recipe.rate_price * size
        else:
            made, _, commitment = model(velocity, mask)
            price = recipe.commitment * commitment
        loss = masked_mse(made, velocity, mask) * LOUDEST + price
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if on_step:
            on_step(step, float(((made.detach() - velocity).abs() * mask).sum() / mask.sum()) * LOUDEST)
        if state and (step % save_every == 0 or step == recipe.steps):
            _save(state, model, optimizer, recipe, rows, counts, step)
    return model.eval()


def _draw(cumulated: np.ndarray, random: np.random.Generator, size: int, even: float) -> np.ndarray:
    """Indices of rows: the first `even` of them evenly, the others by how often they occur."""
    drawn = np.searchsorted(cumulated, random.integers(cumulated[-1], size=size), side="right")
    evenly = int(size * even)
    drawn[:evenly] = random.integers(len(cumulated), size=evenly)
    return drawn


def _learning_rate(recipe: VelocityRecipe, step: int, half: int) -> float:
    """A warm-up of 50 steps and a cosine in each half."""
    peak, place, length = (
        (recipe.learning_rate, step, half)
        if step < half
        else (recipe.quantized_learning_rate, step - half, recipe.steps - half)
    )
    return peak * min(1, (place + 1) / 50) * (0.02 + 0.98 * (1 + math.cos(math.pi * place / length)) / 2)


def _identity(recipe: VelocityRecipe, config: VelocityConfig, rows: np.ndarray, counts: np.ndarray) -> str:
    content = hashlib.sha256(json.dumps([asdict(recipe), asdict(config)]).encode() + rows.tobytes() + counts.tobytes())
    return content.hexdigest()[:16]


def _save(
    path, model: VelocityVQ, optimizer, recipe: VelocityRecipe, rows: np.ndarray, counts: np.ndarray, step: int
) -> None:
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for place, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": value.contiguous() for name, value in values.items()}
    header = {"step": str(step), "of": _identity(recipe, model.config, rows, counts)}
    with paths.atomic_path(Path(path)) as temporary:
        temporary.write_bytes(save(tensors, header))


def _resume(path, model: VelocityVQ, optimizer, recipe: VelocityRecipe, rows: np.ndarray, counts: np.ndarray) -> int:
    """Steps that the training in `path` had taken; TokenizerError when it is of other cells or another recipe."""
    try:
        data = Path(path).read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        tensors = load(data)
        if header["of"] != _identity(recipe, model.config, rows, counts):
            raise TokenizerError(
                f"{path}: is a training of other cells or another recipe; delete it, or give another --out"
            )
        model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
        values: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, place, key = name.split(".")
                values.setdefault(int(place), {})[key] = value
        optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
        return int(header["step"])
    except TokenizerError:
        raise
    except Exception as error:  # safetensors, json and torch each have their own errors for a damaged file
        raise TokenizerError(f"{path}: is no training that can go on ({type(error).__name__}); delete it") from None
