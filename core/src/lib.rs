//! Topics, device identity, discoveryDetails, presence and decoding, without I/O.
