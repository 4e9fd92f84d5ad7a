//! (under construction)

pub mod apt;
pub mod bootstrap;
