# RTN's range option: the searched range has less weight error than the groups' extent, everywhere; kl names what it can't do.
. tests/e2e/lib.sh
for options in "range: minmax" "range: mse" "range: percentile, percentile: 98"; do
  range=${options#range: } range=${range%%,*}
  quick recipes/rtn.yaml "$scratch/$range" --set evaluate=null \
    --set "rules=[{targets: [linear], scheme: {type: int, bits: 3, group_size: 64, symmetric: true}, solver: {rtn: {$options}}}]"
done
"$PYTHON" - "$scratch" <<'END' || fail "weight errors"
import json, sys
error = {r: {l["name"]: l["weight_error"] for l in json.load(open(f"{sys.argv[1]}/{r}/report.json"))["linears"]}
         for r in ("minmax", "mse", "percentile")}
assert len(error["mse"]) == 42
for name, plain in error["minmax"].items():
    assert error["mse"][name] < 0.95 * plain, (name, error["mse"][name], plain)
    assert error["mse"][name] <= error["percentile"][name], name
assert error["percentile"] != error["minmax"]
total = {r: sum(e.values()) / len(e) for r, e in error.items()}
print("mean relative weight error:", total)
END
refuses 2 "range kl needs groups of at least 512 weights" \
  "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/kl" --device cpu --quiet --set evaluate=null \
  --set "rules=[{targets: [linear], scheme: {type: int, bits: 4, group_size: 64, symmetric: true}, solver: {rtn: {range: kl}}}]"
refuses 2 "maximum" "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/bad" --device cpu --quiet \
  --set "rules=[{targets: [linear], scheme: {type: int, bits: 4, group_size: 64, symmetric: true}, solver: {rtn: {range: maximum}}}]"
refuses 2 "range percentile with percentile 99.9 leaves out less than one value of a group of 64 weights" \
  "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/whole" --device cpu --quiet --set evaluate=null \
  --set "rules=[{targets: [linear], scheme: {type: int, bits: 4, group_size: 64, symmetric: true}, solver: {rtn: {range: percentile}}}]"
refuses 2 "expected no value where range is mse (only range percentile reads it)" \
  "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/both" --device cpu --quiet --set evaluate=null \
  --set "rules=[{targets: [linear], solver: {rtn: {range: mse, percentile: 98}}}]"
# Rows of 768 weights are long enough for kl: the range it takes is narrower than the extent, so codes differ from minmax's.
for range in minmax kl; do
  quick recipes/rtn.yaml "$scratch/wide_$range" --set evaluate=null \
    --set "rules=[{targets: [down_proj], scheme: {type: int, bits: 8, group_size: -1, symmetric: true}, solver: {rtn: {range: $range}}}]"
done
holds "$scratch/wide_kl/report.json" "any('range kl looks at how' in w for w in r['warnings'])"
"$PYTHON" - "$scratch" <<'END' || fail "scales of range kl"
import sys
from safetensors import safe_open
def scales(folder):
    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        return {name: file.get_tensor(name).float() for name in file.keys() if name.endswith("down_proj.weight_scale")}
plain, kl = (scales(f"{sys.argv[1]}/wide_{r}") for r in ("minmax", "kl"))
assert plain and plain.keys() == kl.keys()
for name in plain:
    assert kl[name].shape == plain[name].shape and (kl[name] <= plain[name]).all(), name
assert any((kl[name] < plain[name]).any() for name in plain), "nothing was clipped"
END

# One scale for the tensor: each method chooses it, for q, k and v together, and within the extent.
for range in minmax percentile kl mse weighted; do
  quick recipes/fp8-static.yaml "$scratch/tensor_$range" --set evaluate=null --set output.formats=[compressed-tensors] \
    --set "rules[0].solver={rtn: {range: $range}}"
done
"$PYTHON" - "$scratch" <<'END' || fail "scales of the tensor"
import json, sys
from safetensors import safe_open
def scales(folder):
    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        return {name: file.get_tensor(name).float().item() for name in file.keys() if name.endswith(".weight_scale")}
def errors(folder):
    return {l["name"]: l["weight_error"] for l in json.load(open(f"{folder}/report.json"))["linears"]}
plain, plain_error = scales(f"{sys.argv[1]}/tensor_minmax"), errors(f"{sys.argv[1]}/tensor_minmax")
assert len(plain) == 42
for method in ("percentile", "kl", "mse", "weighted"):
    chosen = scales(f"{sys.argv[1]}/tensor_{method}")
    assert chosen.keys() == plain.keys() and all(chosen[name] <= plain[name] for name in plain), method
    assert any(chosen[name] < plain[name] for name in plain), method
    for name in chosen:
        if "q_proj" in name:
            assert chosen[name] == chosen[name.replace("q_proj", "k_proj")] == chosen[name.replace("q_proj", "v_proj")], name
searched = errors(f"{sys.argv[1]}/tensor_mse")
assert sum(searched.values()) < sum(plain_error.values()), (sum(searched.values()), sum(plain_error.values()))
assert all(searched[n] <= plain_error[n] for n in searched if n.endswith(("o_proj", "down_proj"))), "alone under its scale"
END
# The same of blocks of 128 x 128: longer than a group of kl has to be.
quick recipes/fp8-dynamic.yaml "$scratch/none" --dry-run --set 'rules[0].scheme.per=block' --set 'rules[0].activations.per=group' \
  --set 'rules[0].solver={rtn: {range: kl}}' >/dev/null
