"""``python -m pyjama_instrument`` is the ``pyjama`` command."""

import sys

from pyjama_instrument.cli import main

if __name__ == "__main__":
    sys.exit(main())
