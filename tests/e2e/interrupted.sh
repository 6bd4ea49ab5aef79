# Ctrl-C, SIGTERM and a terminal that goes away end with 130 and leave nothing behind but the journal of what was finished, which the
# message names.
. tests/e2e/lib.sh
# A shell's background jobs ignore SIGINT, so Python starts the run and sends the signal once the work has begun.
for signal in INT TERM HUP; do
  mkdir "$scratch/$signal"
  "$PYTHON" - "$QUANTIZE" "$scratch/$signal/out" "SIG$signal" <<'P'
import pathlib, signal, subprocess, sys, time
run = subprocess.Popen([sys.argv[1], "--recipe", "recipes/awq.yaml", "--output", sys.argv[2], "--device", "cpu"], stderr=subprocess.PIPE, text=True)
parent = pathlib.Path(sys.argv[2]).parent
while not any(parent.iterdir()) and run.poll() is None: time.sleep(0.02)
time.sleep(0.3); run.send_signal(getattr(signal, sys.argv[3]))
_, err = run.communicate(timeout=60)
assert run.returncode == 130, (run.returncode, err)
assert "interrupted" in err.splitlines()[-1], err
kept = [path.name for path in parent.iterdir()]
assert kept == ([".out.journal"] if "--resume" in err.splitlines()[-1] else []), (kept, err)
P
done
