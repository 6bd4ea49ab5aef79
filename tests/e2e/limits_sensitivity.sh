# A limit on RAM holds while candidates are measured: the one that a refusal names does, with the estimate from gradients where the
# loss is that; what stands beside the loss is left out before the limit is refused: the estimate, or the KL that checks it.
. tests/e2e/lib.sh
measure=("$QUANTIZE" sensitivity --recipe recipes/sensitivity.yaml --device cpu --set calibration.samples=12 --set calibration.seq_len=256
  --set sensitivity.held_out=4 --set 'candidates=[{scheme: {bits: 3}}, {scheme: {bits: 4}}]')
for loss in fisher kl; do
  refuses 2 "the smallest limit that would do is --max-ram" "${measure[@]}" --output "$scratch/$loss" --set "sensitivity.loss=$loss" --max-ram 20MB --quiet
  [[ ! -e $scratch/$loss ]] || fail "a refused measurement left a folder"
  least=$(grep -oE -- '--max-ram [0-9]+MiB' "$scratch/stderr" | grep -oE '[0-9]+')
  "$PYTHON" - "$least" "${measure[@]}" --output "$scratch/$loss" --set "sensitivity.loss=$loss" --max-ram "${least}MiB" <<'P' \
    >"$scratch/said" || fail "$(cat "$scratch/said")"
import resource, subprocess, sys
done = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
print(done.stdout[-2000:], f"a peak of {peak} MiB, {sys.argv[1]} allowed", sep="\n")
sys.exit(done.returncode != 0 or peak > int(sys.argv[1]))
P
  echo "$loss: $(tail -1 "$scratch/said")"
  used "$loss" "$(sed -n 's/^a peak of \([0-9]*\) MiB.*/\1/p' "$scratch/said")" "$least"
done
# (The hidden states of what checks the estimate stand in a file, so that it stays.)
holds "$scratch/fisher/sensitivity.json" "all(l['fisher'] > 0 for g in r['groups'] for l in g['losses'])"
holds "$scratch/kl/sensitivity.json" "all(l['fisher'] is None and l['kl'] > 0 for g in r['groups'] for l in g['losses'])"
grep -q "no room for the estimate" "$scratch/said" || fail "it isn't said that the estimate is left out: $(cat "$scratch/said")"
# 100 MiB of them, of all groups under four candidates, are more than a quarter of the memory and than the file that is allowed.
scheme() { echo "{scheme: {bits: $1}}"; }
"${measure[@]}" --output "$scratch/dropped" --set sensitivity.loss=fisher --set sensitivity.checked=24 --max-ram 320MiB --max-disk 60MB \
  --set "candidates=[$(scheme 3), $(scheme 4), $(scheme 5), $(scheme 6)]" >"$scratch/said" 2>&1
grep -q "no room for the KL that would check" "$scratch/said" || fail "it isn't said that the check is left out: $(cat "$scratch/said")"
holds "$scratch/dropped/sensitivity.json" "all(l['fisher'] > 0 and l['kl'] is None for g in r['groups'] for l in g['losses'])"
holds "$scratch/dropped/sensitivity.json" "r['data']['checked_tokens'] is None and r['data']['held_out_tokens'] == 1024"
