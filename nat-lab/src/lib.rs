//! nat-lab
