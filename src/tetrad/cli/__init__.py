"""The ``tetrad`` command."""
