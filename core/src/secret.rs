//! Secrets.
/// A secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSecret([u8; 32]);
/// A share's public label: `GAZ3-VTDS-YQP7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareCodeLabel(String);
