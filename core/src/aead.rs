//! AEAD.
