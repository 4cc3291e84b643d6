//! What NATs there are, and the rules that make a gateway one of them.
