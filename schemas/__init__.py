"""Records, Arrow schemas, times, ids and errors: the types that all packages share.

Imports only the standard library, numpy and pyarrow, and does no I/O.
"""
