//! Akri's Configuration and Instance.
