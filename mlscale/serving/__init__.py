"""Serves any callable of bytes over HTTP, as a component of an application: what runs in a container."""
