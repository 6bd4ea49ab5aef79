# The limits hold where the kernel enforces them, not by what a run says of itself: RAM in a control group of --max-ram bytes, page
# cache and all, temporary files on a disk of --max-disk bytes. (RLIMIT_AS and RLIMIT_DATA would count mapped weights and memory
# that is reserved but never touched, gigabytes with libtorch; RLIMIT_RSS does nothing in Linux.)
. tests/e2e/lib.sh
within() { "$PYTHON" tests/tools/within_memory.py "$1" --report "$scratch/group.json" -- "${@:2}"; }
within 1000000000 true 2>"$scratch/stderr" || skip "$(cat "$scratch/stderr")"
vocabulary=$(value "$MODEL/config.json" "r['vocab_size']")
"$PYTHON" tests/tools/make_sparse_model.py "$scratch/model" --blocks 4 --dense-blocks 4 --rows "$vocabulary" --tokenizer "$MODEL" \
  --shape "{\"hidden_size\": 512, \"intermediate_size\": 1536, \"num_attention_heads\": 8, \"num_key_value_heads\": 4,
    \"head_dim\": 64, \"vocab_size\": $vocabulary}" >/dev/null
run=("$QUANTIZE" --model "$scratch/model" --device cpu --threads 1 --quiet --overwrite --set evaluate=null)
data=(--set calibration.samples=8 --set calibration.seq_len=128)

# RAM: the smallest limit that a refusal names.
for case in "gptq calibrated" "hqq alone"; do
  read -r recipe how <<<"$case"
  flags=(--recipe "recipes/$recipe.yaml"); [[ $how == calibrated ]] && flags+=("${data[@]}")
  refuses 2 "--max-ram" "${run[@]}" "${flags[@]}" --output "$scratch/none" --max-ram 100MB
  least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
  within $((least << 20)) "${run[@]}" "${flags[@]}" --output "$scratch/$recipe" --max-ram "${least}MiB" ||
    fail "$recipe: exit code $? in $least MiB of memory ($(cat "$scratch/group.json"))"
  holds "$scratch/group.json" "r['killed'] == 0 and r['peak_rss'] <= $least << 20"
  used "$recipe" "$(value "$scratch/group.json" "r['peak_rss'] >> 20")" "$least"
  echo "$recipe: --max-ram ${least}MiB held in a group of that size, peak $(value "$scratch/group.json" "r['peak_rss'] >> 20") MiB"
done

# Without a limit of its own a run keeps to what its group has.
status=0
within 190000000 "${run[@]}" --recipe recipes/gptq.yaml "${data[@]}" --output "$scratch/none" 2>"$scratch/stderr" || status=$?
((status == 2)) || fail "exit code $status in a group that is too small"
grep -q "does not fit in the memory it may take" "$scratch/stderr" || fail "no word of memory: $(cat "$scratch/stderr")"
holds "$scratch/group.json" "r['killed'] == 0"

# That the kernel means it.
status=0
within 100000000 "$PYTHON" -c 'bytearray(200_000_000)' || status=$?
((status == 137)) || fail "exit code $status of a process that takes more than its group has"
holds "$scratch/group.json" "r['killed'] == 1"

# Disk: hidden states and values inside blocks in files.
mkdir "$scratch/disk"
mount -t tmpfs -o size=1m none "$scratch/disk" 2>/dev/null || skip "RAM only: no permission to mount a small disk"
trap 'umount "$scratch/disk"; rm -rf "$scratch"' EXIT
flags=(--recipe recipes/rtn.yaml --set calibration.samples=48 --set calibration.seq_len=256)
refuses 2 "--max-ram" "${run[@]}" "${flags[@]}" --output "$scratch/none" --max-ram 100MB
least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | cut -d' ' -f2)
refuses 2 "or --max-disk" "${run[@]}" "${flags[@]}" --output "$scratch/none" --max-ram "$least" --max-disk 1MB --no-journal
files=$(grep -oE -- '--max-disk [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
mount -o "remount,size=${files}m" "$scratch/disk"
"${run[@]}" "${flags[@]}" --output "$scratch/files" --max-ram "$least" --max-disk "${files}MiB" --work "$scratch/disk" --no-journal ||
  fail "files of a run with --max-disk ${files}MiB did not fit on a disk of that size"
holds "$scratch/files/report.json" "r['memory']['hidden_states'] == 'disk'"
mount -o "remount,size=$((files / 2))m" "$scratch/disk"
refuses 2 "No space left on device" "${run[@]}" "${flags[@]}" --output "$scratch/none" --max-ram "$least" --max-disk "${files}MiB" \
  --work "$scratch/disk" --no-journal

# The journal stands beside the output, which it shares the disk with.
written=$(($(du -s -B 1M "$scratch/files" | cut -f1) + 1))
refuses 2 "--max-disk" "${run[@]}" --recipe recipes/gptq.yaml "${data[@]}" --output "$scratch/none" --max-disk 1MB
files=$(grep -oE -- '--max-disk [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
mount -o "remount,size=$((files + written))m" "$scratch/disk"
"${run[@]}" --recipe recipes/gptq.yaml "${data[@]}" --output "$scratch/disk/out" --max-disk "${files}MiB" ||
  fail "a journal of a run with --max-disk ${files}MiB did not fit beside an output of $written MiB"
echo "--max-disk held on disks of that size"
