"""The tests of the project run in the project, not here."""

collect_ignore = ["project"]
