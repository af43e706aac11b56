"""Thousands of damaged, absurd and hostile files, each of which must be read or refused by name.

    python -m tests.data.fuzzing --files=5000

Whole files are made (`whole`), some of them damaged in a seeded way (`damage`, `loose`), and put
beside whole ones; a process of its own, with a limit of memory and of time, goes through the folder
as `launch.check_data` does (`looking`). A file that is read must give images of a storage type
without NaN; one that is not must be named with a reason; whole files must come back bit for bit
whatever lies beside them (`judge`). A process that crashes or hangs is a fault of the project, as
is one that runs out of memory.
"""
