"""The command line, one module for each command or group of commands.

Commands parse, print and set the exit code; the work is done by the library.
"""
