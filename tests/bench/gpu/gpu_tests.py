"""The tests labelled `gpu`: as ctest lists them, in a form that also runs where there is no build tree."""
import json
import os
import re
import subprocess

from steps import Failed, last_lines, run_logged


def of_build(root, build):
    """A list of tests: name, command, environment, folder, skip_code, skip_pattern. Paths of the checkout, of the build tree
    and of Python are written as @SOURCE@, @BUILD@ and @PYTHON@."""
    shown = subprocess.run(["ctest", "--test-dir", str(build), "--show-only=json-v1", "-L", "gpu"], capture_output=True, text=True, check=True)
    cache = (build / "CMakeCache.txt").read_text()
    pythons = re.findall(r"^LATHE_PYTHON:\w+=(.+)$", cache, re.M) + [f"{build}/venv/bin/python"]

    def portable(text):
        for python in pythons:
            text = text.replace(python, "@PYTHON@")
        return text.replace(str(build), "@BUILD@").replace(str(root), "@SOURCE@")

    tests = []
    for test in json.loads(shown.stdout)["tests"]:
        if "command" not in test:
            raise Failed(f"{test['name']}: its program is not built")
        properties = {row["name"]: row["value"] for row in test.get("properties", [])}
        tests.append({
            "name": test["name"],
            "command": [portable(word) for word in test["command"]],
            "environment": [portable(entry) for entry in properties.get("ENVIRONMENT", [])],
            "folder": portable(properties.get("WORKING_DIRECTORY", str(root))),
            "skip_code": properties.get("SKIP_RETURN_CODE"),
            "skip_pattern": (properties.get("SKIP_REGULAR_EXPRESSION") or [None])[0],
        })
    return tests


def save(tests, path):
    path.write_text(json.dumps(tests, indent=1))


def outcome(test, code, log):
    """passed, failed or skipped. Unlike ctest, a program that failed is not skipped because one of its tests was, and one that
    ran no test has not passed."""
    if code == test["skip_code"]:
        return "skipped"
    text = log.read_text(errors="replace")
    if code != 0 or "[==========] Running 0 tests" in text:
        return "failed"
    return "skipped" if test["skip_pattern"] and re.search(test["skip_pattern"], text) else "passed"


def run(context):
    place = {"@SOURCE@": str(context.root), "@BUILD@": str(context.programs.parent), "@PYTHON@": context.python}

    def here(text):
        for mark, path in place.items():
            text = text.replace(mark, path)
        return text

    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for test in context.tests:
        log = context.logs / f"{test['name']}.log"
        own = dict(here(entry).split("=", 1) for entry in test["environment"])
        environment = os.environ | context.environment | own
        folder = here(test["folder"])
        command = [here(word) for word in test["command"]]
        code = run_logged(command, log, context.step.left(), environment, folder if os.path.isdir(folder) else context.root)
        result = outcome(test, code, log)
        counts[result] += 1
        context.step.figures[test["name"]] = result if result == "passed" else f"{result}: {last_lines(log, 2)}"
        print(f"   {test['name']}: {result}", flush=True)
    if not context.tests:
        raise Failed("ctest lists no test with the label gpu")
    if counts["failed"]:
        raise Failed(f"{counts['failed']} of {len(context.tests)} tests failed")
    if context.gpu and counts["skipped"]:
        raise Failed(f"{counts['skipped']} of {len(context.tests)} tests were skipped though there is a GPU")
