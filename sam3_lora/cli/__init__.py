"""The command line: one module per command; with --json a command prints one JSON object for programs."""
