//! The `.rapt` language: source text → syntax tree → statements → programs.
//!
//! Nothing in this crate does I/O: files enter through [`world::World`].
//! Parsing never fails; it returns a tree and a list of [`diag::Diagnostic`]s.

pub mod source;
pub mod diag;
pub mod paths;
mod suggest;
pub mod stmt;
pub mod syntax;
pub mod def;
pub mod world;
pub mod template;
pub mod program;
pub mod manifest;

#[cfg(test)]
mod testing;
