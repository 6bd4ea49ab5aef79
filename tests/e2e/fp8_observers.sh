# Static FP8 inputs under every observer of their range: each chooses its own clip, none wider than the values, and the artefact
# holds; how much of the evaluation's text each scale clips is counted in the run and by eval, and warned of beyond 0.1 %.
. tests/e2e/lib.sh
static() { quick recipes/fp8-static.yaml "$scratch/$1" --set 'output.formats=[compressed-tensors]' --set "rules[0].activations={type: fp8_e4m3, dynamic: false, observer: $1}" "${@:2}"; }
for observer in minmax percentile mse kl; do
  static "$observer"
  grep -q 'fp8_e4m3 static per tensor' "$scratch/$observer/report.md" || fail "the report lacks $observer's grid"
  "$QUANTIZE" verify "$scratch/$observer" --reference "$MODEL" >"$scratch/verify" || fail "$observer: $(cat "$scratch/verify")"
  "$QUANTIZE" eval --model "$scratch/$observer" --text data/text/evaluation.txt --ctx 256 --rows 2 --device cpu --json >"$scratch/$observer.json"
done
"$PYTHON" - "$scratch" <<'PY' || fail "clips"
import json, sys
from safetensors import safe_open
runs = {o: json.load(open(f"{sys.argv[1]}/{o}/report.json")) for o in ("minmax", "percentile", "mse", "kl")}
limits = {o: {l["name"]: l["input_limit"] for l in r["linears"]} for o, r in runs.items()}
for observer, of in limits.items():
    with safe_open(f"{sys.argv[1]}/{observer}/model.safetensors", "pt") as tensors:
        for name, limit in of.items():
            assert abs(448 * tensors.get_tensor(name + ".input_scale").item() - limit) <= 1e-6 * limit, name
first = [name for name in limits["minmax"] if name.startswith("model.layers.0.self_attn.q")]  # of the same values in every run
for name in first:
    for observer in ("percentile", "mse", "kl"):
        assert limits[observer][name] <= 1.001 * limits["minmax"][name], (observer, name)
    assert limits["percentile"][name] < limits["minmax"][name]
assert len({tuple(of.values()) for of in limits.values()}) == 4, "observers make no difference"
PY

# The run's evaluation counted what eval counts of the artefact; text that a scale wasn't chosen on may lie beyond it.
"$QUANTIZE" eval --model "$scratch/kl" --text data/text/evaluation.txt --ctx 512 --rows 4 --device cpu --json >"$scratch/counted.json"
quick recipes/fp8-static.yaml "$scratch/narrow" --set 'output.formats=[compressed-tensors]' --set "rules[0].activations={type: fp8_e4m3, dynamic: false, observer: percentile, percentile: 99}" --set verify.max_kl=null
"$PYTHON" - "$scratch" <<'PY' || fail "counts of clipped values"
import json, sys
runs = {o: json.load(open(f"{sys.argv[1]}/{o}/report.json")) for o in ("minmax", "percentile", "kl", "narrow")}
counts = {o: {l["name"]: l["input_overflow"] for l in r["linears"]} for o, r in runs.items()}
assert {e["name"]: {k: e[k] for k in ("values", "overflowed", "share")} for e in json.load(open(f"{sys.argv[1]}/counted.json"))["input_overflow"]} == counts["kl"]
for observer, of in counts.items():
    assert len(of) == 42 and all(c["values"] == 4 * 512 * (768 if "down_proj" in n else 256) for n, c in of.items()), observer
    assert all(c["share"] == c["overflowed"] / c["values"] for c in of.values()), observer
    warned = any("of 42 inputs clip more than 0.1 %" in w for w in runs[observer]["warnings"])
    assert warned == any(c["share"] > 1e-3 for c in of.values()), observer
lost = {o: sum(c["overflowed"] for c in of.values()) for o, of in counts.items()}
print(lost)
assert lost["minmax"] < min(lost["percentile"], lost["kl"]), lost
assert not any("inputs clip" in w for w in runs["minmax"]["warnings"])
assert any("static scales of 42 of 42 inputs clip more than 0.1 %" in w for w in runs["narrow"]["warnings"]), runs["narrow"]["warnings"]
PY
grep -q '^| static inputs | ' "$scratch/kl/report.md" && grep -q '^## Static scales that clip' "$scratch/kl/report.md" || fail "report.md is silent on clipped values"
"$QUANTIZE" eval --model "$scratch/kl" --text data/text/evaluation.txt --ctx 256 --rows 2 --device cpu | grep -q '^clipped .* by 42 static scales' || fail "eval is silent on clipped values"
matches lib/report/report.schema.json "$scratch/kl/report.json"
# Dynamic scales clip nothing, and nothing is said.
quick recipes/fp8-dynamic.yaml "$scratch/dynamic" --set 'output.formats=[compressed-tensors]'
holds "$scratch/dynamic/report.json" "all(l['input_overflow'] is None for l in r['linears'])"
