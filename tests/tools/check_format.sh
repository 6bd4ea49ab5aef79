#!/usr/bin/env bash
# Every C++ and CUDA source is as clang-format writes it. Prints the files that are not.
# CLANG_FORMAT names another binary than `clang-format-14`; `--fix` rewrites the files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

formatter=${CLANG_FORMAT:-clang-format-14}
if ! command -v "$formatter" > /dev/null; then
  echo "check_format: $formatter is not installed (Debian: clang-format-14)" >&2
  exit 2
fi
# Other versions break lines at other places: the rule is that of the version in Debian 12.
expected=14
found=$("$formatter" --version | sed -E 's/.*version ([0-9]+).*/\1/')
if [ "$found" != "$expected" ]; then
  echo "check_format: $formatter is version $found, expected $expected (set CLANG_FORMAT=clang-format-$expected)" >&2
  exit 2
fi

mapfile -d '' sources < <(find apps lib calib algorithms formats recipes tests \
  -type f \( -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) -print0 | sort -z)
if [ "${#sources[@]}" -eq 0 ]; then
  echo "check_format: no sources found" >&2
  exit 2
fi

if [ "${1:-}" = --fix ]; then
  "$formatter" -i "${sources[@]}"
  exit 0
fi

bad=0
for source in "${sources[@]}"; do
  if ! "$formatter" --dry-run -Werror "$source" > /dev/null 2>&1; then
    echo "not formatted: $source"
    bad=$((bad + 1))
  fi
done
if [ "$bad" -gt 0 ]; then
  echo "check_format: $bad of ${#sources[@]} files are not formatted; tests/tools/check_format.sh --fix" >&2
  exit 1
fi
echo "check_format: ${#sources[@]} files are formatted"
