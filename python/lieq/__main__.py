"""The program itself: python -m lieq."""

import os
import sys

from lieq import _lieq


def main() -> int:
    return _lieq.main([b"lieq", *(os.fsencode(word) for word in sys.argv[1:])])


if __name__ == "__main__":
    sys.exit(main())
