#!/usr/bin/env bash
# Rehearses tests/bench/gpu.sh as on a bare machine: a copy of the sources and of the pack, without history, ccache, pkg-config
# and the files of the packages that the pack carries. They are taken away in a mount namespace of this process only; root is
# needed for that. Arguments go to gpu.sh; PYTHON: a Python that has torch (default: build/venv's).
#
#     tests/bench/gpu.sh --pack && tests/bench/gpu/bare.sh --no-gpu
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
PYTHON=$(realpath -s "${PYTHON:-build/venv/bin/python}")

if [[ -z ${LATHE_BARE:-} ]]; then
  exec env LATHE_BARE=1 PYTHON="$PYTHON" unshare --mount "$0" "$@"
fi

bare=$(mktemp -d "${TMPDIR:-/tmp}/lathe-bare.XXXXXX")
trap 'umount -l /usr "$bare/usr" 2>/dev/null || true; rm -rf "$bare"' EXIT
mkdir -p "$bare/tree/build" "$bare/usr" "$bare/out"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$bare/tree"
cp -r build/gpu-pack "$bare/tree/build/"

mapfile -t packages < <("$PYTHON" -c 'import sys, pathlib; sys.path.insert(0, "tests/bench/gpu"); import pack
print(*pack.with_dependencies(pack.development_packages(pathlib.Path("."))), sep="\n")')
# libpcre2's run-time library stays: grep and git of this system need it themselves.
mapfile -t hidden < <(printf '%s\n' "${packages[@]}" | grep -v '^libpcre2-8-0$' | xargs dpkg -L | grep -E '^/usr/(include|lib|share/cmake|share/javascript)/' | sort -u)
mount -t tmpfs none "$bare/usr"
mkdir "$bare/usr/upper" "$bare/usr/work"
mount -t overlay overlay -o "lowerdir=/usr,upperdir=$bare/usr/upper,workdir=$bare/usr/work" /usr
for file in "${hidden[@]}" /usr/bin/ccache /usr/bin/pkg-config /usr/bin/pkgconf; do
  if [[ -f $file || -L $file ]]; then rm "$file"; fi
done
if echo '#include <fmt/core.h>' | g++ -E -x c++ - >/dev/null 2>&1; then echo "bare.sh: fmt is still there" >&2; exit 1; fi

cd "$bare/tree"
status=0
env -i PATH=/usr/local/cuda/bin:/usr/bin:/bin HOME="$bare" LANG=C.UTF-8 OMP_WAIT_POLICY=PASSIVE OUT="$bare/out" PYTHON="$PYTHON" \
  nice -n 5 tests/bench/gpu.sh "$@" || status=$?
if [[ -n ${KEEP:-} ]]; then mkdir -p "$KEEP" && cp -r "$bare/out/." "$KEEP/"; fi
exit $status
