"""Reads and writes run folders: all that a model needs to be used, and all that a training needs to be resumed.

    config.json          format, system, preset, model, data, train, tokenizer hash, metrics; and trained_on, the
                         {"corpus", "licence"} of each corpus that the model was trained on, if that is known
    tokenizer.json
    model.safetensors    the best weights by validation (or model-0000i-of-0000n.safetensors with an index)
    last/                model.safetensors, optimizer.safetensors, state.json: what --resume starts from
    log.jsonl            the training log, one record per line

folder.py finds and loads a run folder; last.py writes and reads what a resumed training needs, so that a kill at any moment
leaves a complete checkpoint; tensors.py reads and writes safetensors. Nothing is unpickled: tensors are safetensors and
numbers are JSON, so reading a file never runs code.

Left out: a history of checkpoints; a run keeps its best weights and its last checkpoint.
"""

from __future__ import annotations

from .folder import (
    INDEX,
    Loaded,
    check_tokenizer,
    find,
    load,
    opened,
    read_arrays,
    read_config,
    read_weights,
    save_model,
    write_config,
)
from .last import FILES, FORMAT, LAST, MODEL, PREVIOUS, WRITING, Last, newest, restore, save_last, settle
from .tensors import put_weights, read_tensors, weights, weights_hash, write_tensors

__all__ = [
    "FILES",
    "FORMAT",
    "INDEX",
    "LAST",
    "MODEL",
    "PREVIOUS",
    "WRITING",
    "Last",
    "Loaded",
    "check_tokenizer",
    "find",
    "load",
    "newest",
    "opened",
    "put_weights",
    "read_arrays",
    "read_config",
    "read_tensors",
    "read_weights",
    "restore",
    "save_last",
    "save_model",
    "settle",
    "weights",
    "weights_hash",
    "write_config",
    "write_tensors",
]
