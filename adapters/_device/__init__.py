"""Other processors than the CPU: kernels with the CPU's bits, how they are launched, and whether they are trusted."""
