# The plan counts a run's FLOPs, exactly, and says how long they take here; for people and for programs.
. tests/e2e/lib.sh
plan() { local recipe=$1; shift; quick "recipes/$recipe.yaml" "$scratch/out" --dry-run --json "$@" >"$scratch/plan.json"; }
plan gptq
# lathe-tiny by hand: 8 x 256 tokens, two streams, and 4 x 512 evaluated in two models.
"$PYTHON" - "$MODEL/config.json" "$scratch/plan.json" <<'P' || fail "FLOPs differ from those counted by hand: $(cat "$scratch/plan.json")"
import json, sys
c, plan = (json.load(open(path)) for path in sys.argv[1:])
hidden, middle, blocks, vocabulary = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"], c["vocab_size"]
head = c.get("head_dim", hidden // c["num_attention_heads"])
q, kv = c["num_attention_heads"] * head, c["num_key_value_heads"] * head
weights = hidden * (q + 2 * kv) + q * hidden + 3 * hidden * middle
squares = hidden**2 * (q + 2 * kv) + q**2 * hidden + 2 * hidden**2 * middle + middle**2 * hidden  # rows x width^2
def forward(rows, length):
    return blocks * (2 * rows * length * weights + 4 * q * rows * length * (length + 1) / 2)
widths = [hidden, q, hidden, middle]
tokens = 8 * 256
expected = {
    "forward": 2 * forward(8, 256),
    "statistics": blocks * sum(tokens * n * (n + 1) + 2 * tokens * n * n for n in widths),
    "solver gptq": blocks * (sum(2 * n**3 / 3 for n in widths) + 9 * squares + 10 * 42 * weights),
    "errors": blocks * (2 * squares + 10 * 2 * weights),
    "evaluate": 2 * (forward(4, 512) + 2 * 4 * 512 * vocabulary * hidden),
}
found = {stage["name"]: stage["flops"] for stage in plan["work"]["stages"]}
wrong = [name for name, flops in expected.items() if abs(found[name] / flops - 1) > 1e-9]
assert not wrong, {name: (found[name], expected[name]) for name in wrong}
assert abs(plan["work"]["flops"] / sum(found.values()) - 1) < 1e-9
P
holds "$scratch/plan.json" "r['work']['seconds'] > 0 and all(s['seconds'] >= 0 for s in r['work']['stages'])"
holds "$scratch/plan.json" "r['schema'] == 1 and len(r['linears']) == 43 and r['linears'][0]['scheme'] == 'int4 asym g128'"
holds "$scratch/plan.json" "[l['kept'] for l in r['linears'] if 'kept' in l] == ['ignored by the recipe']"
holds "$scratch/plan.json" "r['calibration']['tokens'] == 2048 and r['memory']['ram'] > r['evaluation']['vram'] == 0"
holds "$scratch/plan.json" "r['outputs'][0]['format'] == 'compressed-tensors' and r['outputs'][0]['bytes'] > 0 and r['outputs'][0]['consumers']"
[[ ! -e $scratch/out ]] || fail "a dry run wrote $scratch/out"

# More tokens are more work, in the stages that see them alone.
cp "$scratch/plan.json" "$scratch/small.json"
plan gptq --set calibration.samples=16
"$PYTHON" - "$scratch/small.json" "$scratch/plan.json" <<'P' || fail "twice the samples"
import json, sys
small, large = ({s["name"]: s["flops"] for s in json.load(open(path))["work"]["stages"]} for path in sys.argv[1:])
assert small.keys() == large.keys()
for name in small:
    factor = 2 if name in ("forward", "statistics") else 1
    assert abs(large[name] - factor * small[name]) <= 1e-9 * large[name], name
P
# Every kind of run has its stages: transforms, two solvers, no data, several formats, experts.
names() { value "$scratch/plan.json" "' '.join(s['name'].replace(' ', '-') for s in r['work']['stages'])"; }
plan awq
[[ $(names) == "forward statistics transform-awq solver-rtn errors pack verify evaluate" ]] || fail "awq: $(names)"
plan awq-gptq --set evaluate=null
[[ $(names) == "forward statistics transform-awq solver-gptq errors pack verify" ]] || fail "awq-gptq: $(names)"
plan hqq --set calibration=null
[[ $(names) == "solver-hqq pack verify evaluate" ]] || fail "hqq: $(names)"
holds "$scratch/plan.json" "r['calibration'] is None and r['memory']['ram'] > 0"
# What a KV cache below 8 bits is fitted to: all 2048 tokens, 9 FLOPs for each pair of them in a row and channel of the queries.
for recipe in "kv-kvquant --set kv_cache.weights=attention" kv-skvq; do
  plan $recipe --set evaluate=null  # of several words
  [[ $(names) == "forward statistics solver-gptq errors fit-KV-cache pack verify" ]] || fail "$recipe: $(names)"
  flops=$(value "$MODEL/config.json" "9 * r['num_hidden_layers'] * r.get('head_dim', r['hidden_size'] // r['num_attention_heads']) * r['num_attention_heads'] * 2048 * 256")
  holds "$scratch/plan.json" "[s['flops'] for s in r['work']['stages'] if s['name'] == 'fit KV cache'] == [$flops] and r['work']['seconds'] > 0"
done
plan kv-kvquant --set evaluate=null
[[ $(names) == "forward statistics solver-gptq errors fit-KV-cache gradients-for-the-KV-cache pack verify" ]] || fail "kv-kvquant: $(names)"
plan kv-kivi --set evaluate=null
[[ $(names) != *KV* ]] || fail "kv-kivi has nothing to fit: $(names)"
plan gguf
[[ $(names) == *"pack verify evaluate" ]] || fail "gguf: $(names)"
checkpoint "$scratch/mixtral" mixtral "{\"vocab_size\": $(value "$MODEL/config.json" "r['vocab_size']"), \"num_local_experts\": 4}"
plan rtn --model "$scratch/mixtral" "${symmetric[@]}" --set 'rules[0].scheme.group_size=16'
holds "$scratch/plan.json" "r['work']['flops'] > 0 and r['model']['family'] == 'mixtral'"

# For people, the same.
quick recipes/awq.yaml "$scratch/out" --dry-run >"$scratch/plan"
grep -q "^work  .* GFLOP, about .* s here (cpu, 1 thread," "$scratch/plan" || fail "no work in the plan: $(cat "$scratch/plan")"
grep -q "GFLOP .* s  transform awq$" "$scratch/plan" || fail "no stages in the plan: $(cat "$scratch/plan")"
refuses 2 "--json: is of a plan; add --dry-run" quick recipes/awq.yaml "$scratch/out" --json
