//! Raptor: from `.rapt` files to reproducible machine images.
//!
//! The map of the modules and who may use whom is in `spec/architecture.md`.

pub mod archive;
pub mod cli;
pub mod derivation;
pub mod eval;
pub mod fetch;
pub mod image;
pub mod lock;
pub mod sandbox;
pub mod schedule;
pub mod store;
pub mod tree;
pub mod world;
