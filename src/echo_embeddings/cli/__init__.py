"""The command line. One module a command; torch is imported when a command needs it, not for ``--help``."""
