"""Trains on a GPU that is available for a few minutes: one command, prepared and tested on a machine without one.

    ittybitty gpu pack --out tokens.pack                  on this machine: all of MAESTRO as tokens, below 30 MB
    ittybitty gpu run tokens.pack --out DIR --plan        lists the steps, their times and the figures expected
    ittybitty gpu run tokens.pack --out DIR --seconds 540 on the GPU machine: check, time, train, write the result
    ittybitty gpu install DIR --data ~/music              on this machine: join the files, evaluate on a CPU, write the card, install
    ittybitty gpu release NAME --out DIR --name small     files for a server, from which `ittybitty fetch small` installs

Words of this package and of its files:

    visit        one call of `ittybitty gpu run` on the machine with the GPU
    parcel       the result of a visit: the folder DIR/home, small enough to be copied back
    card         the GPU (a model card is always called so)
    race         the timing of every way to run a training step, of which the fastest is used
    floor        the least time that a kernel can take on a card

    tokens.py    token folders packed for transport, and unpacked
    plan.py      the steps, each one's share of the budget, and the recipe of each row
    forecast.py  `--plan`: what would run, and the figures expected
    floors.py    operations and bytes of every kernel: the time a step needs at least
    bound.py     a lower bound on the time of any kernel of the selective scan
    run.py       runs each step in a process; when a step fails, the others go on
    step.py      what such a process runs: unpack, check, race, train, or home, which writes the parcel
    check.py     compares every scan path, convolution, heads and greedy tokens with a reference
    race.py      measures tokens per second of a training step by path, precision, batch and mode
    training.py  a training that ends with its share of the budget
    parcel.py    at most eight files of at most 15 MB: float16 weights, logs, results
    install.py   a parcel -> run folders, figures, card, a model that is installed

Everything between `run` and the parcel needs Python, torch, triton, numpy, safetensors and tqdm, and nothing else.
No card was available when this was written. The kernels are compiled for sm_75 and sm_90 and compared with PyTorch in Triton's
interpreter, and the whole command is rehearsed on a CPU. CUDA graphs, torch.compile on CUDA and every figure of `--plan` have
not been tried on a card.

Left out: renting, reaching or paying for the machine.
"""
