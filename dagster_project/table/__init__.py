"""The table model: noisy marginals from AIM or MST and the graphical model fitted to them."""
