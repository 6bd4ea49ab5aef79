# Outlier channels that change nothing in the model ruin rounding to nearest; SmoothQuant and AWQ give back what it loses.
. tests/e2e/lib.sh
"$PYTHON" -c 'import torch, safetensors' 2>/dev/null || skip "needs torch and safetensors in Python"
"$PYTHON" tests/tools/inject_outliers.py "$MODEL" "$scratch/model"
"$QUANTIZE" eval --model "$scratch/model" --reference "$MODEL" --text data/text/evaluation.txt --ctx 256 --rows 4 --device cpu --json \
  >"$scratch/same.json"
holds "$scratch/same.json" "r['kl_mean'] < 1e-9 and r['same_top'] == 1"

# run NAME RECIPE MODEL [flags...]: a run, and its mean KL.
run() {
  local name=$1 recipe=$2 model=$3; shift 3
  quick "recipes/$recipe.yaml" "$scratch/$name" --model "$model" --set verify.max_kl=null "$@"
}
kl() { value "$scratch/$1/report.json" "r['evaluation']['kl_mean']"; }
below() { "$PYTHON" -c "import sys; sys.exit(not $1 < $2)" || fail "$3: $1 is not below $2"; }

int8=(--set 'rules[0].activations={dynamic: false}')
run w8a8-plain smoothquant "$MODEL" "${int8[@]}" --set transforms=[]
run w8a8-rtn smoothquant "$scratch/model" "${int8[@]}" --set transforms=[]
run w8a8-half smoothquant "$scratch/model" "${int8[@]}" --set 'transforms[0].smoothquant.alpha=0.5'
run w8a8-auto smoothquant "$scratch/model" "${int8[@]}"
echo "W8A8, static per tensor: without outliers $(kl w8a8-plain), with them $(kl w8a8-rtn), smoothed $(kl w8a8-half), auto $(kl w8a8-auto)"
below "10 * $(kl w8a8-plain)" "$(kl w8a8-rtn)" "outliers don't hurt W8A8"
below "$(kl w8a8-half)" "0.2 * $(kl w8a8-rtn)" "SmoothQuant at 0.5"
below "$(kl w8a8-auto)" "0.05 * $(kl w8a8-rtn)" "SmoothQuant with alpha: auto"
below "$(kl w8a8-auto)" "2 * $(kl w8a8-plain)" "SmoothQuant gives back what outliers took"

run w4-plain rtn "$MODEL"
run w4-rtn rtn "$scratch/model"
run w4-awq awq "$scratch/model"
echo "W4: without outliers $(kl w4-plain), with them $(kl w4-rtn), AWQ $(kl w4-awq)"
below "2 * $(kl w4-plain)" "$(kl w4-rtn)" "outliers don't hurt W4"
below "$(kl w4-awq)" "0.5 * $(kl w4-rtn)" "AWQ"
below "$(kl w4-awq)" "1.5 * $(kl w4-plain)" "AWQ gives back what outliers took"
