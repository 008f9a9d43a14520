"""A language model that takes one step of its backbone per event, and predicts the parts of the next event one by one.

Ids come flat, four for each event (tokenizers/events): time t, what w, duration d, velocity v. The input of step j is the sum
of the embeddings of event j's four ids. From its output h_j (B, D) small heads predict the next event, each conditioned on the parts
before it, so that the probability of an event is exact by the chain rule:

    p(event) = p(t | past) p(w | past, t) p(d | past, t, w) p(v | past, t, w, d)

    h⁰ = norm(backbone(…))                          the events before
    hⁱ⁺¹ = hⁱ + conditionᵢ(part i)                   also part i of this event
    p(part i) = softmax(outᵢ(hⁱ + innerᵢ(hⁱ)))       innerᵢ: norm, matrix, GELU, matrix

Nested Music Transformer (Ryu et al. 2024, arXiv:2408.01180) has heads of this kind. Compound Word Transformer
(Hsiao et al. 2021) predicts the kind first and the rest independently, which is much worse (table of results in Ryu et al.).

The interface is that of LanguageModel: flat ids in, logits over all ids out, -inf for ids of another part. `step` with the
last id of an event runs the backbone; with any other id it only goes to the next head.

Letters as in layers.py; G = 4 ids per event, T events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..config import ModelConfig
from ..errors import ConfigError
from .layers import Backbone
from .lm import IGNORED, LanguageModel, _CrossEntropy
from .parts import BOS, DURATION, KEYS, NONE, PAD, VELOCITY, WHAT, G, classes_of, ids_before_an_event, starts_of
from .states import EventState


def with_other_classes(
    tensors: Mapping[str, torch.Tensor], ids: Sequence[int], sizes: Sequence[int], before: Sequence[int]
) -> dict[str, torch.Tensor]:
    """The weights of a model whose events had the classes `before`, for one whose events have `sizes`: a start for training.

    `ids` (V,) names for each new id the old one that means nearest the same (EventTokenizer.nearest_ids). Rows of the embedding, of
    the conditions and of the output matrices are copied. New classes that share an old one share its probability, by
    a bias of -log of their number. The backbone and the inner matrices of the heads stay as they are.
    """
    old = torch.as_tensor(np.asarray(ids, np.int64))
    found = dict(tensors)
    found["embedding.weight"] = tensors["embedding.weight"][old]
    for part, (start, first, count) in enumerate(zip(starts_of(sizes), starts_of(before), classes_of(sizes))):
        rows = old[start : start + count] - first
        kept = rows >= 0  # a class that the old model does not have
        rows = rows.clamp(min=0)
        shared = torch.bincount(rows[kept], minlength=classes_of(before)[part])[rows].clamp(min=1)
        out = f"head.out.{part}"
        bias = tensors[f"{out}.bias"].float()[rows] - shared.log()
        found[f"{out}.weight"] = tensors[f"{out}.weight"][rows] * kept[:, None]
        found[f"{out}.bias"] = torch.where(kept, bias, 0.0).to(tensors[f"{out}.bias"].dtype)
        if part < VELOCITY:
            found[f"head.condition.{part}.weight"] = tensors[f"head.condition.{part}.weight"][rows]
    return found


class EventHeads(nn.Module):
    """Four heads, one for each part of an event, each conditioned on the parts before it; see the module's text."""

    def __init__(self, sizes: tuple[int, ...], d_model: int):
        super().__init__()
        classes = classes_of(sizes)
        branches = [_inner(d_model) for _ in classes]
        outputs = [nn.Linear(d_model, n) for n in classes]
        conditions = [nn.Embedding(n, d_model) for n in classes[:-1]]
        for output in outputs:
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)
        for branch in branches:
            nn.init.zeros_(cast(nn.Linear, branch[-1]).weight)
        for condition in conditions:
            nn.init.normal_(condition.weight, std=0.1)
        self.inner, self.out = nn.ModuleList(branches), nn.ModuleList(outputs)
        self.condition = nn.ModuleList(conditions)

    def forward(self, h: torch.Tensor, part: int) -> torch.Tensor:
        """(…, D) conditioned on the parts before -> logits (…, classes of the part)."""
        return self.out[part](h + self.inner[part](h))

    def tell(self, h: torch.Tensor, part: int, classes: torch.Tensor) -> torch.Tensor:
        """(…, D) and (…) classes of a part -> (…, D) conditioned on that part, too."""
        return h + self.condition[part](classes)


def _inner(D: int) -> nn.Sequential:
    return nn.Sequential(
        nn.RMSNorm(D, eps=1e-5), nn.Linear(D, 2 * D, bias=False), nn.GELU(), nn.Linear(2 * D, D, bias=False)
    )


class EventModel(LanguageModel):
    """Language model with one step per event: the sum of an event's embeddings, any backbone, heads for the next event."""

    embedding: nn.Embedding
    head: EventHeads

    def __init__(self, backbone: Backbone, config: ModelConfig, norm: nn.Module | None, d_in: int, d_out: int):
        sizes = config.events
        if len(sizes) != G or min(sizes) < 1 or sizes[WHAT] not in (KEYS, KEYS + 2):
            raise ConfigError(
                f"model.events is {sizes}: give the classes of time, what (88, or 90 with pedal), duration, velocity"
            )
        if config.vocab_size != BOS + 2 + sum(sizes):
            raise ConfigError(
                f"model.vocab_size is {config.vocab_size}: events {sizes} have {BOS + 2 + sum(sizes)} ids"
            )
        super().__init__(backbone, config, nn.Embedding(config.vocab_size, d_in), norm, EventHeads(sizes, d_out))
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.d_out = d_out
        self.starts, self.classes = starts_of(sizes), classes_of(sizes)

    # ------------------------------------------------------------------ events and ids

    def _lead(self, ids: torch.Tensor) -> int:
        """Number of ids of the first row before its first event boundary: 0 … 3. It must be the same for all rows."""
        return ids_before_an_event(ids[0, :2].tolist(), self.starts)

    def _grouped(self, ids: torch.Tensor, lead: int) -> torch.Tensor:
        """(B, L) -> (B, T, G) complete events; ids before the first boundary become an event that begins with PAD."""
        padded = F.pad(ids, (-lead % G, 0), value=PAD)
        return padded[:, : padded.shape[1] // G * G].unflatten(1, (-1, G))

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(…, G) -> (…, D), the sum of the embeddings; PAD adds nothing."""
        vectors = self.embedding(ids)
        return (vectors * (ids != PAD)[..., None]).sum(-2)

    def _class(self, ids: torch.Tensor, part: int) -> torch.Tensor:
        """Class of each id within its part; undefined for an id of another part."""
        return (ids - self.starts[part]).clamp(0, self.classes[part] - 1)

    # ------------------------------------------------------------------ all at once

    def forward(self, ids: torch.Tensor, targets: torch.Tensor | None = None, label_smoothing: float = 0.0) -> Any:
        """(B, L) ids -> logits (B, L, V), or with targets the sums (training loss, nats, number of targets), each of shape (1,)."""
        if targets is None:
            return self._logits(ids, None, None)
        lead = self._lead(ids)
        h = self.norm(self.backbone(self._embed(self._grouped(ids, lead))))  # (B, T, D)
        h = torch.cat([torch.zeros_like(h[:, :1]), h], dim=1)  # nothing comes before the first event
        known = torch.cat([ids, targets[:, -1:].clamp(min=PAD)], dim=1)
        left, right = -lead % G, -(known.shape[1] - lead) % G
        y = F.pad(known, (left, right), value=PAD).unflatten(1, (-1, G))  # (B, T + 1, G)
        scored = F.pad(targets != IGNORED, (left + 1, right)).unflatten(1, (-1, G))
        h, skip = h[:, : y.shape[1]], int(lead == 1)  # a first event without targets is not scored
        h, y, scored = (a[:, skip:].flatten(0, 1) for a in (h, y, scored))
        loss, nats = self._loss(h, y, scored, label_smoothing)
        return loss.view(1), nats.view(1), (targets != IGNORED).sum().view(1)

    def _loss(self, h: torch.Tensor, y: torch.Tensor, scored: torch.Tensor, label_smoothing: float):
        """(training loss, nats) summed over events: h (n, D) before each, its ids y (n, G), which of them are scored (n, G)."""
        loss = nats = h.new_zeros((), dtype=torch.float32)
        for part in range(G):
            if part == DURATION:  # a pedal movement has no duration and velocity: NONE is certain and costs nothing
                note = (y[:, WHAT] - self.starts[WHAT] < KEYS) & (y[:, DURATION] != NONE)
                keep = note & scored[:, DURATION:].any(1)
                h, y, scored = h[keep], y[keep], scored[keep]
            goal = torch.where(scored[:, part], self._class(y[:, part], part), IGNORED)
            sums = _CrossEntropy.apply(self.head(h, part).float(), goal, label_smoothing)
            loss, nats = loss + sums[0], nats + sums[1]
            if part < VELOCITY:
                h = self.head.tell(h, part, self._class(y[:, part], part))
        return loss, nats

    def _logits(self, ids: torch.Tensor, state: EventState | None, last_only: bool | None):
        """Logits (B, L, V) of the id after each id; a `state` is that before `ids`, and is updated in place."""
        B, L = ids.shape
        before = [] if state is None else state.ids
        if before:
            ids, lead = torch.cat([torch.stack(before, 1), ids], 1), 0
        else:
            lead = self._lead(ids)
        shift = -lead % G
        events = self._grouped(ids, lead)  # (B, T, G)
        first = self.embedding.weight.new_zeros(B, 1, self.d_out) if state is None else state.h[:, None]
        if events.shape[1]:
            x = self._embed(events)
            h = self.norm(self.backbone(x, state.backbone) if state is not None else self.backbone(x))
            h = torch.cat([first.to(h.dtype), h], dim=1)  # (B, T + 1, D)
        else:
            h = first
        rest = F.pad(ids, (shift, 0), value=PAD)[:, events.shape[1] * G :]  # ids of an event that has begun
        if state is not None:
            state.h, state.ids = h[:, -1], list(rest.unbind(1))
            state.told = self._told(state.h, state.ids)
        y = torch.cat([events, F.pad(rest, (0, G - rest.shape[1]), value=PAD)[:, None]], dim=1)  # (B, T + 1, G)
        if last_only:
            part = rest.shape[1]
            return self._full(self.head(self._told(h[:, -1], list(rest.unbind(1))), part), part, list(rest.unbind(1)))
        found, told = [], h
        for part in range(G):
            known = list(y[..., :part].unbind(-1))
            found.append(self._full(self.head(told, part), part, known))
            if part < VELOCITY:
                told = self.head.tell(told, part, self._class(y[..., part], part))
        logits = torch.stack(found, dim=2).flatten(1, 2)  # (B, (T + 1) G, V): for each position
        start = shift + len(before) + 1
        return logits[:, start : start + L]

    def _told(self, h: torch.Tensor, ids: list[torch.Tensor]) -> torch.Tensor:
        for part, id in enumerate(ids):
            h = self.head.tell(h, part, self._class(id, part))
        return h

    def _full(self, logits: torch.Tensor, part: int, known: list[torch.Tensor]) -> torch.Tensor:
        """(…, classes) of a part -> (…, V), -inf elsewhere; NONE is certain where a pedal movement has no such part."""
        start = self.starts[part]
        full = logits.new_full((*logits.shape[:-1], self.config.vocab_size), -torch.inf)
        full[..., start : start + self.classes[part]] = logits
        if part >= DURATION:
            pedal = known[WHAT] - self.starts[WHAT] >= KEYS
            if part == VELOCITY:  # also if a window begins within the event
                pedal = pedal | (known[DURATION] == NONE)
            full = torch.where(pedal[..., None], -torch.inf, full)
            full[..., NONE] = torch.where(pedal, 0.0, -torch.inf).to(full.dtype)
        return full

    # ------------------------------------------------------------------ one id after the other

    def init_state(self, batch_size: int = 1) -> EventState:
        """The state before the first event of `batch_size` pieces."""
        h = self.embedding.weight.new_zeros(batch_size, self.d_out)
        return EventState(self.backbone.init_state(batch_size), h, h)

    def read(self, ids: torch.Tensor, state: EventState) -> torch.Tensor:
        """Read (B, L) ids in parallel and update `state` in place; logits (B, L, V) of the id after each of them."""
        return self._logits(ids, state, False)

    def prefill(self, ids: torch.Tensor, state: EventState) -> torch.Tensor:
        """Read (B, L) ids in parallel and update `state` in place; logits (B, V) of the id after the last one."""
        return self._logits(ids, state, True)

    def step(self, ids: torch.Tensor, state: EventState) -> torch.Tensor:
        """Read one id (B,) and update `state` in place; logits (B, V) of the next id."""
        row = int(ids[0])
        if row == BOS or len(state.ids) == VELOCITY:
            event = [*state.ids, ids] if row != BOS else [ids]
            whole = torch.stack([torch.full_like(ids, PAD)] * (G - len(event)) + event, dim=1)  # (B, G)
            state.h = self.norm(self.backbone.step(self._embed(whole), state.backbone))
            state.told, state.ids = state.h, []
        else:
            state.told = self.head.tell(state.told, len(state.ids), self._class(ids, len(state.ids)))
            state.ids = [*state.ids, ids]
        part = len(state.ids)
        return self._full(self.head(state.told, part), part, state.ids)

    @property
    def tied(self) -> bool:
        """False: the heads have matrices of their own."""
        return False
