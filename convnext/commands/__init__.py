"""The command line: parse, call a function, print."""
