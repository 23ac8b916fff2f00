"""What the commands do, by who asks: the steward (`steward`), a release (`release`), an auditor
(`ask`). Printing and exit codes; the work is the library's."""
