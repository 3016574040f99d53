"""Benchmarks: ratios interleaved in one run, medians, on real processes."""
