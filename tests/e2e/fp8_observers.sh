# Static FP8 inputs under every observer of their range: each chooses its own clip, none wider than the values, and the artefact holds.
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
