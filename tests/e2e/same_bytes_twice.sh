# The same recipe, model, data and build give the same bytes: twice, with one thread and two, and with the samples computed together
# or one by one, which the smallest memory asks for. For every solver, transform, number grid and quantised cache.
. tests/e2e/lib.sh
run() {  # RECIPE OUTPUT THREADS [flags...]
  local recipe=$1 output=$2 threads=$3; shift 3
  OMP_NUM_THREADS=$threads "$QUANTIZE" --recipe "recipes/$recipe.yaml" --output "$output" --device cpu --quiet --threads "$threads" \
    --no-journal --set evaluate=null "$@"
}
# What the manifest says of every file but the reports, which hold times.
hashes() { find "$1" -name manifest.json -exec "$PYTHON" -c 'import json,sys; r=json.load(open(sys.argv[1])); print(sorted(r["files"].items()), sorted(r["tensors"].items()))' {} \; | sort; }
same() {  # NAME RECIPE [flags...]: and by how few samples at a time
  local name=$1 recipe=$2 least; shift 2
  run "$recipe" "$scratch/one" 1 "$@" >/dev/null
  refuses 2 "--max-ram" run "$recipe" "$scratch/two" 2 "$@" --max-ram 20MB  # of two threads: each takes some
  least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+MiB')
  run "$recipe" "$scratch/two" 2 "$@" --max-ram "$least" >/dev/null
  [[ $(hashes "$scratch/one") == "$(hashes "$scratch/two")" ]] || fail "$name: threads or the batch size change the result"
  [[ -n $(hashes "$scratch/one") ]] || fail "$name: no manifest"
  local one two
  one=$(value "$scratch/one/report.json" "r['memory']['micro_batch']") two=$(value "$scratch/two/report.json" "r['memory']['micro_batch']")
  batches+=" $name $one/$two" fewer=$((fewer + (two < one)))
  rm -rf "$scratch/one" "$scratch/two"
}
batches= fewer=0
data=(--set calibration.samples=6 --set calibration.seq_len=128)
same awq awq "${data[@]}" --set 'transforms[0].awq.grid=3'
same gptq gptq "${data[@]}" --set 'rules[0].solver.gptq.act_order=gar'
same spqr spqr "${data[@]}"
same hqq_calibrated rtn "${data[@]}" --set 'rules[0].solver={hqq: {}}'
same smoothquant smoothquant "${data[@]}"
same gguf gguf "${data[@]}"
same mxfp4 mxfp4 "${data[@]}"
same fp8_block fp8-block "${data[@]}"
same kv_skvq kv-skvq "${data[@]}"
same kv_kivi kv-kivi "${data[@]}"
((fewer >= 5)) || fail "too few of them had another batch size: $batches"
echo "samples at a time: $batches"

# Without calibration, and twice the same way.
run hqq "$scratch/one" 1
run hqq "$scratch/two" 2
run hqq "$scratch/again" 2
for other in two again; do [[ $(hashes "$scratch/one") == "$(hashes "$scratch/$other")" ]] || fail "hqq: $other differs"; done
# Experts: threads alone; the smallest limits may move last bits there, and the plan says so.
if "$PYTHON" -c 'import transformers' 2>/dev/null; then
  vocab=$(value "$MODEL/config.json" "r['vocab_size']")
  checkpoint "$scratch/experts" qwen2_moe "{\"vocab_size\": $vocab, \"num_experts\": 5}" --idle-expert
  for threads in 1 2; do
    run awq "$scratch/moe$threads" $threads --model "$scratch/experts" "${symmetric[@]}" --set 'rules[0].scheme.group_size=16' "${data[@]}"
  done
  [[ $(hashes "$scratch/moe1") == "$(hashes "$scratch/moe2")" ]] || fail "experts: threads change the result"
fi
