"""Twisted services built from the layers below, and what they share: policy, configuration, job queue."""
