"""The tests, tested: bugs are put into a copy of the tree, and some test has to fail for each.

`python -m tests.mutants` first plants the bugs of `planted` and runs the test that is named for each. Then it changes
the code at random places (`mutations`) until its time is over, and prints the share that the tests noticed.
"""
