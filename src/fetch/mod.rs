//! Everything that comes from the network: plain downloads, Debian mirrors, and the proxy of RUN steps.
//!
//! Bodies end in the store, by digest; nothing here decides what is wanted.

pub mod debian;
mod download;
mod elsewhere;
mod fill;
mod http;
mod link;
mod oci;
mod pace;
mod partial;
pub mod proxy;
mod secret;
mod settings;
mod sizeless;

pub use download::Wanted;
pub use elsewhere::Elsewhere;
pub use http::{Client, Error};
pub use link::LinkJob;
pub use oci::RegistrySettings;
pub use settings::{Retry, Settings};
pub use sizeless::Downloaded;

#[cfg(test)]
mod origin;
