"""Beam graphs, the lake they read and append to, planning, publishing, the catalog."""
