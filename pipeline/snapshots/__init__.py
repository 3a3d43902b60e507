"""Snapshots of a corpus: assembling shards, the manifest, and verifying."""
