"""Trains on a GPU that is available for a few minutes: one command, prepared and tested on a machine without one.

    ittybitty gpu pack --out tokens.pack                  here: all of MAESTRO as tokens, below 30 MB
    ittybitty gpu run tokens.pack --out DIR --plan        what would run, for how long, and the figures expected
    ittybitty gpu run tokens.pack --out DIR --seconds 540 there: check, time, train, write the result
    ittybitty gpu install DIR --data ~/music              here again: join, evaluate on a CPU, card, install
    ittybitty gpu release NAME --out DIR --name small     files for a server, from which `ittybitty fetch small` installs

    tokens.py    token folders packed for transport, and unpacked
    plan.py      the steps, each one's share of the budget, and the recipe of each row
    forecast.py  `--plan`: what would run, and the figures expected
    floors.py    operations and bytes of every kernel: the time a step needs at least
    bound.py     how near to its least traffic any kernel of the selective scan can come
    run.py       one process a step; a step that fails does not end the rest
    step.py      what such a process runs: unpack, check, race, train, home
    check.py     every scan path, convolution, heads and greedy tokens against the truth
    race.py      tokens a second of a training step, each path, precision, batch and mode
    training.py  a training that ends with its share of the budget
    parcel.py    at most eight files of at most 15 MB: float16 weights, logs, results
    install.py   a parcel -> run folders, figures, card, a model that is installed

Everything between `run` and the parcel needs Python, torch, triton, numpy, safetensors and tqdm, and nothing else.
No card was available when this was written. The kernels are compiled for sm_75 and sm_90 and compared with PyTorch in Triton's
interpreter, and the whole command is rehearsed on a CPU. CUDA graphs, torch.compile on CUDA and every figure of `--plan` have
not been tried on a card.

Left out: renting, reaching or paying for the machine.
"""
