"""What the benchmarks in Python share: processes, load, peers, figures."""
