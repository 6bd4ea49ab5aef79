# A full disk and a place that can't be written: one line, and nothing that looks complete.
. tests/e2e/lib.sh
refuses 2 "output" quick recipes/rtn.yaml /proc/lathe-out
# File size limit: the same path as a full disk, without needing a mount.
(ulimit -f 2000; trap '' XFSZ; refuses 2 "safetensors" quick recipes/rtn.yaml "$scratch/parent/out")
[[ -z $(ls -A "$scratch/parent" 2>/dev/null) ]] || fail "left behind: $(ls -A "$scratch/parent")"
mkdir "$scratch/disk"
mount -t tmpfs -o size=1m none "$scratch/disk" 2>/dev/null || skip "no permission to mount a small disk"
trap 'umount "$scratch/disk"; rm -rf "$scratch"' EXIT
refuses 2 "No space left" quick recipes/rtn.yaml "$scratch/disk/out"
[[ -z $(ls -A "$scratch/disk") ]] || fail "left behind on the full disk: $(ls -A "$scratch/disk")"
mount -o remount,ro "$scratch/disk"
refuses 2 "Read-only" quick recipes/rtn.yaml "$scratch/disk/out"
