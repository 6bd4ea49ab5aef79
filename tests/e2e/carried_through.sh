# What a run doesn't quantise goes along: ties, unknown tensors and MTP heads, tokenizer, templates, licence; a model card and hashes
# of everything stand beside.
. tests/e2e/lib.sh
copy_model "$scratch/model"
printf -- '---\nlicense: apache-2.0\n---\n# Tiny\n' >"$scratch/model/README.md"
echo 'The licence.' >"$scratch/model/LICENSE"
echo '{{ messages }}' >"$scratch/model/chat_template.jinja"
mkdir "$scratch/model/additional_chat_templates"
echo '{{ tools }}' >"$scratch/model/additional_chat_templates/tool_use.jinja"
"$PYTHON" - "$scratch/model" <<'PY'
import sys
import torch
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1] + "/model.safetensors")
for name, shape in {"eh_proj": (256, 512), "self_attn.q_proj": (256, 256), "mlp.down_proj": (256, 768)}.items():
    tensors[f"model.layers.6.{name}.weight"] = torch.randn(*shape).half()  # GLM's and DeepSeek's place for a prediction head
tensors["model.layers.6.enorm.weight"] = torch.randn(256).half()
tensors["mtp.fc.weight"] = torch.randn(256, 512).half()
tensors["mtp.layers.0.self_attn.q_proj.weight"] = torch.randn(256, 256).half()
tensors["vision.unknown_table"] = torch.arange(7, dtype=torch.int64)
save_file(tensors, sys.argv[1] + "/model.safetensors", {"format": "pt"})
PY
quick recipes/rtn.yaml "$scratch/out" "${symmetric[@]}" --model "$scratch/model" --set output.shard_size=1MB --set 'output.formats=[compressed-tensors, marlin]'
"$PYTHON" - "$scratch/model" "$scratch/out" <<'PY' || fail "tensors were not carried through"
import json, pathlib, sys
import torch
from safetensors import safe_open
before, after = map(pathlib.Path, sys.argv[1:])
index = json.load(open(after / "model.safetensors.index.json"))
assert "lm_head.weight" not in index["weight_map"] and json.load(open(after / "config.json"))["tie_word_embeddings"]
total, stored = 0, {}
for shard in set(index["weight_map"].values()):
    with safe_open(after / shard, "pt") as file:
        for name in file.keys():
            assert index["weight_map"][name] == shard
            stored[name] = file.get_tensor(name)
            total += stored[name].nbytes
assert stored.keys() == index["weight_map"].keys() and index["metadata"]["total_size"] == total
with safe_open(before / "model.safetensors", "pt") as file:
    for name in ["model.layers.6.eh_proj.weight", "model.layers.6.mlp.down_proj.weight", "model.layers.6.enorm.weight", "mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight", "vision.unknown_table", "model.embed_tokens.weight"]:
        assert torch.equal(stored[name], file.get_tensor(name)), name
ignored = json.load(open(after / "config.json"))["quantization_config"]["ignore"]
assert {"lm_head", "mtp.fc", "model.layers.6.eh_proj", "model.layers.6.self_attn.q_proj"} <= set(ignored), ignored
manifest = json.load(open(after / "manifest.json"))["files"]
there = {p.relative_to(after).as_posix(): p.stat().st_size for p in after.rglob("*") if p.is_file()}
missing = there.keys() - manifest.keys()
assert missing == {"manifest.json", "report.html", "report.json", "report.md"}, missing
reports = json.load(open(after / "manifest.json"))["reports"]
assert reports.keys() == {"report.html", "report.json", "report.md"} and all(reports[name]["bytes"] == there[name] for name in reports), reports
assert all(manifest[name]["bytes"] == there[name] and manifest[name]["hash"].startswith("xxh3-128:") for name in manifest)
layout = json.load(open(after / "layouts/marlin/layout.json"))["files"]
assert all(manifest["layouts/marlin/" + name] == entry for name, entry in layout.items()) and layout
PY
for file in LICENSE chat_template.jinja additional_chat_templates/tool_use.jinja tokenizer.json generation_config.json; do
  cmp "$scratch/model/$file" "$scratch/out/$file" || fail "$file was not copied"
done
for text in 'license: apache-2.0' '# model, quantised' '| int4 sym g128 | rtn | 42 |' '| perplexity |' 'KL divergence' 'With vLLM' \
  '- vLLM: Marlin, ok for TP 1, 2' '# Tiny' '"solver"'; do
  grep -qF -- "$text" "$scratch/out/README.md" || fail "the model card lacks '$text': $(cat "$scratch/out/README.md")"
done

# What stands beside a linear that isn't quantised goes along, in every format, and back through a conversion.
"$PYTHON" - "$scratch/model" <<'PY'
import sys
import torch
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1] + "/model.safetensors")
tensors["model.layers.5.mlp.down_proj.input_quant_amax"] = torch.tensor([3.0])
save_file(tensors, sys.argv[1] + "/model.safetensors", {"format": "pt"})
PY
beside() { "$PYTHON" -c 'import sys; from safetensors import safe_open; print(safe_open(sys.argv[1] + "/model.safetensors", "pt").get_tensor("model.layers.5.mlp.down_proj.input_quant_amax").item())' "$1"; }
kept() { quick "$1" "$2" --model "$scratch/model" --set evaluate=null --set calibration=null --set 'ignore=[lm_head, "/layers.5.mlp/"]' "${@:3}"; }
kept recipes/rtn.yaml "$scratch/beside" "${symmetric[@]}" --set 'output.formats=[compressed-tensors, gptq, awq]'
for format in compressed-tensors gptq awq; do [[ $(beside "$scratch/beside/$format") == 3.0 ]] || fail "$format lost what stands beside a kept linear"; done
"$QUANTIZE" convert --model "$scratch/beside/gptq" --to compressed-tensors --output "$scratch/beside/again" --quiet
[[ $(beside "$scratch/beside/again") == 3.0 ]] || fail "convert lost what stands beside a kept linear"
kept recipes/hqq.yaml "$scratch/hqq" && [[ $(beside "$scratch/hqq") == 3.0 ]] || fail "hqq lost what stands beside a kept linear"

# What the card says of consumers, inspect and the plan say, too.
"$QUANTIZE" inspect "$scratch/out" >"$scratch/artefact"
grep -qF 'consumer: vLLM: Marlin, ok for TP 1, 2' "$scratch/artefact" || fail "inspect says nothing of vLLM: $(tail -8 "$scratch/artefact")"
grep -qE 'q_proj.weight_packed .*int4 sym g128$' "$scratch/artefact" || fail "inspect's table has no schemes"
"$QUANTIZE" inspect --json "$scratch/out" >"$scratch/artefact.json"
holds "$scratch/artefact.json" "all(c['source'] for c in r['consumers']) and r['consumers'][0]['consumer'] == 'vLLM on Hopper'"

"$QUANTIZE" inspect "$(ls "$scratch"/out/layouts/marlin/*.safetensors | head -1)" >"$scratch/file"
grep -q 'qweight *I32' "$scratch/file" || fail "inspect shows no tensors of a file"
echo no >"$scratch/no.safetensors"
refuses 2 'no.safetensors' "$QUANTIZE" inspect "$scratch/no.safetensors"
quick recipes/rtn.yaml "$scratch/dry" --dry-run >"$scratch/plan"
grep -qF 'consumer   vLLM on Hopper: Machete, ok for TP' "$scratch/plan" || fail "the plan says nothing of consumers: $(cat "$scratch/plan")"
