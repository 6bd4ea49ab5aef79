# Every kind of data file gives the same text the same ids; a mix takes its shares; conversations go through the template.
. tests/e2e/lib.sh
hash_of() { value "$1/manifest.json" "r['dataset']['ids_hash']"; }
"$PYTHON" - "$scratch" <<'PY'
import json, sys, pyarrow as pa, pyarrow.parquet as pq
folder = sys.argv[1]
text = open("data/text/calibration.txt", encoding="utf-8").read()[:40000]
parts = [text[i:i + 8000] for i in range(0, len(text), 8000)]
open(folder + "/a.txt", "w", encoding="utf-8").write(parts[0])
with open(folder + "/a.jsonl", "w") as f:
    for part in parts: f.write(json.dumps({"text": part}) + "\n")
pq.write_table(pa.table({"text": parts}), folder + "/a.parquet")
talks = [[{"role": "user", "content": part[:6000]}] for part in parts]
tools = [[{"type": "function", "name": "look", "strict": True}], None, [], [{"type": "function", "name": "go", "strict": False}], None]
with open(folder + "/tools.jsonl", "w") as f:
    for talk, known in zip(talks, tools): f.write(json.dumps({"messages": talk, "tools": known}) + "\n")
pq.write_table(pa.table({"tools": tools, "messages": talks}), folder + "/tools.parquet")
pq.write_table(pa.table({"messages": talks}), folder + "/no_tools.parquet")
with open(folder + "/chat.jsonl", "w") as f:
    for part in parts:
        f.write(json.dumps({"messages": [{"role": "user", "content": part[:2000]}, {"role": "assistant", "content": part[2000:]}]}) + "\n")
PY
run() { quick recipes/rtn.yaml "$@" --overwrite --set evaluate=null; }
run "$scratch/jsonl" --calib "$scratch/a.jsonl"
run "$scratch/parquet" --calib "$scratch/a.parquet"
[[ $(hash_of "$scratch/jsonl") == $(hash_of "$scratch/parquet") ]] || fail "the same text as Parquet gives other ids"
cmp "$scratch/jsonl/model.safetensors" "$scratch/parquet/model.safetensors"

mix="[{path: $scratch/a.parquet, weight: 3}, {path: $scratch/a.txt, samples: 2}, {path: $scratch/a.jsonl, weight: 1}]"
run "$scratch/mix" --set "calibration.data=$mix"
holds "$scratch/mix/manifest.json" "[s['samples'] for s in r['dataset']['sources']] == [5, 2, 1]"

refuses 2 "chat.jsonl:1: field 'messages': a list of messages needs the model's chat template" \
  run "$scratch/chat" --calib "$scratch/chat.jsonl"
copy_model "$scratch/model"
echo "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}" >"$scratch/model/chat_template.jinja"
run "$scratch/chat" --model "$scratch/model" --calib "$scratch/chat.jsonl"
[[ $(hash_of "$scratch/chat") != $(hash_of "$scratch/jsonl") ]] || fail "the template left no trace"
echo "{{ raise_exception('no such roles') }}" >"$scratch/model/chat_template.jinja"
refuses 2 "refuses the conversation: no such roles" run "$scratch/bad" --model "$scratch/model" --calib "$scratch/chat.jsonl"

# Tools beside a conversation reach the template, from Parquet as from JSON.
echo "{{ messages[0].content }}{% if tools %}{{ tools | tojson }}{% endif %}" >"$scratch/model/chat_template.jinja"
for data in tools.jsonl tools.parquet no_tools.parquet; do
  "$QUANTIZE" --recipe recipes/rtn.yaml --model "$scratch/model" --output "$scratch/none" --dry-run --calib "$scratch/$data" \
    --set calibration.samples=8 --set calibration.seq_len=256 --set evaluate=null --dump-ids "$scratch/$data.npy" >/dev/null
done
cmp "$scratch/tools.jsonl.npy" "$scratch/tools.parquet.npy" || fail "tools in Parquet give other ids"
! cmp -s "$scratch/tools.parquet.npy" "$scratch/no_tools.parquet.npy" || fail "the tools left no trace"
