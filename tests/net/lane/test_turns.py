"""Threads that take turns."""

from __future__ import annotations

import os
import threading
from unittest import TestCase

from rpcstream.net.lane.turns import Turns


class TurnsTests(TestCase):
    def test_as_many_as_allowed(self) -> None:
        """Two work while the third waits; it goes on when one of them ends, even if that fails."""
        turns = Turns(2)
        inside: list[int] = []
        begun, leaves = threading.Semaphore(0), [threading.Event() for _ in range(3)]

        def work(number: int) -> None:
            try:
                with turns:
                    inside.append(number)
                    begun.release()
                    leaves[number].wait(10)
                    raise ValueError
            except ValueError:
                pass

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads[:2]:
            thread.start()
            self.assertTrue(begun.acquire(timeout=10))
        threads[2].start()
        self.assertFalse(begun.acquire(timeout=0.1))
        leaves[0].set()
        self.assertTrue(begun.acquire(timeout=10))
        self.assertEqual(inside, [0, 1, 2])
        for leave in leaves:
            leave.set()
        for thread in threads:
            thread.join(10)

    def test_as_many_as_processors(self) -> None:
        """Without a number: one for each processor that this process may use."""
        turns = Turns()
        self.assertEqual(turns._free.qsize(), len(os.sched_getaffinity(0)))
