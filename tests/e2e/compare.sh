# `quantize compare` puts artefacts side by side, shows where they disagree, and ends CI with exit code 3 and JUnit XML.
. tests/e2e/lib.sh
text=(--text data/text/evaluation.txt --ctx 128 --rows 4)
quick recipes/rtn.yaml "$scratch/four"
quick recipes/rtn.yaml "$scratch/two" --set rules[0].scheme.bits=2 --set rules[0].scheme.group_size=32 --set verify.max_kl=null
"$QUANTIZE" compare "$scratch/four" "$scratch/two" --reference "$MODEL" "${text[@]}" --json >"$scratch/both.json"
both=$scratch/both.json
# Figures are those of eval.
"$QUANTIZE" eval --model "$scratch/two" --reference "$MODEL" "${text[@]}" --json >"$scratch/eval.json"
for pair in kl:kl_mean kl_p99:kl_p99 ppl:perplexity same_top:same_top; do
  [[ $(value "$both" "r['artefacts'][1]['${pair%:*}']") == $(value "$scratch/eval.json" "r['${pair#*:}']") ]] || fail "$pair: compare and eval differ"
done
holds "$both" "r['reference_perplexity'] == $(value "$scratch/eval.json" "r['reference_perplexity']")"
holds "$both" "r['artefacts'][0]['size'] > r['artefacts'][1]['size'] > 0 and r['artefacts'][0]['kl'] < r['artefacts'][1]['kl']"
# Examples are places at which not all name the same token, the worst first; probabilities are some.
holds "$both" "r['positions'] == 4 * 128 and 0 < r['disagreements'] < r['positions'] and len(r['examples']) == 5"
holds "$both" "all(len({o['token'] for o in e['opinions']}) > 1 and [o['name'] for o in e['opinions']][0] == 'reference' and len(e['opinions']) == 3 for e in r['examples'])"
holds "$both" "all(0 < o['probability'] <= 1 and 0 <= o['next_probability'] <= o['probability'] + 1e-9 for e in r['examples'] for o in e['opinions'])"
holds "$both" "(lambda worst: worst == sorted(worst, reverse=True))([max(o['kl'] or 0 for o in e['opinions']) for e in r['examples']])"
holds "$both" "all(e['context'] and (e['context'] + e['next']).replace('\r', '') in open('data/text/evaluation.txt').read() for e in r['examples'])"
matches lib/report/compare.schema.json "$both"
# Layers, from the reports.
holds "$both" "r['linears']['measure'] == 'output_error' and len(r['linears']['rows']) == 42 and all(a < b for a, b in (row['errors'] for row in r['linears']['rows']))"
holds "$both" "r['linears']['same_calibration']"
cp -r "$scratch/two" "$scratch/elsewhere"
sed -i 's/"ids_hash": "xxh3-128:/&0/' "$scratch/elsewhere/report.json"
"$QUANTIZE" compare "$scratch/four" "$scratch/elsewhere" "${text[@]}" >"$scratch/text"
grep -q 'from the reports, which measured it on different calibration data' "$scratch/text" || fail "$(cat "$scratch/text")"
# Of artefacts without a report the errors are those of their weights: about what a report would have said, a GGUF file's, too.
for one in four two; do cp -r "$scratch/$one" "$scratch/bare_$one"; rm "$scratch/bare_$one/report.json"; done
"$QUANTIZE" compare "$scratch/four" "$scratch/bare_two" --reference "$MODEL" "${text[@]}" --json >"$scratch/bare.json"
"$PYTHON" - "$scratch/bare.json" "$scratch"/{four,two}/report.json <<'P'
import json, sys
bare, *reports = (json.load(open(f)) for f in sys.argv[1:])
said = [{row["name"]: row["weight_error"] for row in r["linears"]} for r in reports]
assert bare["linears"]["measure"] == "weight_error" and len(bare["linears"]["rows"]) == 42 and bare["linears"]["same_calibration"]
for row in bare["linears"]["rows"]:
    assert row["errors"][0] == said[0][row["name"]]
    assert abs(row["errors"][1] / said[1][row["name"]] - 1) < 0.05, (row, said[1][row["name"]])
P
"$QUANTIZE" compare "$scratch/bare_four" "$scratch/bare_two" --reference "$MODEL" "${text[@]}" >"$scratch/text"
grep -q 'weight error by role (from the reports; of A and B from the weights)' "$scratch/text" || fail "$(cat "$scratch/text")"
"$QUANTIZE" compare "$scratch/bare_four" "$scratch/bare_two" "${text[@]}" >"$scratch/text"  # nothing to measure against
! grep -q 'by role' "$scratch/text" || fail "$(cat "$scratch/text")"
quick recipes/gguf.yaml "$scratch/file"
cp "$scratch"/file/*Q4_K_M.gguf "$scratch/alone.gguf"
"$QUANTIZE" compare "$scratch/alone.gguf" --reference "$MODEL" "${text[@]}" --json >"$scratch/bare.json"
"$PYTHON" - "$scratch/bare.json" "$scratch/file/report.json" <<'P'
import json, sys
bare, report = (json.load(open(f)) for f in sys.argv[1:])
said = {row["name"]: row["weight_error"] for row in report["linears"]}
assert len(bare["linears"]["rows"]) == 42
assert all(abs(row["errors"][0] / said[row["name"]] - 1) < 0.05 for row in bare["linears"]["rows"])
P
# A GGUF file beside a safetensors artefact of the same text: both have output errors, of what the linears lost.
"$QUANTIZE" compare "$scratch/four" "$scratch/file" "${text[@]}" --json >"$scratch/mixed.json"
holds "$scratch/mixed.json" "r['linears']['measure'] == 'output_error' and r['linears']['same_calibration'] and len(r['linears']['rows']) == 42"
holds "$scratch/mixed.json" "all(0 < a and 0 < b < 4 * a for a, b in (row['errors'] for row in r['linears']['rows']))"
"$QUANTIZE" compare "$scratch/four" "$scratch/file" "${text[@]}" --quiet >"$scratch/text" 2>"$scratch/progress"
[[ ! -s $scratch/progress ]] || fail "progress with --quiet: $(cat "$scratch/progress")"
grep -q '^output error by role (from the reports), and the linears' "$scratch/text" || fail "$(cat "$scratch/text")"
# Without an output error of one, weights are what both have; they are of no text, so it doesn't matter which one that was.
"$QUANTIZE" --recipe recipes/gguf.yaml --output "$scratch/uncalibrated" --quiet --set calibration=null --set evaluate=null
"$QUANTIZE" compare "$scratch/four" "$scratch/uncalibrated" "${text[@]}" >"$scratch/text"
grep -q '^weight error by role (from the reports; there is no output error of B), and' "$scratch/text" || fail "$(cat "$scratch/text")"
! grep -q 'different calibration data' "$scratch/text" || fail "weight errors are of no calibration data: $(cat "$scratch/text")"
# Importances are of a text, or of a file in its place.
for one in measured given; do cp -r "$scratch/file" "$scratch/$one"; sed -i 's/"output_error": [0-9.e-]*/"output_error": null/' "$scratch/$one/report.json"; done
"$QUANTIZE" compare "$scratch/measured" "$scratch/given" "${text[@]}" >"$scratch/text"
grep -q '^importance-weighted error by role (from the reports)$' "$scratch/text" || fail "$(cat "$scratch/text")"
sed -i 's/"imatrix": null/"imatrix": "other.gguf"/' "$scratch/given/report.json"
"$QUANTIZE" compare "$scratch/measured" "$scratch/given" "${text[@]}" >"$scratch/text"
grep -q '^importance-weighted error by role (from the reports, which measured it on different calibration data)' "$scratch/text" || fail "$(cat "$scratch/text")"
# The same artefact twice, by whatever path: said so, no place at which the two differ, and each with its own letter.
ln -s "$scratch/four" "$scratch/link"
"$QUANTIZE" compare "$scratch/four" "$scratch/two" "$scratch/link" "$scratch/four" --reference "$MODEL" "${text[@]}" >"$scratch/text"
grep -q '^A and C are the same artefact, by their paths$' "$scratch/text" && grep -q '^A and D are the same artefact, by their paths$' "$scratch/text" || fail "$(cat "$scratch/text")"
"$PYTHON" - "$scratch/text" <<'P'
import sys
lines = open(sys.argv[1]).read().splitlines()
rows = [line.split()[0] for line in lines if "what follows" in line]
assert rows and rows == ["reference", "A", "B", "C", "D"] * (len(rows) // 5), rows
P
cp -r "$scratch/four" "$scratch/copy"
"$QUANTIZE" compare "$scratch/four" "$scratch/copy" "${text[@]}" >"$scratch/text"
grep -q '^A and B are the same artefact, by their manifests$' "$scratch/text" && grep -q '^output error by role (from the reports)$' "$scratch/text" || fail "$(cat "$scratch/text")"
grep -q '^not all name the same token at 0 of ' "$scratch/text" || fail "$(cat "$scratch/text")"
"$PYTHON" -c 'import json,sys; p=sys.argv[1]; r=json.load(open(p)); r["files"]=[1]; json.dump(r, open(p,"w"))' "$scratch/copy/manifest.json"
"$QUANTIZE" compare "$scratch/four" "$scratch/copy" "${text[@]}" --json >"$scratch/differ.json"
holds "$scratch/differ.json" "[a['same_as'] for a in r['artefacts']] == [None, None]"
"$QUANTIZE" compare "$scratch/four" "$scratch/elsewhere" "${text[@]}" --json >"$scratch/differ.json"
holds "$scratch/differ.json" "[a['same_as'] for a in r['artefacts']] == [None, None]"
"$QUANTIZE" compare "$scratch/file" "$scratch"/file/*Q4_K_M.gguf "${text[@]}" --json >"$scratch/same.json"
holds "$scratch/same.json" "[a['same_as'] for a in r['artefacts']] == [None, 0] and r['disagreements'] == 0"
# For people, within a limit.
"$QUANTIZE" compare "$scratch/four" "$scratch/two" --reference "$MODEL" "${text[@]}" --max-ram 1GiB >"$scratch/text"
grep -q '^A  .*/four$' "$scratch/text" && grep -q '^same top' "$scratch/text" && grep -q 'down_proj' "$scratch/text" || fail "$(cat "$scratch/text")"
refuses 2 "--max-ram" "$QUANTIZE" compare "$scratch/four" "$scratch/two" "${text[@]}" --max-ram 1MB

# CI: what holds is exit code 3 and a failed test case, what doesn't is neither.
run() { "$QUANTIZE" compare "$scratch/four" "$scratch/two" --reference "$MODEL" "${text[@]}" --junit "$scratch/junit.xml" "$@" >/dev/null 2>"$scratch/stderr"; }
run --fail-if "kl>100" --fail-if "ppl_increase > 100000%" || fail "no condition held, but: $(cat "$scratch/stderr")"
status=0; run --fail-if "kl>0.2" --fail-if "same_top<1%" || status=$?
((status == 3)) || fail "exit code $status, expected 3"
grep -q "1 of 6 checks failed, first $scratch/two: kl>0.2: kl is" "$scratch/stderr" || fail "$(cat "$scratch/stderr")"
"$PYTHON" - "$scratch" <<'END'
import sys, xml.etree.ElementTree as tree
suite = tree.parse(sys.argv[1] + "/junit.xml").getroot().find("testsuite")
assert suite.get("tests") == "6" and suite.get("failures") == "1", suite.attrib
failed = [case for case in suite if case.find("failure") is not None]
assert [(c.get("classname"), c.get("name")) for c in failed] == [(sys.argv[1] + "/two", "kl>0.2")], failed
# A case that passed says by how much, too.
values = {(c.get("classname"), c.get("name")): c.find("properties/property") for c in suite}
assert values.pop((sys.argv[1] + "/four", "evaluated")) is None and values.pop((sys.argv[1] + "/two", "evaluated")) is None
assert all(found is not None and float(found.get("value")) > 0 for found in values.values()), values
assert values[sys.argv[1] + "/four", "same_top<1%"].get("name") == "same_top"
END

refuses 2 "expected the path of a file in a folder that is there" "$QUANTIZE" compare "$scratch/four" "$scratch/two" "${text[@]}" --junit "$scratch/none/j.xml"

# Logits that are not finite are a failed check of that artefact; the others are compared all the same.
copy_model "$scratch/broken"
"$PYTHON" - "$scratch/broken" <<'END'
import json, sys
from safetensors.torch import load_file, save_file
folder = sys.argv[1]
tensors = {name: tensor.float() for name, tensor in load_file(f"{folder}/model.safetensors").items()}
tensors["model.norm.weight"].fill_(3e38)
save_file(tensors, f"{folder}/model.safetensors")
config = json.load(open(f"{folder}/config.json"))
config.pop("torch_dtype", None)
json.dump(config | {"dtype": "float32"}, open(f"{folder}/config.json", "w"))
END
status=0; "$QUANTIZE" compare "$scratch/broken" "$scratch/two" --reference "$MODEL" "${text[@]}" --json --fail-if "kl>100" >"$scratch/broken.json" 2>"$scratch/stderr" || status=$?
((status == 3)) || fail "exit code $status, expected 3: $(cat "$scratch/stderr")"
holds "$scratch/broken.json" "'not finite' in r['artefacts'][0]['trouble'] and 'kl' not in r['artefacts'][0]"
holds "$scratch/broken.json" "r['artefacts'][1]['kl'] == $(value "$both" "r['artefacts'][1]['kl']") and [c['failure'] is None for c in r['checks']] == [False, False, True, True]"

# Without a reference: perplexities, and where the two disagree.
"$QUANTIZE" compare "$scratch/four" "$scratch/two" "${text[@]}" --json --examples 2 >"$scratch/alone.json"
holds "$scratch/alone.json" "r['reference'] is None and 'kl' not in r['artefacts'][0] and len(r['examples']) == 2 and len(r['examples'][0]['opinions']) == 2"
refuses 2 "expected --reference DIR, which kl is measured against" "$QUANTIZE" compare "$scratch/four" "$scratch/two" "${text[@]}" --fail-if "kl>1"
refuses 2 "expected two artefacts or more" "$QUANTIZE" compare "$scratch/four" "${text[@]}"
# One by itself is held to what needs no reference.
"$QUANTIZE" compare "$scratch/four" "${text[@]}" --fail-if "size>1GiB" --fail-if "ppl>1e9" --json >"$scratch/one.json"
matches lib/report/compare.schema.json "$scratch/one.json"
holds "$scratch/one.json" "[c['failure'] for c in r['checks']] == [None] * 3 and r['checks'][1]['value'] == r['artefacts'][0]['size']"
status=0
"$QUANTIZE" compare "$scratch/four" "${text[@]}" --fail-if "size>1KiB" >/dev/null 2>"$scratch/err" || status=$?
((status == 3)) && grep -q "size>1KiB: size is" "$scratch/err" || fail "exit code $status: $(cat "$scratch/err")"
refuses 2 "expected --reference DIR, which kl is measured against" "$QUANTIZE" compare "$scratch/four" "${text[@]}" --fail-if "kl>1"
refuses 2 "unknown figure 'kll'; did you mean 'kl'" "$QUANTIZE" compare "$scratch/four" "$scratch/two" "${text[@]}" --fail-if "kll>1"
