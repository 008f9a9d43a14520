# Each target sets up .venv by itself the first time. Another Python: make test PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PARITY := build/parity-venv
LATEX := pdflatex -interaction=nonstopmode -halt-on-error main.tex

.DEFAULT_GOAL := help
.PHONY: help gpu-tokens setup check reproduce test test-fast test-parity test-sanitizers fuzz kills nightly paper lab playground page page-picture kaggle-bundle kaggle-rehearsal clean

help:
	@echo "make reproduce   run every notebook at its small size; ends by saying where the new piece of music lies"
	@echo "make check       lint, format and types, in seconds"
	@echo "make test        run the tests"
	@echo "make test-fast   run the tests that take under a second each, in half a minute"
	@echo "make test-parity run our Mamba against mamba_ssm.Mamba, in an environment of its own (about 2 GB)"
	@echo "make test-sanitizers           the C++ under AddressSanitizer and UndefinedBehaviorSanitizer (half a minute)"
	@echo "make fuzz        100,000 mutated MIDI files; each gives music or one line (a quarter of an hour)"
	@echo "make kills       200 kills of a training, each resumed bit for bit (a quarter of an hour)"
	@echo "make nightly     both of these, and the sanitizers with more sizes: what takes too long for every change"
	@echo "make paper       build paper/main.pdf from the recorded results"
	@echo "make playground  choose, slide, watch, listen: a page in your browser, without a network"
	@echo "make page        build/piano.html: one file with a model inside, which continues music in any browser"
	@echo "make page-picture              draw README's picture of it anew (needs Chromium or Chrome)"
	@echo "make lab         open the notebooks in JupyterLab"
	@echo "make gpu-tokens  all of MAESTRO in two encodings, below 30 MB, for ittybitty gpu run"
	@echo "make kaggle-bundle OWNER=you   build what Kaggle is given (kaggle/README.md)"
	@echo "make kaggle-rehearsal          play two Kaggle sessions here, one of them killed"
	@echo "make clean       remove build/ and caches; .venv, runs/ and your data stay"

setup: $(READY)

$(READY): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Itty Bitty needs Python 3.11 or newer. Name one that you have: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV): a few minutes, once"
	@$(PYTHON) -m venv $(VENV) || { echo "No venv for $(PYTHON). On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install -c constraints.txt -e '.[notebooks,test,dev,kaggle]'
	@touch $@

reproduce: $(READY)
	@$(BIN)/ittybitty reproduce

# Two workers halve the time, but may fail to start on a busy machine, so errors are shown by a run without them.
check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --num-workers 2 >/dev/null 2>&1 || $(BIN)/mypy

# Files are shared among as many processes as there are cores, each with one thread, since more would fight for the cores.
# nbval, which only tests notebooks, takes a second of each process to start.
test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:nbval -n auto --dist loadfile

test-fast: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:nbval -n auto --dist loadfile -m "not slow" --durations 5

test-parity: $(PARITY)/.ready
	@$(PARITY)/bin/python -m pytest --noconftest -s tests/models/test_parity.py

# mamba-ssm without its CUDA code. It asks for a CUDA compiler unless told not to, and its set-up script imports torch;
# 2.3.1 asks for fewer packages than later releases.
$(PARITY)/.ready: constraints.txt
	@$(PYTHON) -m venv $(PARITY)
	@$(PARITY)/bin/python -m pip install -c constraints.txt torch numpy einops transformers pytest setuptools wheel packaging ninja
	@$(PARITY)/bin/python -m pip install --no-deps triton
	@MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE $(PARITY)/bin/python -m pip install --no-build-isolation --no-deps mamba-ssm==2.3.1
	@touch $@

# Python itself is not built with AddressSanitizer, so its library has to be loaded before all others; Python's own leaks
# are none of ours. PyTorch is closed to it: only our C++ is instrumented, and every allocation watched.
test-sanitizers: $(READY)
	@asan=$$($${CXX:-g++} -print-file-name=libasan.so) && test -e "$$asan" \
	  || { echo "No libasan.so: AddressSanitizer for Python needs g++ and its libasan (Debian, Ubuntu: apt install g++)"; exit 1; }; \
	LD_PRELOAD="$$asan" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=2 \
	  ITTYBITTY_NATIVE=sanitize ITTYBITTY_CACHE=build/sanitized PYTHONPATH=.:tests/models \
	  $(BIN)/python tests/models/odd_calls.py --more $(or $(MORE),0) --seed $(or $(SEED),0)

# A short run of these two is among the tests. Other files, or other moments, than last time: make fuzz SEED=100000, make kills SEED=1
fuzz: $(READY)
	@FUZZ_FILES=$(or $(FILES),100000) FUZZ_FIRST=$(or $(SEED),0) $(BIN)/python -m pytest -s tests/test_midi_fuzz.py

kills: $(READY)
	@TRAINING_KILLS=$(or $(KILLS),200) KILLS_SEED=$(or $(SEED),0) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/train/test_loop.py -k kills

nightly: fuzz kills
	@$(MAKE) test-sanitizers MORE=$(or $(MORE),200)

paper: $(READY)
	@$(BIN)/ittybitty reproduce --only figures
	@cd paper && if command -v latexmk >/dev/null; then latexmk -pdf -interaction=nonstopmode -halt-on-error main.tex; \
	elif command -v tectonic >/dev/null; then tectonic main.tex; \
	elif command -v pdflatex >/dev/null; then $(LATEX) && bibtex main && $(LATEX) && $(LATEX); \
	else echo "Figures and tables are up to date, but there is no LaTeX here to set paper/main.pdf. To get one:"; \
	  echo "  Debian, Ubuntu  apt install latexmk texlive-latex-recommended texlive-fonts-recommended texlive-publishers"; \
	  echo "  macOS           brew install tectonic"; \
	  echo "  anywhere        https://tectonic-typesetting.github.io"; fi
	@if test -f paper/main.pdf; then echo "paper/main.pdf"; fi

playground: $(READY)
	@$(BIN)/ittybitty playground

page: $(READY)
	@mkdir -p build
	@$(BIN)/ittybitty page -o build/piano.html

# Needs a Chromium or Chrome, and Playwright.
page-picture: $(READY)
	@$(BIN)/python -c 'import playwright' 2>/dev/null || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[browser]'
	@$(BIN)/python -m ittybitty.page.picture notebooks/page.png

lab: $(READY)
	@$(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks

# MAESTRO is taken from $ITTYBITTY_DATA, or from where ittybitty data fetch put it.
gpu-tokens: $(READY)
	@$(BIN)/ittybitty gpu pack --out build/tokens.pack

kaggle-bundle: $(READY)
	@test -n "$(OWNER)" || { echo "Your name on Kaggle is needed: make kaggle-bundle OWNER=you"; exit 1; }
	@$(BIN)/python kaggle/bundle.py --owner "$(OWNER)" $(if $(CONTINUE),--continue) $(if $(MAMBA),--mamba "$(MAMBA)") $(if $(WEIGHTS),--weights "$(WEIGHTS)")

# With the Python of .venv; where there is a python3.12, which is Kaggle's, once more with that.
kaggle-rehearsal: $(READY)
	@$(BIN)/python kaggle/rehearsal.py
	@if python3.12 -c '' 2>/dev/null && $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] == (3, 12))'; then \
	  $(MAKE) kaggle-rehearsal VENV=.venv-3.12 PYTHON=python3.12; fi

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
