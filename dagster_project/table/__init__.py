"""The table model: noisy marginals by AIM or MST and the graphical model fitted to them."""
