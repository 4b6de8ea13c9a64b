"""Everything that is measured on a machine with one GPU, in one call of less than 25 minutes.

`make gpu` is the command. Each section is a module with its share of the time (`SECONDS`, and
`LEAST`, what a case needs at least), `cases(rehearse)`, `measure(**arguments)` for one case, which
runs in a process of its own, and `text(results)`, its part of the report.
"""
