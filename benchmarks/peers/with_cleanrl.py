"""Runs a script of CleanRL, unchanged, on Atari: `with_cleanrl.py SCRIPT WORD ...`.

ALE registers its games by itself with a newer Gymnasium only.
"""

from __future__ import annotations

import runpy
import sys

from ale_py.registration import register_v0_v4_envs

if __name__ == "__main__":
    register_v0_v4_envs()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
