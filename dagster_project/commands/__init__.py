"""What the commands do, by who asks: the steward (`steward`, `private`), a release (`release`), an
auditor (`ask`, `ledger`, `audit`). Printing and exit codes; the work is the library's."""
