"""The proof that nothing is lost: real processes, clients who write down what they were told,
faults, and a comparison at the end.

    proxy.py     a connection that can be slowed, swallowed, reset and refused
    world.py     store, database, edges, flusher, watch and publisher, each of them killable
    clients.py   who likes, and keeps each click and its answer in a file of its own, fsynced
    faults.py    what can happen, as a table
    checker.py   acknowledged <= stored <= acknowledged + unknown, each once, all sums equal
    walk.py      a long seeded walk over the faults, with a report (`make prove`)

`test_checker.py` shows that the comparison finds what it is for; `test_walk.py` is a short walk,
and `test_machine.py` lets Hypothesis choose.
"""
