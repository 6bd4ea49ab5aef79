# Thin: every target is a command or two. `make deps` is run by the others; it does nothing where all is installed.
# PRESET: cuda where nvcc is found, else cpu. The binary is left at build/bin/quantize.
PRESET ?= $(shell command -v nvcc >/dev/null 2>&1 && echo cuda || echo cpu)
JOBS ?= $(shell nproc)
TARGETS = quantize
SMOLLM2 = build/models/smollm2-135m
export OMP_WAIT_POLICY = PASSIVE

.PHONY: deps build demo test test-peers test-sanitized fuzz torture torture-sample bench bench-quality
deps:
	@.ci/deps

build: deps
	cmake --preset $(PRESET) -B build
	cmake --build build -j $(JOBS) --target $(TARGETS)

# The main job on the embedded model: FP16 checkpoint in, 4-bit checkpoint out, report on the terminal.
demo: build
	build/bin/quantize --recipe recipes/awq.yaml --overwrite

# ctest's summary is the last thing printed. LABELS="unit e2e" narrows the choice.
test: TARGETS = all
test: build
	ctest --test-dir build --output-on-failure -j $(JOBS) $(if $(LABELS),-L "$(subst $() ,|,$(LABELS))",-LE slow)

# Our artefacts in consumers that need an environment of their own (some 5 GB each, made where it is missing).
test-peers: TARGETS = all
test-peers: build
	for peer in gptqmodel hqq spqr_quant llmc vllm llama_cpp; do tests/peer/environment.sh $$peer || exit 1; done
	ctest --test-dir build --output-on-failure -L peer

# The unit tests, all of the project instrumented: addresses and undefined behaviour; then threads, where there are any of ours
# (tests/sanitized/README.md). Each is a build of its own. SANITIZED="base eval" takes those
# programs, TSAN= leaves threads out.
SANITIZED ?= programs
TSAN ?= base model calib_driver apps_quantize_journal
test-sanitized: deps
	cmake --preset sanitized
	cmake --build build/sanitized -j $(JOBS) --target $(addprefix unit_,$(SANITIZED))
	ctest --test-dir build/sanitized --output-on-failure -R "^unit_($(if $(filter programs,$(SANITIZED)),.*,$(subst $() ,|,$(SANITIZED))))$$" -E "_arrays$$"
	$(if $(TSAN),cmake --preset tsan)
	$(if $(TSAN),cmake --build build/tsan -j $(JOBS) --target $(addprefix unit_,$(TSAN)))
	$(if $(TSAN),setarch -R ctest --test-dir build/tsan --output-on-failure -R "^unit_($(subst $() ,|,$(TSAN)))$$")

# Inputs that nobody vouches for, made up by libFuzzer, for what reads files: MINUTES=30 for each target; FUZZ="gguf recipe" takes those.
fuzz: TARGETS = fuzz
fuzz: build
	tests/fuzz/run.sh build $(FUZZ)

# The long versions of what `make test` samples: runs killed and gone on with (torture_resume), calls to a disk that fail
# (torture_failing_disk), a model of Llama 3 70B's width in 6 GB (torture_70b). TORTURE=70b takes one.
torture: build
	ctest --test-dir build --output-on-failure -L torture $(if $(TORTURE),-R "torture_$(TORTURE)")

# Five minutes' worth of `torture` and `fuzz`: what tests/CMakeLists.txt labels `sample`, the broken artefacts and journals of the unit
# tests among them, and the seeds of every fuzz target. ctest says at the end how long it took.
torture-sample: TARGETS = all
torture-sample: build
	ctest --test-dir build --output-on-failure -j $(JOBS) -L "^sample$$"

# What each statistic costs beside the forward pass, and the forward pass beside the machine's matrix products, with
# SmolLM2-135M's weights where they can be made (tests/tools/make_smollm2.py), else weights of its shape from a seed.
# BENCH_FLAGS="--quick" takes seconds, on small models (tests/bench/calibration/main.cc lists the flags).
BENCH_JSON ?= build/bench/calibration.json
bench: TARGETS = bench_calibration
bench: build
	$(if $(findstring --quick,$(BENCH_FLAGS)),,@test -f $(SMOLLM2)/model.safetensors || build/venv/bin/python tests/tools/make_smollm2.py $(SMOLLM2) || true)
	@mkdir -p $(dir $(BENCH_JSON))
	build/bin/bench_calibration $$(test ! -f $(SMOLLM2)/model.safetensors || echo --smollm2 $(SMOLLM2)) $(BENCH_FLAGS) \
	  --note "commit=$$(git describe --always --dirty)" --json $(BENCH_JSON)

# Quality, time and memory of the shipped recipes on SmolLM2-135M. CASES="gptq awq" takes the cases whose names hold one of
# the words, peers among them (side_by_side.py lists them; a peer's environment is made when it is first needed).
# QUALITY_FLAGS: other models and calibration data (side_by_side.py's first lines).
CASES ?= lathe-
bench-quality: TARGETS = quantize dequantize
bench-quality: build
	build/venv/bin/python tests/bench/quality/side_by_side.py --cases $(CASES) $(QUALITY_FLAGS)
