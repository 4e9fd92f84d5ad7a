//! Raptor: from `.rapt` files to reproducible machine images.
//!
//! The map of the modules and who may use whom is in `spec/architecture.md`.

pub mod tree;
pub mod derivation;
pub mod lock;
pub mod store;
pub mod fetch;
pub mod sandbox;
pub mod world;
pub mod eval;
pub mod schedule;
pub mod cli;
