//! Real peers in containers behind emulated NATs, and what gets through.
//!
//! Nothing is here yet: this version reaches peers at the addresses in their codes, and does not traverse NATs.
