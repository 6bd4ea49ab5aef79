# An existing output is refused before any work, and kept; --overwrite replaces it.
. tests/e2e/lib.sh
mkdir "$scratch/out"; echo precious >"$scratch/out/file"
refuses 2 "already exists" quick recipes/rtn.yaml "$scratch/out"
[[ $(cat "$scratch/out/file") == precious ]] || fail "the old output was touched"
quick recipes/rtn.yaml "$scratch/out" --overwrite
[[ ! -e $scratch/out/file && -s $scratch/out/config.json ]] || fail "--overwrite didn't replace the old output"
