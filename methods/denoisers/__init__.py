"""What a learned transform is held against: one denoiser a file, found by its name."""
