"""``phalanx cni``: put the CNI plugins where a runtime looks for them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from phalanx.cni.install import install


def main(arguments: Sequence[str]) -> int:
    """Run ``install DIR``; return the exit status."""
    parser = argparse.ArgumentParser(prog="phalanx cni", description="CNI plugins.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("install", help="write the plugin executables into a directory")
    verb.add_argument("directory", type=Path)
    given = parser.parse_args(arguments)
    for path in install(given.directory):
        print(path)
    return 0
