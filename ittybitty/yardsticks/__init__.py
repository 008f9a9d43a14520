"""What else a model is measured by, beside its bits per note (evaluation.py): floors of skill, and ears made of numbers.

    baselines.py       the same table for what needs no network, by ngram.py (Kneser-Ney) and notelist.py (xz)
    trials.py          seeds continued by a model, and by the pianist: the material of the next two
    listening.py       music metrics of both; mgeval.py says how far one set of pieces is from another
    endurance.py       the same metrics along a continuation of ten thousand tokens
    memorisation.py    what of it stands in the training pieces

Left out: what a figure is compared with; that is the paper's.
"""
