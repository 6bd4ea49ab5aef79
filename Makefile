# Thin: every target is a command or two. `make deps` is run by the others; it does nothing where all is installed.
# PRESET: cuda where nvcc is found, else cpu. The binary is left at build/bin/quantize.
PRESET ?= $(shell command -v nvcc >/dev/null 2>&1 && echo cuda || echo cpu)
JOBS ?= $(shell nproc)
TARGETS = quantize
export OMP_WAIT_POLICY = PASSIVE

.PHONY: deps build demo test bench
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

bench: build
	tests/bench/quality/smollm2.sh
