# A full disk and a place that can't be written: one line, and nothing that looks complete.
. tests/e2e/lib.sh
refuses 2 "output" quick recipes/rtn.yaml /proc/lathe-out
# File size limit: the same path as a full disk, without needing a mount.
(ulimit -f 2000; trap '' XFSZ; refuses 2 "safetensors" quick recipes/rtn.yaml "$scratch/parent/out")
[[ -z $(ls -A "$scratch/parent" 2>/dev/null) ]] || fail "left behind: $(ls -A "$scratch/parent")"
# The same half way through a conversion, with an artefact of several shards of which the first are whole.
quick recipes/rtn.yaml "$scratch/made" "${symmetric[@]}" --set evaluate=null --set calibration=null --set output.shard_size=1MB
convert() { "$QUANTIZE" convert --model "$scratch/made" --to gptq --output "$1" --shard-size 1MB --quiet; }
(ulimit -f 1000; trap '' XFSZ; refuses 2 "safetensors" convert "$scratch/parent/converted")
[[ -z $(ls -A "$scratch/parent" 2>/dev/null) ]] || fail "left behind by convert: $(ls -A "$scratch/parent")"
mkdir "$scratch/disk"
mount -t tmpfs -o size=1m none "$scratch/disk" 2>/dev/null || skip "no permission to mount a small disk"
trap 'umount "$scratch/disk"; rm -rf "$scratch"' EXIT
refuses 2 "No space left" quick recipes/rtn.yaml "$scratch/disk/out" --no-journal
refuses 2 "or pass --no-journal" quick recipes/rtn.yaml "$scratch/disk/out"
[[ -z $(ls -A "$scratch/disk") ]] || fail "left behind on the full disk: $(ls -A "$scratch/disk")"
refuses 2 "No space left" convert "$scratch/disk/out"
[[ -z $(ls -A "$scratch/disk") ]] || fail "convert left on the full disk: $(ls -A "$scratch/disk")"
mount -o remount,ro "$scratch/disk"
refuses 2 "Read-only" quick recipes/rtn.yaml "$scratch/disk/out"
refuses 2 "Read-only" convert "$scratch/disk/out"
