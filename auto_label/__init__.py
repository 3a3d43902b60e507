"""Labels made offline: models, linking, smoothing, blurring."""
