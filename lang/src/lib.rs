//! The `.rapt` language: source text → syntax tree → statements → programs.
//!
//! Nothing in this crate does I/O: files enter through [`world::World`].
//! Parsing never fails; it returns a tree and a list of [`diag::Diagnostic`]s.

pub mod def;
pub mod diag;
pub mod format;
pub mod manifest;
pub mod noise;
pub mod paths;
pub mod pattern;
pub mod program;
pub mod source;
pub mod stmt;
pub mod suggest;
pub mod syntax;
pub mod template;
pub mod world;

#[cfg(test)]
mod testing;
