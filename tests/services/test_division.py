"""How content is divided into parts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import BadValue
from rpcstream.limits import EXTENT_BYTES
from rpcstream.programs.parameters import BytesValue, Parameter, UHyperValue, UIntValue
from rpcstream.programs.parts import PartRequest, asked_part, attempt_of
from rpcstream.services.division import ALL, Division
from rpcstream.storage.extents import bitmap_of, extent_count, flags_of_bitmap


class DivisionTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=100)
    @given(
        st.integers(0, 3000),
        st.integers(1, 5),
        st.sets(st.integers(0, 3100)),
        st.lists(st.integers(1, 700), min_size=1),
        st.booleans(),
    )
    def test_all_once(
        self, count: int, workers: int, held: set[int], most: list[int], is_known: bool
    ) -> None:
        """Every missing extent is in one part, in order, and no part is larger than it may be."""
        size = max(0, count * EXTENT_BYTES - 5)
        division = Division(workers, size if is_known else None)
        bitmap = bitmap_of(held)
        part = division.take(most[0])
        division.settle(size, bitmap)
        flags, seen, number = flags_of_bitmap(bitmap), [], 0
        while part is not None:
            first, stop = part.range
            self.assertGreater(stop, first)
            missing = [i for i in range(first, min(stop, count)) if i >= len(flags) or not flags[i]]
            self.assertLessEqual(len(missing), most[number % len(most)])
            self.assertTrue(missing or number == 0)
            seen += missing
            number += 1
            part = division.take(most[number % len(most)])
        self.assertEqual(seen, [i for i in range(count) if i not in held])
        self.assertIsNone(division.take())

    def test_sizes(self) -> None:
        """Large parts first, and small ones towards the end, so that all connections finish together."""
        division = Division(4, 1000 * EXTENT_BYTES)
        sizes = []
        while (part := division.take()) is not None:
            sizes.append(part.extent_count)
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertEqual((sizes[0], sum(sizes)), (125, 1000))
        self.assertEqual(set(sizes[-4:-1]), {4})
        self.assertLess(len(sizes), 60)

    def test_one(self) -> None:
        """One connection takes all that it may carry at once."""
        self.assertEqual(Division(1, 1000 * EXTENT_BYTES).take(), PartRequest(0, 1000))
        self.assertEqual(Division(1, None).take(), PartRequest(0, ALL))
        self.assertEqual(Division(1, None).take(7), PartRequest(0, 7))
        self.assertEqual(Division(3, 0).take(), PartRequest(0, 1))

    def test_unknown(self) -> None:
        """As long as the size is not known there is always more."""
        division = Division(1, None)
        parts = [division.take(10) for _ in range(3)]
        self.assertEqual(parts, [PartRequest(0, 10), PartRequest(10, 10), PartRequest(20, 10)])
        self.assertEqual(extent_count(0), 0)


class ParameterTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """What is asked for is what is understood; an older peer must refuse it."""
        for part in (PartRequest(0, 1), PartRequest(7, 2**60, b"k" * 16)):
            self.assertEqual(asked_part(part.parameters), part)
            self.assertTrue(all(parameter.critical for parameter in part.parameters))
        self.assertIsNone(asked_part(()))
        self.assertIsNone(asked_part([Parameter("another", UIntValue(1))]))
        self.assertEqual(attempt_of(PartRequest(0, 1, b"k" * 16).parameters), b"k" * 16)

    def test_refused(self) -> None:
        """Half of it, other types, a key of another length."""
        for parameters in (
            [Parameter("part.first", UHyperValue(1))],
            [Parameter("part.count", UHyperValue(1))],
            [Parameter("part.first", UIntValue(1)), Parameter("part.count", UHyperValue(1))],
            [Parameter("part.attempt", BytesValue(b"k" * 16))],
            [*PartRequest(0, 1).parameters, Parameter("part.attempt", BytesValue(b"k" * 15))],
            [*PartRequest(0, 1).parameters, Parameter("part.attempt", UHyperValue(1))],
        ):
            with self.assertRaises(BadValue):
                asked_part(parameters)
