"""House rules that a compiler does not check: who may include what, and a few habits of the sources.

    python tests/tools/check_includes.py [ROOT]      # prints file:line: rule: what is wrong; exit code 1 if anything is
    python tests/tools/check_includes.py --self-test # violates each rule in a temporary tree and expects it to be caught

The rules are the tables below; adding a folder or a library is adding a row.
"""
import argparse
import pathlib
import re
import sys
import tempfile

# Who may include what. A file belongs to the row with the longest matching folder; its own folder is always allowed.
# An entry is a folder, or one header of it.
LIB = ["lib"]
LAYERS = {
    "lib/pch.cc": [],  # the precompiled header of whatever uses ATen
    "lib/base": [],
    "lib/tensor": ["lib/base"],
    "lib/numeric": ["lib/base", "lib/tensor"],
    "lib/kernels": ["lib/base", "lib/tensor", "lib/numeric"],
    "lib/text": ["lib/base"],
    "lib/report": ["lib/base"],
    "lib/model": ["lib/base", "lib/tensor", "lib/numeric", "lib/kernels"],
    "lib/activations": ["lib/base", "lib/tensor", "lib/model"],
    "lib/eval": ["lib/base", "lib/tensor", "lib/numeric", "lib/kernels", "lib/model", "lib/activations"],
    "calib/stats": LIB,
    # Token ids may stand in a safetensors file; the format's header is all that is needed of it.
    "calib/data": LIB + ["formats/safetensors/safetensors_header.h"],
    "calib/data/parquet": [],  # liblathe_parquet.so shares no code with the program
    # The driver knows algorithms by their interface only, and files not at all.
    "calib/driver": LIB + ["calib/stats", "algorithms/algorithm.h"],
    "calib/sensitivity": LIB + ["calib/stats", "calib/driver", "algorithms/algorithm.h"],
    "algorithms": LIB + ["calib/stats"],
    "formats/safetensors": ["lib/base", "lib/tensor"],
    "formats/gguf": ["lib/base", "lib/tensor", "lib/numeric", "lib/kernels", "lib/model", "formats/safetensors"],
    "formats/targets": ["lib/base", "lib/tensor", "lib/numeric", "lib/kernels", "lib/model", "formats/safetensors", "formats/gguf"],
    "formats/layouts": ["lib/base", "lib/tensor", "lib/numeric", "lib/kernels", "lib/model", "formats/safetensors", "formats/targets"],
    "formats/consumers": ["lib/base", "lib/tensor", "lib/numeric", "lib/kernels", "lib/model", "formats/safetensors", "formats/targets"],
    "formats/verify": ["lib/base", "lib/tensor", "lib/numeric", "lib/kernels", "lib/model", "formats/safetensors", "formats/gguf", "formats/targets"],
    # What a recipe says about calibration is held in calib's own words.
    "recipes": LIB + ["calib/data", "calib/stats/activation_range.h", "calib/driver/expert_policy.h", "calib/driver/propagate.h", "algorithms/algorithm.h", "algorithms/solver_fallback.h", "formats/gguf/gguf_plan.h", "formats/targets/target.h", "formats/layouts/layout.h", "formats/consumers/consumers.h", "formats/consumers/loading.h"],
    "apps": ["lib", "calib", "algorithms", "formats", "recipes"],
    "tests": ["lib", "calib", "algorithms", "formats", "recipes", "apps"],
}

# Folders whose sources must not reach ATen, not even through one of our own headers (readers of headers stay light).
WITHOUT_ATEN = ["lib/base", "lib/text", "lib/report", "formats/safetensors"]
ATEN = r"(ATen|c10|torch)/"
CUDA_SUFFIXES = (".cu", ".cuh")

# Other libraries' headers, and the folders that may include them directly; None: all. What no row matches is an error.
EVERYWHERE = None
EXTERNAL = [
    (r"[a-z_]+", EVERYWHERE),  # the standard library
    (r"(unistd|fcntl|dlfcn|malloc|signal|poll|pthread|sched|stdlib)\.h|sys/[a-z]+\.h|linux/[a-z_]+\.h", EVERYWHERE),
    (r"(fmt|nlohmann)/.*", EVERYWHERE),
    (r"spdlog/.*", ["lib/base", "apps"]),
    (ATEN + r".*", ["lib", "calib", "algorithms", "formats/gguf", "formats/targets", "formats/layouts", "formats/consumers", "formats/verify", "recipes", "apps", "tests"]),
    (r"(immintrin|omp|mkl\w*)\.h|Eigen/.*", ["lib/kernels"]),
    (r"(cuda\w*|cublas\w*|cusolver\w*|curand\w*|nvtx3/.*)(\.h)?|cub/.*", ["lib/kernels", "lib/tensor", "tests"]),
    (r"pcre2\.h", ["lib/text", "formats/targets"]),  # consumers match module names by regular expression
    (r"(utf8proc|sentencepiece_processor)\.h|cld2/.*", ["lib/text"]),
    (r"jinja/.*", ["lib/text"]),
    (r"(arrow|parquet)/.*", ["calib/data/parquet"]),
    (r"xxhash\.h", ["lib/base"]),
    (r"yaml-cpp/.*", ["recipes"]),
    (r"CLI/.*", ["apps", "tests/bench"]),  # what has a command line
    (r"(gtest|gmock|benchmark)/.*", ["tests"]),
]

# The library never prints and never exits, but for the process that confined.cc forks. Looked for in code without its comments
# and strings.
QUIET_EXCEPT = ["apps", "tests", "lib/text/jinja/confined.cc"]
NOISE = [
    (r"<iostream>|\bstd::(cout|cerr|clog)\b", "prints"),
    (r"(?<![\w:.>])(std::|fmt::)?(printf|fprintf|vprintf|puts|putchar|fputs|print|println)\s*\(", "prints"),
    (r"(?<![\w.>])(std::|::)?(exit|_exit|quick_exit|abort|terminate)\s*\(", "exits"),
]

MAX_LINES = 600
CODE_SUFFIXES = (".h", ".cc", ".cu", ".cuh", ".cpp", ".hpp")
SOURCE_SUFFIXES = CODE_SUFFIXES + (".py", ".sh", ".cmake")
TEXT_SUFFIXES = SOURCE_SUFFIXES + (".md", ".yaml", ".yml")
TEXT_NAMES = ("CMakeLists.txt", "CMakePresets.json", "Makefile", "run", "requirements.txt")
FOLDERS = ("apps", "lib", "calib", "algorithms", "formats", "recipes", "tests", ".ci")
# Folders of one machine; system paths that every machine has (the shell, the kernel's files, CUDA's home) are not here.
ABSOLUTE_PATH = r"""(?<![\w.}$)])/(?:work|home|root|tmp|mnt|data|scratch|Users)/[\w.]"""
UNFINISHED = r"\bTO[D]O\b|\bFIX[M]E\b|\bX[X]X\b"


def inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def layer_of(path: str):
    rows = [folder for folder in LAYERS if inside(path, folder)]
    return max(rows, key=len) if rows else None


def blank(match: re.Match) -> str:
    """What stands for a comment or string that is taken out: its line breaks, so that line numbers stay."""
    text = match.group(0)
    if text.startswith("/"):
        return "\n" * text.count("\n") or " "
    return '""' + "\n" * text.count("\n")


TOKEN = re.compile(r'R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![\w])\'(?:\\.|[^\'\\\n])+\'|//[^\n]*|/\*.*?\*/', re.DOTALL)


def strip_comments_and_strings(code: str) -> str:
    """Include lines are kept whole: their names look like strings."""
    held = re.sub(r'(?m)^(\s*#\s*include\s*)"([^"\n]*)"', r"\1<\2>", code)
    return TOKEN.sub(blank, held)


def includes_of(code: str):
    """(line, name, quoted) of each include directive outside comments."""
    commentless = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group(0).count("\n"), code, flags=re.DOTALL)
    for match in re.finditer(r'(?m)^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', commentless):
        yield commentless.count("\n", 0, match.start()) + 1, match.group(2), match.group(1) == '"'


class Checker:
    def __init__(self, root: pathlib.Path):
        self.root = root
        self.found = []
        self.texts = {}
        for path in self.files():
            try:
                self.texts[path] = (root / path).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                self.report(path, 1, "text", "is not UTF-8")

    def files(self):
        paths = [p for p in self.root.iterdir() if p.is_file()]
        for folder in FOLDERS:
            paths += [p for p in (self.root / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        return sorted(str(p.relative_to(self.root)) for p in paths
                      if p.suffix in TEXT_SUFFIXES or p.name in TEXT_NAMES)

    def report(self, path, line, rule, message):
        self.found.append((path, line, rule, message))

    def run(self):
        for path, text in self.texts.items():
            self.check_text(path, text)
            if path.endswith(CODE_SUFFIXES):
                self.check_includes(path, text)
                self.check_aten(path)
                self.check_noise(path, text)
            if path.endswith((".h", ".cuh", ".hpp")):
                self.check_header(path, text)
        return sorted(self.found)

    def check_text(self, path, text):
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(ABSOLUTE_PATH, line):
                self.report(path, number, "absolute-path", line.strip()[:80])
            if re.search(UNFINISHED, line):
                self.report(path, number, "unfinished", line.strip()[:80])
        if path.endswith(SOURCE_SUFFIXES) and text.count("\n") > MAX_LINES:
            self.report(path, text.count("\n"), "length", f"more than {MAX_LINES} lines")

    def check_header(self, path, text):
        """A comment that says what the header is for, then #pragma once, before anything else."""
        lines = text.splitlines()
        comments = 0
        while comments < len(lines) and lines[comments].startswith("//"):
            comments += 1
        if comments == 0:
            self.report(path, 1, "head-comment", "a header starts with a comment that says what it is for")
        rest = [line for line in lines[comments:] if line.strip()]
        if not rest or rest[0].strip() != "#pragma once":
            self.report(path, comments + 1, "pragma-once", "expected #pragma once right after the head comment")

    def check_includes(self, path, text):
        layer = layer_of(path)
        if layer is None:
            self.report(path, 1, "layer", "stands in no folder that LAYERS knows; add a row")
            return
        for line, name, quoted in includes_of(text):
            if quoted:
                self.check_own(path, layer, line, name)
            else:
                self.check_external(path, line, name)

    def check_own(self, path, layer, line, name):
        if not (self.root / name).is_file():
            self.report(path, line, "include-path", f'"{name}" is no file below the repository root (others\' headers stand in <>)')
        elif not any(inside(name, allowed) for allowed in [layer] + LAYERS[layer]):
            self.report(path, line, "layer", f"{layer} may not include {name}")

    def check_external(self, path, line, name):
        rows = [folders for pattern, folders in EXTERNAL if re.fullmatch(pattern, name)]
        if not rows:
            self.report(path, line, "external", f"<{name}> is in no row of EXTERNAL; add one")
        elif not any(folders is EVERYWHERE or any(inside(path, f) for f in folders) for folders in rows):
            self.report(path, line, "external", f"<{name}> belongs in {', '.join(rows[0])} only")

    def path_to_aten(self, path, seen):
        """The chain of our own headers by which a file reaches ATen, or nothing."""
        seen.add(path)
        for _, name, quoted in includes_of(self.texts.get(path, "")):
            if re.match(ATEN, name):
                return [name]
            if quoted and name not in seen:
                chain = self.path_to_aten(name, seen)
                if chain:
                    return [name] + chain
        return None

    def check_aten(self, path):
        if not (any(inside(path, f) for f in WITHOUT_ATEN) or path.endswith(CUDA_SUFFIXES)):
            return
        chain = self.path_to_aten(path, set())
        if chain:
            self.report(path, 1, "aten", "reaches ATen: " + " -> ".join(chain))

    def check_noise(self, path, text):
        if any(inside(path, folder) for folder in QUIET_EXCEPT):
            return
        for number, line in enumerate(strip_comments_and_strings(text).splitlines(), 1):
            for pattern, what in NOISE:
                if re.search(pattern, line):
                    self.report(path, number, "noise", f"the library never {what}: {line.strip()[:60]}")


def check_tables():
    """Rows name known folders, and no two folders include one another."""
    problems = []

    def reach(folder):
        """Rows whose headers `folder` may include."""
        return {row for row in LAYERS for entry in LAYERS[folder]
                if row != folder and (inside(row, entry) or inside(entry, row))}

    for start in LAYERS:
        seen, queue = set(), list(reach(start))
        while queue:
            row = queue.pop()
            if row not in seen:
                seen.add(row)
                queue += reach(row)
        if start in seen:
            problems.append(f"LAYERS: {start} can reach itself")
    for folder in LAYERS:
        for entry in LAYERS[folder]:
            if not any(inside(entry, row) or inside(row, entry) for row in LAYERS):
                problems.append(f"LAYERS: {folder}: unknown entry {entry}")
    return problems


HEAD = "// What it is for.\n#pragma once\n"
CLEAN = {
    "lib/base/error.h": HEAD + "#include <string>\n",
    "lib/tensor/aten.h": HEAD + "#include <ATen/ATen.h>\n",
    "lib/tensor/dtype.h": HEAD + '#include "lib/base/error.h"\n',
    "lib/model/graph.h": HEAD + '#include "lib/tensor/dtype.h"\n',
    "calib/stats/stats.h": HEAD + '#include "lib/tensor/aten.h"\n',
    "algorithms/algorithm.h": HEAD + '#include "calib/stats/stats.h"\n',
    "algorithms/rtn.h": HEAD,
    "formats/safetensors/checkpoint.h": HEAD + '#include "lib/tensor/dtype.h"\n',
    "formats/targets/target.h": HEAD + '#include "formats/safetensors/checkpoint.h"\n',
    "formats/targets/folder.h": HEAD,
    "recipes/recipe.cc": '#include <yaml-cpp/yaml.h>\n#include "algorithms/algorithm.h"\n#include "formats/targets/target.h"\n',
    "recipes/recipe.h": HEAD,
    "apps/main.cc": '#include <CLI/CLI.hpp>\n#include <iostream>\n#include "recipes/recipe.h"\nint main() { std::cout << 1; exit(0); }\n',
    # What looks like a violation and is none: in comments and strings, and names that only contain the word.
    "lib/base/clean.cc": '// printf("x"); #include <yaml-cpp/yaml.h>\n/* #include "apps/x.h"\n exit(1) */\n'
                         'const char* s = "printf(1) std::cout"; int n = snprintf(0, 0, ""); void f() { g.exit(); fmt::format("a"); }\n'
                         'auto r = R"(exit(1) " std::cerr)"; char q = \'"\'; int fprint_at(int); // a/tmp/b ../data/x\n',
}
# (rule, file, contents): one violation each, added to the clean tree.
VIOLATIONS = [
    ("layer", "lib/base/x.cc", '#include "lib/tensor/dtype.h"\n'),
    ("layer", "lib/tensor/x.cc", '#include "lib/model/graph.h"\n'),
    ("layer", "lib/report/x.cc", '#include "lib/tensor/dtype.h"\n'),
    ("layer", "lib/text/x.cc", '  #  include "lib/tensor/dtype.h"\n'),
    ("layer", "lib/model/arch/x.cc", '#include "formats/targets/target.h"\n'),
    ("layer", "calib/stats/x.cc", '#include "algorithms/algorithm.h"\n'),
    ("layer", "calib/driver/x.cc", '#include "algorithms/rtn.h"\n'),
    ("layer", "calib/driver/x.cc", '#include "formats/targets/target.h"\n'),
    ("layer", "algorithms/x.cc", '#include "recipes/recipe.h"\n'),
    ("layer", "algorithms/x.cc", '#include "formats/safetensors/checkpoint.h"\n'),
    ("layer", "formats/targets/x.cc", '#include "algorithms/algorithm.h"\n'),
    ("layer", "formats/targets/x.cc", '#include "calib/stats/stats.h"\n'),
    ("layer", "formats/safetensors/x.cc", '#include "formats/targets/target.h"\n'),
    ("layer", "recipes/x.cc", '#include "algorithms/rtn.h"\n'),
    ("layer", "recipes/x.cc", '#include "formats/targets/folder.h"\n'),
    ("layer", "lib/x.cc", "int x;\n"),
    ("include-path", "lib/base/x.cc", '#include "error.h"\n'),
    ("external", "lib/base/x.cc", "#include <yaml-cpp/yaml.h>\n"),
    ("external", "algorithms/x.cc", "#include <yaml-cpp/yaml.h>\n"),
    ("external", "recipes/x.cc", "#include <CLI/CLI.hpp>\n"),
    ("external", "lib/model/x.cc", "#include <Eigen/Dense>\n"),
    ("external", "lib/base/x.cc", "#include <unknown/thing.h>\n"),
    ("external", "lib/base/x.cc", "#include <gtest/gtest.h>\n"),
    ("aten", "lib/report/x.cc", "#include <ATen/ATen.h>\n"),
    ("aten", "formats/safetensors/x.cc", '#include "lib/tensor/aten.h"\n'),
    ("aten", "lib/kernels/x.cu", "#include <c10/core/Device.h>\n"),
    ("aten", "lib/kernels/x.cuh", HEAD + '#include "lib/tensor/aten.h"\n'),
    ("noise", "lib/base/x.cc", "void f() { std::cout << 1; }\n"),
    ("noise", "calib/stats/x.cc", 'void f() { printf("x"); }\n'),
    ("noise", "recipes/x.cc", 'void f() { fmt::print("x"); }\n'),
    ("noise", "algorithms/x.cc", 'void f() { std::fprintf(stderr, "x"); }\n'),
    ("noise", "lib/base/x.cc", "void f() { std::exit(1); }\n"),
    ("pragma-once", "lib/base/x.h", "// Something.\nint x;\n"),
    ("head-comment", "lib/base/x.h", "#pragma once\n"),
    ("length", "lib/base/x.cc", "\n" * (MAX_LINES + 1)),
    ("length", "tests/x.py", "\n" * (MAX_LINES + 1)),
    ("absolute-path", "lib/base/x.cc", 'const char* p = "/ho' + 'me/someone/x";\n'),
    ("absolute-path", "README.md", "see /wo" + "rk/x\n"),
    ("unfinished", "recipes/x.yaml", "# TO" + "DO: later\n"),
    ("unfinished", "lib/base/x.cc", "// FIX" + "ME\n"),
]


def write_tree(root: pathlib.Path, files: dict):
    for name, contents in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents, encoding="utf-8")


def self_test() -> int:
    failures = check_tables()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write_tree(root, CLEAN)
        for problem in Checker(root).run():
            failures.append(f"the clean tree is reported: {problem}")
        for rule, name, contents in VIOLATIONS:
            write_tree(root, {name: contents})
            found = {(path, r) for path, _, r, _ in Checker(root).run()}
            if (name, rule) not in found:
                failures.append(f"not caught: {rule} in {name}: {contents.strip()[:60]!r}; found {sorted(found)}")
            if {path for path, _ in found} - {name}:
                failures.append(f"another file is reported for {name}: {sorted(found)}")
            (root / name).unlink()
    for failure in failures:
        print("self-test:", failure)
    if not failures:
        print(f"check_includes: self-test caught all {len(VIOLATIONS)} violations")
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="House rules that a compiler does not check")
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--self-test", action="store_true", help="prove that each rule catches a violation")
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    checker = Checker(args.root)
    found = checker.run()
    for path, line, rule, message in found:
        print(f"{path}:{line}: {rule}: {message}")
    for problem in check_tables():
        print(problem)
        found.append(problem)
    print(f"check_includes: {len(checker.texts)} files, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
