"""The command line: one file a subcommand, flags to config to graph to exit code."""
