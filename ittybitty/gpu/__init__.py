"""Ten minutes of a GPU: one command that is ready before the GPU is.

    ittybitty gpu pack --out tokens.pack                  here: all of MAESTRO as tokens, below 30 MB
    ittybitty gpu run tokens.pack --out DIR --plan        what would run, for how long, and the figures expected
    ittybitty gpu run tokens.pack --out DIR --seconds 540 there: check, race, train, bring home
    ittybitty gpu install DIR --data ~/music              here again: join, evaluate on a CPU, card, install

    tokens.py    token folders packed for the way, and unpacked
    plan.py      the steps, each one's share of the budget, and the recipe of each row
    forecast.py  `--plan`: what would run, and the figures expected
    floors.py    operations and bytes of every kernel: the time a step needs at least
    run.py       one process a step; a step that fails does not end the rest
    step.py      what such a process runs: unpack, check, race, train, home
    check.py     every scan path, convolution, heads and greedy tokens against the truth
    race.py      tokens a second of a training step, each path, precision, batch and mode
    training.py  a training that ends with its share of the budget
    parcel.py    at most eight files of at most 15 MB: float16 weights, logs, results
    install.py   a parcel -> run folders, figures, card, a model that is installed

Everything between `run` and the parcel needs Python, torch, triton, numpy, safetensors and tqdm, and nothing else.
Left out: renting, reaching or paying for the machine.
"""
