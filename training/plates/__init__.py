"""The detector of number plates: drawn scenes, the network and its training."""
