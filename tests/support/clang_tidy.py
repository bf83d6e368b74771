#!/usr/bin/env python3
"""Runs clang-tidy over the sources of the product, a file again only when something changed.

usage: clang_tidy.py BUILD_FOLDER [PATH_PREFIX ...]

A file counts as unchanged if it, every header of ours or of the build that it includes, its compile
command, .clang-tidy and clang-tidy itself are what they were when it last passed, in whatever clone
of the tree: what passed is remembered in $XDG_CACHE_HOME/farside/tidy, for a month.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

TIDY = "clang-tidy-19"
FOLDERS = ("common/", "services/", "cli/")
SECONDS_MAX = 900
DAYS_REMEMBERED = 30
# The analyzer does not follow Asio's coroutines and reports them inside Boost's own headers.
CHECKS_OF = {"services/vault/front_door/server.cpp": "-clang-analyzer-*"}


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def headers_of(build, output):
    """What the compiler read, as ninja remembers it, without the system's headers."""
    lines = subprocess.run(["ninja", "-C", build, "-t", "deps", output], capture_output=True,
                           text=True, check=False).stdout.splitlines()[1:]
    paths = (os.path.normpath(os.path.join(build, line.strip())) for line in lines if line.strip())
    return sorted(p for p in paths if not p.startswith(("/usr/", "/lib/")) and os.path.exists(p))


def key_of(root, build, entry, tool):
    def within(path):  # As any other clone would say it.
        return path.replace(build, "BUILD").replace(str(root), "ROOT")

    parts = [tool, digest(root / ".clang-tidy"), within(entry["command"]), digest(entry["file"])]
    for header in headers_of(build, entry["output"]):
        parts += [within(header), digest(header)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def check(root, build, entry):
    words = [TIDY, "--quiet", "-p", build, "--extra-arg=-Wno-unknown-warning-option",
             "--extra-arg=-Wno-ignored-optimization-argument",
             "--extra-arg=-include", "--extra-arg=common/wire/kj_for_clang.h",
             f"--extra-arg=-I{root}", entry["file"]]
    checks = CHECKS_OF.get(os.path.relpath(entry["file"], root))
    if checks:
        words.insert(1, "--checks=" + checks)
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False,
                              timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return False, f"{entry['file']}: no verdict within {SECONDS_MAX} s"
    return done.returncode == 0, done.stdout.strip()


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    build = os.path.abspath(sys.argv[1])
    prefixes = tuple(sys.argv[2:]) or FOLDERS
    tool = subprocess.run([TIDY, "--version"], capture_output=True, text=True, check=True).stdout
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = pathlib.Path(home) / "farside" / "tidy"
    cache.mkdir(parents=True, exist_ok=True)

    entries = []
    for entry in json.loads((pathlib.Path(build) / "compile_commands.json").read_text()):
        relative = os.path.relpath(entry["file"], root)
        if relative.startswith(prefixes):
            words = shlex.split(entry["command"])
            entry["output"] = entry.get("output") or words[words.index("-o") + 1]
            entries.append(entry)

    keys = {entry["file"]: key_of(root, build, entry, tool) for entry in entries}
    due = [entry for entry in entries if not (cache / keys[entry["file"]]).exists()]
    print(f"clang-tidy: {len(entries)} files, {len(due)} changed since they last passed", flush=True)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for entry, (passed, text) in zip(due, pool.map(lambda e: check(root, build, e), due)):
            if passed:
                (cache / keys[entry["file"]]).touch()
            else:
                failed += 1
                print(text, flush=True)
    for key in keys.values():
        if (cache / key).exists():
            (cache / key).touch()
    for passed in cache.iterdir():
        if time.time() - passed.stat().st_mtime > DAYS_REMEMBERED * 86400:
            passed.unlink()
    print(f"clang-tidy: {failed} files with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
