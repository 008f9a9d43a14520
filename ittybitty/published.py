"""Settings of published systems as their sources state them, for the preset "published" of systems.py.

What a source does not state is noted here. Numbers in brackets are systems.SOURCES.
"""

from __future__ import annotations

NO_AUGMENTATION = {"data.pitch_shift": 0, "data.velocity_shift": 0, "data.tempo_stretch": 0.0}

# [1]: 6 groups, width 512, 8 heads, 2,000 tokens, context 1,024, smoothing 0.1, cosine after 200 steps of warm-up, batch 64 on
# two T4, about 235 epochs: all of it `small`. Augmentation is not mentioned.
HYBRID_RECIPE = {"data.tokenizer": "remi-published", **NO_AUGMENTATION, "train.epochs": 235}

# [2] and the runs behind it. Length of the windows and warm-up are not stated.
MAMBA_RECIPE = {
    "model.pattern": "MMMMMM", "model.d_model": 2048, "model.d_state": 128, "model.d_conv": 4, "model.expand": 2,
    "model.vocab_size": 20_000, "model.tied_head": False,
    **NO_AUGMENTATION,
    "train.epochs": 60, "train.patience": 5, "train.batch_size": 1, "train.learning_rate": 1e-4, "train.warmup": 0,
    "train.schedule": "stairs", "train.decay": 0.1, "train.decay_epochs": 3, "train.label_smoothing": 0.0,
    "train.weight_decay": 0.0, "train.beta2": 0.999,  # Adam
}  # fmt: skip  # settings grouped by the part they belong to

# [3], all rows: two transposed copies of each piece within ±6 semitones, AdamW, clip 1.0, cosine. Weight decay and betas are not
# stated: PyTorch's defaults. Epochs are V8's; of V2-V6 they are not stated.
EIGHT_MODELS = {
    "data.copies": 2, "data.pitch_shift": 6, "data.velocity_shift": 0, "data.tempo_stretch": 0.0,
    "train.epochs": 100, "train.clip": 1.0, "train.min_learning_rate": 0.0, "train.label_smoothing": 0.0,
    "train.weight_decay": 0.01, "train.beta2": 0.999,
}  # fmt: skip  # settings grouped by the part they belong to
LSTM_RECIPE = {
    **EIGHT_MODELS,
    "data.context": 100, "data.stride": 1,
    "train.batch_size": 256, "train.learning_rate": 4e-3, "train.warmup": 0, "train.patience": 10,
}  # fmt: skip  # settings grouped by the part they belong to
LLAMA_RECIPE = {
    **EIGHT_MODELS,
    "model.d_model": 512, "model.n_layers": 8, "model.n_heads": 8, "model.d_ff": 2048,
    "model.attn_reach": 512,  # "512 max context at inference", of windows of 256
    "data.context": 256, "data.stride": 64,
    "train.batch_size": 128, "train.accumulation": 2,  # 64 x 2
    "train.learning_rate": 3e-4, "train.patience": 15,
}  # fmt: skip  # settings grouped by the part they belong to
EIGHT_SAMPLING = {"temperature": 0.8, "top_k": 50, "top_p": 0.95}
HYBRID_SAMPLING = {"temperature": 0.9, "top_k": 50, "top_p": 0.95}  # of the model card's call

# [4], both modes.
BEATS = {"model.family": "llama", "model.vocab_size": 4789, **NO_AUGMENTATION}
BEATS_SIZES = {
    "model.n_layers": (2, 4, 8, 10, 12),
    "model.d_ff": (64, 584, 1200, 2080, 2584),
    "model.d_model": (16, None, None, None, None),  # 4,789 embeddings alone are a nano model
}
BEATS_PUBLISHED = {
    "parameters": None,
    "vocabulary": 4789,
    "velocity_mae": 0.54,
    "status": "size, context and losses not stated",
}
