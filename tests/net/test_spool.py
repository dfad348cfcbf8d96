"""The queue of what has arrived: order, cuts, what it costs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.net.spool import ZERO_PIECE_BYTES, Hole, Spool, zeros

PIECES = st.lists(
    st.one_of(st.binary(min_size=1, max_size=10), st.integers(1, 20), st.just(bytes(range(250)) * 20)),
    max_size=30,
)


class SpoolTests(SynchronousTestCase):
    @settings(max_examples=100, derandomize=True)
    @given(PIECES, st.lists(st.one_of(st.none(), st.integers(1, 30)), min_size=1, max_size=10))
    def test_what_goes_in_comes_out(self, pieces: list[bytes | int], limits: list[int | None]) -> None:
        """In order, cut as asked for, taking while adding; counted exactly."""
        spool = Spool()
        expected = got = b""
        for turn, piece in enumerate(pieces):
            if isinstance(piece, int):
                spool.add_hole(piece)
                expected += bytes(piece)
            else:
                spool.add(piece)
                expected += piece
            if turn % 3 == 0:
                got += self.take(spool, limits[turn % len(limits)])
        while spool:
            got += self.take(spool, limits[0])
        self.assertEqual(got, expected)
        self.assertEqual((spool.byte_count, spool.cost_bytes), (0, 0))
        self.assertRaises(IndexError, spool.take)

    def take(self, spool: Spool, limit: int | None) -> bytes:
        before = spool.byte_count
        piece = spool.take(limit)
        length = piece.length if isinstance(piece, Hole) else len(piece)
        self.assertEqual(before - spool.byte_count, 0 if isinstance(piece, Hole) else length)
        if limit is not None:
            self.assertLessEqual(length, limit)
        self.assertGreater(length, 0)
        return bytes(length) if isinstance(piece, Hole) else piece

    def test_single_bytes_are_gathered(self) -> None:
        """100,000 bytes one by one are a few pieces, not 100,000 objects."""
        spool = Spool()
        for _ in range(100_000):
            spool.add(b"x")
        self.assertLess(len(spool._pieces), 30)
        self.assertLess(spool.cost_bytes, 110_000)

    def test_neighbouring_holes_are_one(self) -> None:
        """A run of holes costs what one hole does; data between them counts what it costs."""
        spool = Spool()
        for _ in range(1000):
            spool.add_hole(5)
        self.assertEqual(spool.take(), Hole(5000))
        for _ in range(1000):
            spool.add(b"x")
            spool.add_hole(5)
        self.assertEqual(spool.byte_count, 1000)
        self.assertGreater(spool.cost_bytes, 200_000)

    def test_clear(self) -> None:
        """All is gone, gathering included."""
        spool = Spool()
        spool.add(b"abc")
        self.assertEqual(spool.clear(), 3)
        spool.add(b"d")
        self.assertEqual(spool.take(), b"d")

    def test_zeros(self) -> None:
        """A full piece is always the same object."""
        self.assertIs(zeros(ZERO_PIECE_BYTES), zeros(ZERO_PIECE_BYTES))
        self.assertEqual(zeros(3), bytes(3))
