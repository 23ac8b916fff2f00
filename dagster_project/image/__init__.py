"""The table-conditioned diffusion model: network, preconditioning, private training, sampling."""
