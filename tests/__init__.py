"""Tests of rpcstream: a folder a layer."""

from hypothesis import HealthCheck, settings

# How long it takes to make examples tells of the machine, not of what is tested.
settings.register_profile("rpcstream", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rpcstream")
