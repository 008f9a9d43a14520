"""The beat-aligned encoding: patterns of a key within a beat, by a hierarchical k-means codebook, and velocity by a VQ-VAE.

    grid.py        a performance with beats <-> cells of 48 frames
    codebook.py    patterns of cells <-> ids, three levels of k-means
    velocity.py    velocity of a cell <-> one of 512 codes (torch; imported when it is first needed)
    vocabulary.py  the 4,789 ids and what each means
    tokenizer.py   performances <-> sequences; grammar.py  which id may come next, notes beat by beat
    cells.py       all cells of a split in one file, to learn from
    estimate.py    beats where there are no annotations

[1] Published model card of backbone_base_kmeans: "Beat-aligned Piano LM with Hierarchical k-means + Velocity VQ".
"""

from .tokenizer import VARIANTS, BeatTokenizer, Settings

__all__ = ["VARIANTS", "BeatTokenizer", "Settings"]
