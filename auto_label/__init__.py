"""Offline labelling: detection, tracking, the ego path, and blurring."""
