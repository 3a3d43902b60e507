"""CAN: decoding bus frames with a DBC, and one .toml a car family that maps them to signals."""
