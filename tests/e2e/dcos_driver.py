"""Runs commands of dcos' old command line in one process, for each start of it takes a second.

Run by the interpreter of its own environment. Each line on standard input is a list of words, as
after ``dcos``; each on standard output the status and what was printed.
"""

import collections
import collections.abc
import importlib
import json
import os
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

# It is of the time before Python 3.10.
for name in ("Callable", "Iterable", "Mapping", "MutableMapping", "Sequence"):
    setattr(collections, name, getattr(collections.abc, name))


def main() -> None:
    """Serve until standard input ends."""
    warnings.simplefilter("ignore")
    # "watch" clears the screen, by a process of its own: answers go where it doesn't reach.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    command = importlib.import_module("dcoscli.marathon.main").main
    for line in sys.stdin:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status = command(json.loads(line)) or 0  # as sys.exit takes it
            except SystemExit as ended:
                status = ended.code
        said = {"status": status, "out": out.getvalue(), "err": err.getvalue()}
        print(json.dumps(said), file=answers, flush=True)


main()
