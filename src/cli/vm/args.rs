//! Options of `raptor vm`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::image::DriveSource;
use crate::cli::store::name;

/// Which screen a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Display {
    /// None: the serial console is all there is
    None,
    /// A window, by the host's QEMU
    Gtk,
}

#[derive(Debug, Args)]
pub struct Vm {
    /// An image file, or a job of Raptor.toml that makes one
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: String,
    /// Start by BIOS [default: if the image has something for it, else UEFI]
    #[arg(long, conflicts_with = "uefi")]
    pub bios: bool,
    /// Start by UEFI
    #[arg(long)]
    pub uefi: bool,
    /// Memory of the machine [default: 1G]
    // The name of an option of all commands, which has another meaning here.
    #[arg(long, value_name = "SIZE", value_parser = name::size)]
    pub memory: Option<u64>,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=255))]
    pub cpus: u16,
    /// Lead this port of 127.0.0.1 to port 22 of the machine
    #[arg(long, value_name = "PORT")]
    pub ssh_port: Option<u16>,
    /// Lead port HOST of 127.0.0.1 to port GUEST of the machine; may be repeated
    #[arg(long, value_name = "HOST:GUEST", value_parser = ports)]
    pub forward: Vec<(u16, u16)>,
    /// One more disk: a file, perhaps with `,format=FORMAT`, or a size, such as 10G, for an empty one; may be repeated
    #[arg(long, value_name = "FILE|SIZE", value_hint = ValueHint::FilePath)]
    pub drive: Vec<DriveSource>,
    /// One more CD
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cdrom: Option<PathBuf>,
    /// Put the image in as a USB stick
    #[arg(long)]
    pub usb: bool,
    /// Let the machine change the image and the files of --drive; else its changes are thrown away
    #[arg(long)]
    pub write: bool,
    /// End instead of restarting
    #[arg(long)]
    pub no_reboot: bool,
    /// The machine's screen
    #[arg(long, value_name = "WHAT", default_value = "none")]
    pub display: Display,
    /// End with status 0 when the console shows this regular expression; may be repeated, one after the other
    #[arg(long, value_name = "REGEX")]
    pub wait_for: Vec<String>,
    /// Type this line after what the --wait-for before it waits for; as many as there are of those, or less
    #[arg(long, value_name = "TEXT", requires = "wait_for")]
    pub send: Vec<String>,
    /// Use this QEMU of the host instead of the standard library's [default: $RAPTOR_QEMU]
    #[arg(long, value_name = "PROGRAM", value_hint = ValueHint::CommandName)]
    pub qemu: Option<PathBuf>,
    /// Do without KVM
    #[arg(long)]
    pub no_kvm: bool,
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|it| *it > 0);
    let pair = text.split_once(':').and_then(|(host, guest)| Some((port(host)?, port(guest)?)));
    pair.ok_or_else(|| "two ports are wanted, such as 8080:80".to_owned())
}
