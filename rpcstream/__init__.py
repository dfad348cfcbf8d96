"""Calls and bulk data streams over one TLS connection, for Twisted; wire compatible with libvirt."""
