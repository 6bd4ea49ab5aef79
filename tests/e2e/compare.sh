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
# Layers, from the reports.
holds "$both" "r['linears']['measure'] == 'output_error' and len(r['linears']['rows']) == 42 and all(a < b for a, b in (row['errors'] for row in r['linears']['rows']))"
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
refuses 2 "unknown figure 'kll'; did you mean 'kl'" "$QUANTIZE" compare "$scratch/four" "$scratch/two" "${text[@]}" --fail-if "kll>1"
