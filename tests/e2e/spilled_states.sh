# Hidden states in a file, values inside blocks made twice, samples computed one by one: the same bytes as in memory, within a limit
# that is the smallest that does: a refusal names 8 MiB more, for what differs from run to run. 30 blocks.
. tests/e2e/lib.sh
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
checkpoint "$scratch/model" llama \
  "{\"num_hidden_layers\": 30, \"hidden_size\": 128, \"intermediate_size\": 256, \"num_attention_heads\": 4,
    \"num_key_value_heads\": 2, \"head_dim\": 32, \"vocab_size\": $vocabulary, \"max_position_embeddings\": 512}"
run() {  # OUTPUT [flags...]
  local output=$1; shift
  "$QUANTIZE" --recipe recipes/awq.yaml --model "$scratch/model" --output "$output" --device cpu --quiet \
    --set evaluate=null --set calibration.samples=24 --set calibration.seq_len=256 --set 'transforms[0].awq.grid=3' "$@"
}
run "$scratch/memory" >/dev/null
holds "$scratch/memory/report.json" "r['memory']['hidden_states'] == r['memory']['inner_values'] == 'device'"
holds "$scratch/memory/report.json" "r['memory']['micro_batch'] == 4"

refuses 2 "the smallest limit that would do is --max-ram" run "$scratch/none" --max-ram 20MB
[[ ! -e $scratch/none ]] || fail "a refused run left an output"
named=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
least=$((named - 8))MiB
mkdir "$scratch/work"
run "$scratch/least" --max-ram "$least" --work "$scratch/work" >/dev/null
holds "$scratch/least/report.json" "r['memory']['hidden_states'] == 'disk' and r['memory']['micro_batch'] == 1"
holds "$scratch/least/report.json" "r['memory']['peak']['ram'] <= r['memory']['limits']['ram']"
holds "$scratch/least/report.json" "r['memory']['planned']['disk'] > 0"
[[ -z $(ls -A "$scratch/work") ]] || fail "the work folder holds $(ls -A "$scratch/work")"
for file in model.safetensors config.json; do
  cmp "$scratch/memory/$file" "$scratch/least/$file" || fail "$file differs where hidden states stood on disk"
done

# --max-disk: what the files take is measured, the smallest limit that a refusal names is enough, and a byte less is not.
disk() { value "$scratch/$1/report.json" "r['memory']['$2']['disk']"; }
(($(disk least peak) > 0 && $(disk least peak) <= $(disk least planned))) || fail "files took $(disk least peak) bytes"
# (Without the journal, which takes of the same limit.)
refuses 2 "or --max-disk" run "$scratch/none" --max-ram "$least" --max-disk 1MB --no-journal
smallest=$(grep -oE -- '--max-disk [0-9]+MiB' "$scratch/stderr" | cut -d' ' -f2)
run "$scratch/files" --max-ram "$least" --max-disk "$smallest" --work "$scratch/work" --no-journal >/dev/null
holds "$scratch/files/report.json" "r['memory']['hidden_states'] == 'disk' and r['memory']['inner_values'] == 'recomputed'"
(($(disk files peak) > 0 && $(disk files peak) <= $(disk files limits))) || fail "a limit of $smallest, files of $(disk files peak)"
cmp "$scratch/memory/model.safetensors" "$scratch/files/model.safetensors" || fail "the limit on files changed the result"
refuses 2 "--max-disk $smallest" run "$scratch/none" --max-ram "$least" --max-disk $((${smallest%MiB} - 1))MiB --no-journal

# Both limits at once: no memory for values inside a block, and no disk.
refuses 2 "does not fit in the memory" run "$scratch/none" --max-ram "$least" --max-disk 0 --no-journal
refuses 2 "work folder $scratch/absent" run "$scratch/none" --work "$scratch/absent"
refuses 2 "--max-ram: expected a size such as 4GiB or 500MB, found 'much'" run "$scratch/none" --max-ram much
run "$scratch/none" --dry-run >"$scratch/plan"
grep -q "^memory     at most .*iB" "$scratch/plan" || fail "the plan says nothing about memory: $(cat "$scratch/plan")"
