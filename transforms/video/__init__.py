"""Video: sample tables and edit lists, demuxing, decoding, encoding, and SEI telemetry."""
