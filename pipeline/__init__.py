"""Beam graphs, the lake they read and append to, planning, publishing, the catalog.

Imports among the folders run one way only:

    stages → graph → queries → lake → snapshots → topologies

A stage is run by the graph; both append to the lake, which verifies the snapshots in it, and
a snapshot follows the plan for a topology. `config` is read by the stages alone. A folder may
import any folder to its right; tests/test_floors.py checks it.
"""
