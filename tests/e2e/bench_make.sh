# `make bench` on small models, without its build: the target's own commands, and a whole JSON.
. tests/e2e/lib.sh
[[ $QUANTIZE -ef build/bin/quantize ]] || skip "the Makefile builds in build/, which is not this build tree"
[[ -x build/bin/bench_calibration ]] || skip "bench_calibration is not built"
unset MAKEFLAGS MAKELEVEL MFLAGS  # `make test` runs this, too: a make below another prints more
make --no-print-directory -o build bench BENCH_FLAGS="--quick" BENCH_JSON="$scratch/bench/out.json" >"$scratch/table" 2>&1 ||
  fail "make bench: $(tail -3 "$scratch/table")"
grep -q "make_smollm2" "$scratch/table" && fail "a quick run made SmolLM2"
grep -qF "agreement with one CPU thread" "$scratch/table" || fail "no whole table: $(tail -3 "$scratch/table")"
holds "$scratch/bench/out.json" "[m['model'] for m in r['models']] == ['smollm2', 'block4096'] and r['runs'] and r['notes']['commit']"
holds "$scratch/bench/out.json" "r['quick'] and r['agreement'] and all(row['met'] for row in r['agreement'])"

# A whole run takes SmolLM2's weights where the step before has just made them.
make --no-print-directory -n -o build bench SMOLLM2="$scratch/made" >"$scratch/commands"
grep -qF "make_smollm2.py $scratch/made" "$scratch/commands" || fail "it would not make the model: $(cat "$scratch/commands")"
mkdir "$scratch/made" && touch "$scratch/made/model.safetensors"
sed "s|build/bin/bench_calibration|echo|; s|build/bench|$scratch/bench|" "$scratch/commands" | bash >"$scratch/called"
grep -qF -- "--smollm2 $scratch/made" "$scratch/called" || fail "its weights are not taken: $(cat "$scratch/called")"
