"""The tests, tested: bugs are put into a copy of the tree, and some test has to fail for each.

`python -m tests.mutants` first plants the bugs of `planted` and runs the test that is named for each. Then it changes
the code at random places (`mutations`, `sql_mutations`), has each change meet the tests that execute it
(`coverage_map`, `sql_tests`), and prints the share that they noticed.
"""
