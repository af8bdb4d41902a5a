#!/usr/bin/env python3
"""Hand the command line over to killport, and its exit code back.

killport is looked for beside this script, in bin/ of the repository, on PATH,
and last it is built from the repository when go is at hand.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).resolve()
ROOT = SCRIPT.parent.parent
EXE = ".exe" if os.name == "nt" else ""
NAME = "killport" + EXE


class NotFound(Exception):
    """No killport, and why it cannot be had: a message and a hint."""


def main():
    try:
        binary = find() or build()
        return hand_over([str(binary)] + sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    except NotFound as error:
        return fail(*error.args)
    except OSError as error:
        return fail("cannot run killport: %s" % error, "build it anew: go build -o bin/ ./cmd/killport")


def find():
    """The first killport that is there already, or None."""
    on_path = shutil.which(NAME)
    for path in [SCRIPT.parent / NAME, ROOT / "bin" / NAME, on_path and Path(on_path)]:
        if path and path.is_file() and os.access(str(path), os.X_OK) and path.resolve() != SCRIPT:
            return path
    return None


def build():
    """Build killport into the user's cache: `go run` would make every failure exit code 1."""
    if not (ROOT / "cmd" / "killport").is_dir():
        raise NotFound("killport not found beside %s or on PATH" % SCRIPT.name,
                       "put the killport binary on PATH, or in %s" % SCRIPT.parent)
    go = shutil.which("go")
    if not go:
        raise NotFound("killport not found, and no go on PATH to build it with",
                       "install Go, or put the killport binary on PATH")
    folder = cache_folder()
    fresh = folder / ("build-%d%s" % (os.getpid(), EXE))
    command = [go, "build", "-o", str(fresh), "./cmd/killport"]
    if subprocess.call(command, cwd=str(ROOT), stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno()) != 0:
        raise NotFound("cannot build killport in %s" % ROOT, "what go build says above is the reason")
    try:
        os.replace(str(fresh), str(folder / NAME))
    except PermissionError:  # Windows, while another killport runs from there
        return fresh
    return folder / NAME


def cache_folder():
    """A folder that belongs to the user and to this checkout."""
    checkout = hashlib.sha256(os.fsencode(str(ROOT))).hexdigest()[:12]
    try:
        if os.name == "nt":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "killport" / checkout
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except (OSError, RuntimeError):  # no home, or not ours to write
        return Path(tempfile.mkdtemp(prefix="killport-"))


def hand_over(command):
    """Become the command; on Windows, which cannot, wait for it."""
    if os.name != "nt":
        # Python ignores SIGPIPE, and what is ignored stays so in the next program.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execv(command[0], command)
    child = subprocess.Popen(command)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the console told the child as well: its answer counts
            pass


def fail(message, hint):
    print("killport: error: " + message, file=sys.stderr)
    print("killport: hint: " + hint, file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main())
