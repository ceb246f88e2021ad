"""What runs on the device: copied there as it is, standard library and NumPy only."""
