# What a budget promises, of what is written: a size is kept by the tensors on the disk, a smaller KL takes a larger artefact, and what
# the model then loses is near what was predicted. One that can't be kept is refused with the least that can, which then can.
. tests/e2e/lib.sh
fast=(--device cpu --quiet --set calibration.samples=20 --set calibration.seq_len=128 --set sensitivity.held_out=8
  --set 'candidates=[{scheme: {bits: 2, group_size: 32, symmetric: false}}, {scheme: {bits: 3, symmetric: false}}, {scheme: {bits: 4, symmetric: false}},
    {scheme: {bits: 8, symmetric: false}}]')
"$QUANTIZE" sensitivity --recipe recipes/sensitivity.yaml --output "$scratch/s" "${fast[@]}" --set sensitivity.loss=kl
budget() {  # OUTPUT BUDGET FLAG...
  local output=$1 budget=$2; shift 2
  "$QUANTIZE" --recipe recipes/mixed-4.25bpw.yaml --output "$output" "${fast[@]}" --set "sensitivity.file=$scratch/s/sensitivity.json" \
    --set sensitivity.loss=kl --set "budget=$budget" "$@"
}
# Bytes of the tensors as an independent reader of the files' headers counts them.
stored() {
  "$PYTHON" - "$1" <<'P'
import glob, json, struct, sys
total = 0
for name in glob.glob(sys.argv[1] + "/*.safetensors"):
    with open(name, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    total += sum(t["data_offsets"][1] - t["data_offsets"][0] for key, t in header.items() if key != "__metadata__")
print(total)
P
}

# Size: within it, and no mixture of the frontier between the chosen one and the budget.
budget "$scratch/plan" '{bits_per_weight: 4}' --dry-run --json >"$scratch/plan.json"
least=$(value "$scratch/plan.json" "r['budget']['frontier'][0]['bytes']")
most=$(value "$scratch/plan.json" "r['budget']['frontier'][-1]['bytes']")
((most > least * 3 / 2)) || fail "candidates span $least to $most bytes"
for part in 0 40 75; do
  size=$((least + (most - least) * part / 100 + 7))
  budget "$scratch/size$part" "{size: $size}" --set evaluate=null
  bytes=$(stored "$scratch/size$part")
  ((bytes <= size)) || fail "a budget of $size bytes has tensors of $bytes"
  holds "$scratch/size$part/budget.json" "r['chosen']['bytes'] == $bytes"
  holds "$scratch/size$part/budget.json" "not [m for m in r['frontier'] if r['chosen']['bytes'] < m['bytes'] <= $size]"
  ((size - bytes < (most - least) / 50)) || fail "$bytes of $size bytes are used"
done
(($(stored "$scratch/size0") < $(stored "$scratch/size40") && $(stored "$scratch/size40") < $(stored "$scratch/size75"))) || fail "a larger budget isn't used"
# In MiB, as people say it, too.
budget "$scratch/mib" "{size: 3.5MiB}" --set evaluate=null
(($(stored "$scratch/mib") <= 7 * 524288)) || fail "3.5 MiB became $(stored "$scratch/mib") bytes"

# KL: predicted within it, by the smallest mixture of which that is so; the smaller it is, the larger the artefact.
for kl in 0.05 0.02 0.006; do
  budget "$scratch/kl$kl" "{kl: $kl}" --set 'evaluate={text: data/text/evaluation.txt, ctx: 128, rows: 24}'
  holds "$scratch/kl$kl/budget.json" "0.8 * $kl < r['chosen']['kl'] <= $kl"
  holds "$scratch/kl$kl/budget.json" "all(m['kl'] > $kl for m in r['frontier'] if m['bytes'] < r['chosen']['bytes'])"
  holds "$scratch/kl$kl/budget.json" "r['chosen']['bytes'] == $(stored "$scratch/kl$kl")"
  # What the run then has, on other text, is 0.8 to 1.4 times that. (Budgets here lie 2.5 to 3.3 times apart.)
  value "$scratch/kl$kl/report.json" "f\"KL $kl: predicted {r['budget']['chosen']['kl']:.4g}, measured {r['evaluation']['kl_mean']:.4g}\""
  holds "$scratch/kl$kl/report.json" "0.8 < r['evaluation']['kl_mean'] / r['budget']['chosen']['kl'] < 1.4"
done
(($(stored "$scratch/kl0.05") < $(stored "$scratch/kl0.02") && $(stored "$scratch/kl0.02") < $(stored "$scratch/kl0.006"))) || fail "less KL isn't larger"

# The least that a refusal names is what can be had; anything below it can't.
tried() { budget "$scratch/x" "$1" --dry-run >"$scratch/log"; }
refuses 2 "($((least - 1)) bytes) can't be kept: the least possible with these candidates is" tried "{size: $((least - 1))}"
grep -q "($least bytes), of which" "$scratch/stderr" || fail "$(cat "$scratch/stderr")"
tried "{size: $least}"
refuses 2 "can't be kept: the least possible with these candidates is" tried '{bits_per_weight: 1.5}'
bits=$(sed -E 's/.*candidates is ([0-9.]+),.*/\1/' "$scratch/stderr")
tried "{bits_per_weight: $("$PYTHON" -c "print($bits + 1e-4)")}"
refuses 2 "the least possible with these candidates is $bits" tried "{bits_per_weight: $("$PYTHON" -c "print($bits - 1e-4)")}"
refuses 2 "can't be kept: the least that these candidates lose is" tried '{kl: 1e-9}'
kl=$(sed -E 's/.*candidates lose is ([0-9.e-]+) .*/\1/' "$scratch/stderr")
tried "{kl: $("$PYTHON" -c "print(f'{$kl * 1.001:.9f}')")}"
refuses 2 "the least that these candidates lose is $kl" tried "{kl: $("$PYTHON" -c "print(f'{$kl * 0.999:.9f}')")}"
[[ ! -e $scratch/x ]] || fail "a refused budget left $(find "$scratch/x")"
