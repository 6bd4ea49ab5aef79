# Samples begin with BOS where the model's tokenizer asks for it, or the recipe does; dumps are read back as they are.
. tests/e2e/lib.sh
model="$scratch/model"; copy_model "$model"
vocab=$(value "$model/config.json" "r['vocab_size']")
configure() {  # PYTHON: changes tokenizer_config.json, named r
  "$PYTHON" - "$model/tokenizer_config.json" "$1" <<'PY'
import json, sys
r = json.load(open(sys.argv[1]))
exec(sys.argv[2])
json.dump(r, open(sys.argv[1], "w"))
PY
}
plain() { quick recipes/rtn.yaml "$scratch/out" --model "$model" --set evaluate=null --dry-run "$@" >"$scratch/plan"; }
firsts() {  # DUMP: the samples' first ids
  "$PYTHON" -c 'import sys, safetensors.numpy as s; print(sorted(set(s.load_file(sys.argv[1])["input_ids"][:, 0].tolist())))' "$1"
}
bos=$("$PYTHON" -c 'import json, sys; print(next(t["id"] for t in json.load(open(sys.argv[1]))["added_tokens"] if t["content"] == "<|endoftext|>"))' \
  "$model/tokenizer.json")

plain --dump-ids "$scratch/none.safetensors"
[[ $(firsts "$scratch/none.safetensors") != "[$bos]" ]] || fail "BOS for a tokenizer that adds none"
! grep -q BOS "$scratch/plan" || fail "the plan speaks of BOS: $(cat "$scratch/plan")"
plain --set calibration.bos=always --dump-ids "$scratch/always.safetensors"
[[ $(firsts "$scratch/always.safetensors") == "[$bos]" ]] || fail "no BOS though it was asked for"
grep -q "^samples .*; BOS was put in front of 8$" "$scratch/plan" || fail "the plan lacks BOS: $(cat "$scratch/plan")"

configure 'r["add_bos_token"] = True'
plain --dump-ids "$scratch/auto.safetensors"
cmp "$scratch/auto.safetensors" "$scratch/always.safetensors" || fail "add_bos_token gives other samples than bos: always"
plain --set calibration.bos=never --dump-ids "$scratch/never.safetensors"
cmp "$scratch/never.safetensors" "$scratch/none.safetensors" || fail "bos: never still gives BOS"
# Dumps with and without BOS are what they are, whatever the tokenizer says.
for dump in none always; do
  plain --calib "$scratch/$dump.safetensors" --dump-ids "$scratch/again-$dump.safetensors"
  cmp "$scratch/$dump.safetensors" "$scratch/again-$dump.safetensors" || fail "$dump.safetensors was not read back as it is"
done

configure 'r["bos_token"] = "no such token"'
"$PYTHON" - "$model/config.json" <<'PY'
import json, sys
r = json.load(open(sys.argv[1])); r.pop("bos_token_id", None); json.dump(r, open(sys.argv[1], "w"))
PY
refuses 2 "set calibration.bos to never" plain
plain --set calibration.bos=never
