"""`python -m xlm_core` is the command `xlm`."""

from __future__ import annotations

from xlm_core.cli.app import main

if __name__ == "__main__":
    main()
