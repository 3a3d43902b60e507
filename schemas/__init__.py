"""Records, Arrow schemas, time, ids and errors: what every floor agrees on.

Imports nothing but the standard library, numpy and pyarrow, and does no I/O.
"""
