//! The codec from outside.
