# Without calibration data, RTN and HQQ quantise a model of an architecture that nobody knows, weight by weight.
. tests/e2e/lib.sh
"$PYTHON" tests/tools/make_unknown_model.py "$scratch/model"
cat >"$scratch/recipe.yaml" <<'YAML'
calibration: null
rules:
  - {targets: [q_proj], scheme: {bits: 8, group_size: -1}}
  - {targets: [linear], scheme: {bits: 4, group_size: 32, symmetric: false}}
ignore: [lm_head, '/layers.2.mixer.out_proj/']
output: {shard_size: 20kB}
YAML
run() { "$QUANTIZE" --recipe "$scratch/recipe.yaml" --model "$scratch/model" --device cpu --output "$scratch/$1" "${@:2}"; }
run rtn >"$scratch/out"
grep -q 'warning: model_type' "$scratch/out" || grep -q 'zebra2' "$scratch/rtn/report.md" || fail "nobody says that the family is unknown"
holds "$scratch/rtn/report.json" "len(r['linears']) == 8 and r['model']['family'] == 'zebra2'"
holds "$scratch/rtn/report.json" "{l['name'].split('.')[-1]: l['role'] for l in r['linears']} == {'in_proj': 'other', 'out_proj': 'other', 'q_proj': 'q_proj'}"
holds "$scratch/rtn/report.json" "any('more than two dimensions' in w and 'experts.gate_up_proj [2, 64, 128]' in w for w in r['warnings'])"
holds "$scratch/rtn/report.json" "{k['name'] for k in r['kept']} == {'lm_head', 'backbone.layers.2.mixer.out_proj', *(f'backbone.layers.{i}.moe.gate' for i in range(3))}"
holds "$scratch/rtn/config.json" "r['model_type'] == 'zebra2' and len(r['quantization_config']['config_groups']) == 2"

run hqq --set 'output.formats=[hqq]' --set 'rules=[{targets: [linear], scheme: {bits: 4, group_size: 32, symmetric: false, zero_point: real}, solver: {hqq: {}}}]'
run several --set 'output.formats=[hqq, compressed-tensors]' --set 'rules=[{targets: [/out_proj/], scheme: {bits: 4, group_size: 32, symmetric: false, zero_point: real}, solver: {hqq: {}}}]' 2>/dev/null && fail "real zero points in compressed-tensors"
"$PYTHON" - "$scratch" <<'PY' || fail "tensors on disk"
import json, sys
from pathlib import Path
import torch
from safetensors import safe_open
def load(folder):
    tensors = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, "pt") as f:
            tensors |= {k: f.get_tensor(k) for k in f.keys()}
    return tensors
root = Path(sys.argv[1])
model, rtn, hqq = load(root / "model"), load(root / "rtn"), load(root / "hqq")
deep, every = (sum(t.numel() for t in model.values() if t.dim() >= least) for least in (3, 0))
warnings = json.load(open(root / "rtn/report.json"))["warnings"]
assert any(f"{deep} weights in all, {100 * deep / every:.1f} % of the model's" in w for w in warnings), (deep, every, warnings)
done = {l["name"] for l in json.load(open(root / "rtn/report.json"))["linears"]}
for name, tensor in model.items():
    if name.removesuffix(".weight") in done and name.endswith(".weight"):
        assert name not in rtn and name not in hqq, name
        module = name.removesuffix(".weight")
        codes = hqq[module + ".W_q"]
        q = torch.cat([codes >> 4, codes & 15]).float()
        w = ((q - hqq[module + ".zero"].float()) * hqq[module + ".scale"].float()).view(tensor.shape)
        error = (w - tensor.float()).square().sum() / tensor.float().square().sum()
        assert error < 0.02, (name, error)
    else:
        assert torch.equal(tensor, rtn[name]) and torch.equal(tensor, hqq[name]) and tensor.dtype == rtn[name].dtype, name
PY

# What is left out is said; what can't be is refused.
run evaluated --quiet --set 'evaluate={text: data/text/evaluation.txt}'
holds "$scratch/evaluated/report.json" "any('\`evaluate\` is left out' in w for w in r['warnings']) and r['evaluation'] is None"
refuses 2 'with `calibration: null` each weight' "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/model" --device cpu --output "$scratch/no"
refuses 2 "model_type 'zebra2' is not supported" "$QUANTIZE" --recipe recipes/awq.yaml --model "$scratch/model" --device cpu --quiet --output "$scratch/no"
refuses 2 "works on activations" run no --set 'transforms=[{awq: {}}]'
refuses 2 "'/experts/' matches no linear" run no --set 'rules=[{targets: [/experts/]}]'
refuses 2 'does not divide' run no --set 'rules[1].scheme.group_size=24'
refuses 2 'is quantised already' "$QUANTIZE" --recipe "$scratch/recipe.yaml" --model "$scratch/rtn" --device cpu --output "$scratch/no"
run dry --dry-run >"$scratch/plan"
[[ ! -e $scratch/dry ]] && grep -q '12 matrices of an unknown family' "$scratch/plan" && grep -q 'one at a time' "$scratch/plan" && grep -q " % of the model's" "$scratch/plan" || fail "$(cat "$scratch/plan")"

# What servers stack by names shares the scale of the tensor, each expert for itself.
"$PYTHON" tests/tools/make_unknown_model.py "$scratch/stacked" --stacked
stacked() { "$QUANTIZE" --recipe "$scratch/recipe.yaml" --model "$scratch/stacked" --device cpu --quiet --overwrite --output "$scratch/$1" --set 'ignore=[lm_head]' --set "rules=$2"; }
for scheme in '{type: nvfp4}' '{type: fp8_e4m3, per: tensor}'; do
  stacked stacked-out "[{targets: [linear], scheme: $scheme}]"
  "$PYTHON" - "$scratch/stacked-out" <<'PY' || fail "$scheme: scales of the tensor"
import collections, sys
from pathlib import Path
from safetensors import safe_open
scales = {}
for file in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    with safe_open(file, "pt") as f:
        scales |= {k.rsplit(".", 1)[0]: f.get_tensor(k).item() for k in f.keys()
                   if k.endswith(("weight_global_scale", "weight_scale")) and f.get_tensor(k).numel() == 1}
alike = collections.defaultdict(set)
for name, scale in scales.items():
    alike[name.rsplit(".", 1)[0], scale].add(name.rsplit(".", 1)[1])
sets = {tuple(sorted(linears)) for linears in alike.values()}
assert sets == {("in_proj",), ("out_proj",), ("k_proj", "q_proj", "v_proj"), ("gate_proj", "up_proj"), ("down_proj",), ("w1", "w3")}, sets
assert len({(module, scale) for (module, scale) in alike if ".experts." in module}) == 6, alike
PY
done
refuses 2 'quantised by two rules' stacked no '[{targets: [q_proj], scheme: {type: nvfp4}}, {targets: [linear], scheme: {type: nvfp4}}]'
