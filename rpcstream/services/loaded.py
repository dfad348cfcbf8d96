"""
What a process of ours has loaded when it begins to work.
"""

from __future__ import annotations

import gc

__all__ = ["keep_loaded"]


def keep_loaded() -> None:
    """
    All that exists by now stays as long as the process: modules, classes, settings.

    A full garbage collection would look at all of it, and hold the reactor for 60 ms.
    For programs; never called by what others embed.
    """
    gc.freeze()
