//! Codes.
mod ticket;
pub use ticket::Ticket;
