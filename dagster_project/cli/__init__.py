"""Command line, with one module per command or group of commands.

Commands parse arguments, print results and set the exit code; the library does the work.
"""
