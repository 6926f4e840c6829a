# Every target builds its own environment first; nothing needs to be installed before.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ONE_THREAD := OMP_NUM_THREADS=1

.PHONY: install demo wheel test test-all test-cuda test-docs lint versions catalogue bench bench-gpu gate \
	gpu-rehearsal thin picture study ablation presets battery cmps findings site clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	$(BIN)/python -m pip check
	touch $@

demo: install
	$(BIN)/vbench run --victim agw --attack fsam_uap
	$(BIN)/vbench run --victim agw --attack noise --attack metric_ifgsm --attack uap --attack fsam_uap --quiet

# Two processes of one thread each: tests are small, and threads that fight for cores are slower than one. A file
# goes to one of them, so that what its tests share is made once.
IN_TWO := -n 2 --dist loadfile --no-loadscope-reorder

test: install
	$(ONE_THREAD) $(BIN)/python -m pytest $(IN_TWO) tests

# With the slow ones too. Those of the Ray engine are skipped where Ray is not installed.
test-all: install
	$(ONE_THREAD) $(BIN)/python -m pytest $(IN_TWO) -m "slow or not slow" tests

# A wheel and an sdist in dist/, tried: are they complete, do they run without the checkout?
wheel: install
	rm -rf build dist
	$(BIN)/python -m build --outdir dist
	$(ONE_THREAD) $(BIN)/python tests/lint/wheel.py dist

# On a machine with a GPU: does it agree with the CPU, repeat itself, and go on when memory is short?
test-cuda: install
	$(BIN)/python -m pytest -n 0 -rs -m "cuda" tests/gpu

# The commands of README and docs/, for real: all that need neither real data nor a cluster. An hour or two.
test-docs: install
	$(ONE_THREAD) $(BIN)/python tests/docs/run_commands.py $(PAGES)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/lint/floors.py
	$(BIN)/python tests/lint/types.py

# Has an attack or a victim changed without its version number? Needs the whole history.
versions: install
	$(ONE_THREAD) $(BIN)/python tests/versions/check.py

# What built-in attacks and victims say of themselves, written down: after one of them was added or changed.
catalogue: install
	$(BIN)/python -m vbench.data.registry
	$(BIN)/python -m vbench.attacks.declare
	$(BIN)/python -m vbench.victims.registry

bench: install
	$(BIN)/python tests/bench/ranking_bench.py
	$(BIN)/python tests/bench/pipeline_bench.py
	$(BIN)/python tests/bench/content_bench.py
	$(BIN)/python tests/bench/victims_bench.py
	$(BIN)/python tests/bench/attacks_bench.py
	$(ONE_THREAD) $(BIN)/python tests/bench/sweep_bench.py

# Full-size victims, crafting, fitting, training and ranking on a GPU, each against the bare loop in the same run.
bench-gpu: install
	$(BIN)/python tests/bench/gpu_bench.py $(GPU_BENCH)

# The weights that come with vbench, trained anew: when their recipe, their victim or the drawn people change.
thin: install
	rm -rf victims/weights/*.safetensors build/thin
	VBENCH_CACHE=build/thin $(BIN)/vbench run --victim agw --attack noise --runs build/thin/runs
	mkdir -p victims/weights && cp build/thin/victims/*.safetensors victims/weights/

# The picture of the README, in docs/: half a minute.
picture: install
	rm -rf build/picture
	$(ONE_THREAD) $(BIN)/vbench run --victim agw --attack "fsam_uap[evaluations=3200]" --keep images --runs build/picture
	$(BIN)/python tests/bench/picture.py build/picture docs/ranking.png

# Are attacks as strong, and the victim as accurate, as tests/gate/baseline.json says?
gate: install
	$(ONE_THREAD) $(BIN)/vbench check tests/gate/baseline.json

# The universal attacks at equal cost: controls, ablation rows, both levels, three seeds, both directions.
study: install
	$(ONE_THREAD) PATH="$(abspath $(BIN)):$$PATH" sh tests/bench/study.sh

# The check for machines with a GPU, in small and on the CPU: does every phase still run? Ten minutes.
gpu-rehearsal: install
	rm -rf build/gpu
	$(ONE_THREAD) $(BIN)/python tests/gpu/gpu_check.py all --tiny --device cpu --deadline 3000 --out build/gpu --work build/gpu/work

# What makes a universal attack strong: the tables of docs/ablation.md, made again.
ablation: install
	$(ONE_THREAD) PATH="$(abspath $(BIN)):$$PATH" sh tests/bench/ablation.sh

# The settings behind preset=best, chosen on development identities, and the table of docs/presets.md. Hours.
presets: install
	$(ONE_THREAD) $(BIN)/python tests/bench/preset_search.py search
	$(ONE_THREAD) $(BIN)/python tests/bench/preset_search.py table
	$(ONE_THREAD) $(BIN)/python tests/bench/preset_search.py effort

# The members of the ensemble, chosen on development identities by how much each adds: docs/battery.csv.
battery: install
	$(ONE_THREAD) $(BIN)/python tests/bench/battery.py
	$(ONE_THREAD) $(BIN)/python tests/bench/battery.py figures

# From a plain universal perturbation to CMPS, one change at a time: docs/cmps.csv.
cmps: install
	$(ONE_THREAD) $(BIN)/python tests/bench/cmps_steps.py

# The measurements of docs/paper-findings.md: docs/paper_screening.csv and docs/paper_rows.csv. Many hours.
findings: install
	$(ONE_THREAD) $(BIN)/python tests/bench/paper_findings.py $(PART)

# The pages of docs/ as a static site, in site/. Its tools have an environment of their own: torchattacks wants an
# older version of requests than they do.
site:
	test -x build/docs/bin/python || $(PYTHON) -m venv build/docs
	build/docs/bin/python -m pip install --quiet -r docs/requirements.txt
	rm -rf build/api && mkdir -p build/api && cp -R benchmark build/api/vbench
	cp -R attacks victims reports build/api/vbench/
	build/docs/bin/mkdocs build

clean:
	rm -rf $(VENV) build dist *.egg-info
