# A source's tokens count as often as the recipe says in Hessians, and a dump keeps that.
. tests/e2e/lib.sh
head -n 600 data/text/calibration.txt >"$scratch/a.txt"
tail -n 600 data/text/calibration.txt >"$scratch/b.txt"
run() {  # OUTPUT WEIGHT [flags...]
  local output=$1 weight=$2; shift 2
  quick recipes/gptq.yaml "$scratch/$output" --set evaluate=null \
    --set "calibration.data=[{path: $scratch/a.txt, samples: 4}, {path: $scratch/b.txt, samples: 4, token_weight: $weight}]" "$@"
}
run plain 1
run heavy 50 --dump-ids "$scratch/heavy.safetensors"
cmp -s "$scratch/plain/model.safetensors" "$scratch/heavy/model.safetensors" && fail "weights change nothing"
hash() { value "$scratch/$1/manifest.json" "r['dataset']['ids_hash']"; }
[[ $(hash plain) != $(hash heavy) ]] || fail "the hash is of the ids alone"
quick recipes/gptq.yaml "$scratch/again" --set evaluate=null --calib "$scratch/heavy.safetensors"
cmp "$scratch/heavy/model.safetensors" "$scratch/again/model.safetensors" || fail "the fed-back weights give other bytes"
[[ $(hash again) == $(hash heavy) ]] || fail "the fed-back weights have another hash"
run none 2 --dry-run >"$scratch/plan"
grep -q "^samples .*; weighted in Hessians and mean squares" "$scratch/plan" || fail "the plan is silent about weights: $(cat "$scratch/plan")"
refuses 2 "token_weight: expected" run none 0 --dry-run
