"""Snapshots of a corpus: assembling shards, the manifest, publishing, and verifying."""
