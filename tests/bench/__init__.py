"""Tests of the measurements: that bytes are moved and counted, never how fast."""
