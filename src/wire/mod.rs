//! Bytes to segment and back: the pure codec. See `docs/wire-format.md`.
