//! Image files: what format they have, and how they start, by their content.
//!
//! QEMU is always told the format: were it to guess, a machine could write something into a raw disk that makes the
//! next one open other files of the host.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::cli::errors::CliError;
use crate::cli::session::absolute;
use crate::cli::store::name;

const SECTOR: u64 = 512;
/// Where a CD says what it is, and where its boot catalogue is.
const CD_MARK: (u64, &[u8]) = (0x8001, b"CD001");
const CD_BOOT_RECORD: (u64, &[u8]) = (0x8801, b"CD001\x01EL TORITO SPECIFICATION");
const CD_CATALOGUE: u64 = 0x8847;
const CD_SECTOR: u64 = 2048;
/// Names of formats that `--drive` takes, as QEMU has them.
const FORMATS: [(&str, Format); 6] = [
    ("raw", Format::Raw),
    ("qcow2", Format::Qcow2),
    ("vmdk", Format::Vmdk),
    ("vpc", Format::Vhd),
    ("vhdx", Format::Vhdx),
    ("vdi", Format::Vdi),
];
/// What a file begins with that must be unpacked first, and by whom.
const PACKED: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "gunzip"),
    (b"\xfd7zXZ\0", "unxz"),
    (b"\x28\xb5\x2f\xfd", "unzstd"),
    (b"BZh", "bunzip2"),
    (b"PK\x03\x04", "unzip"),
];

/// Formats of disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Raw,
    Qcow2,
    Vmdk,
    Vhd,
    Vhdx,
    Vdi,
}

impl Format {
    /// The name that QEMU has for it.
    pub fn name(self) -> &'static str {
        FORMATS.iter().find(|(_, it)| *it == self).map_or("raw", |(name, _)| name)
    }
}

/// An image file.
#[derive(Clone, Debug)]
pub struct Image {
    /// Absolute.
    pub path: PathBuf,
    pub format: Format,
    /// It has the file system of CDs.
    pub is_cd: bool,
    /// Whether there is something in it for a BIOS to start. Only raw images tell.
    pub has_bios_code: bool,
}

/// What `--drive` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriveSource {
    File {
        path: PathBuf,
        format: Option<Format>,
    },
    /// Empty, so big, and gone afterwards.
    Scratch(u64),
}

impl std::str::FromStr for DriveSource {
    type Err = String;

    fn from_str(text: &str) -> Result<DriveSource, String> {
        let (path, format) = match text.rsplit_once(",format=") {
            None => (text, None),
            Some((path, wanted)) => match FORMATS.iter().find(|(name, _)| *name == wanted) {
                Some((_, format)) => (path, Some(*format)),
                None => {
                    let known: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
                    return Err(format!("unknown format `{wanted}`; known are {}", known.join(", ")));
                }
            },
        };
        match name::size(path) {
            Ok(size) if format.is_none() && !Path::new(path).exists() => {
                match size.is_multiple_of(SECTOR) && size > 0 {
                    true => Ok(DriveSource::Scratch(size)),
                    false => Err("the size of a disk is a multiple of 512".to_owned()),
                }
            }
            _ => Ok(DriveSource::File { path: path.into(), format }),
        }
    }
}

/// Looks at an image file.
pub fn look(path: &Path) -> Result<Image, CliError> {
    let path = absolute(path)?;
    let meta = fs::metadata(&path)?;
    let wrong = |why: &str, hint: Option<String>| {
        Err(CliError::Named { message: format!("{}: {why}", path.display()), hint })
    };
    if !meta.is_file() {
        return wrong("not a file", Some("the image of a machine is a regular file".to_owned()));
    }
    if meta.len() < SECTOR {
        return wrong("this is too small for a disk", None);
    }
    let mut file = fs::File::open(&path)?;
    let head = part(&mut file, 0, CD_SECTOR)?;
    if let Some((_, tool)) = PACKED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return wrong("the image is packed", Some(format!("unpack it first: {tool} {}", path.display())));
    }
    let tail = part(&mut file, meta.len() - SECTOR, SECTOR)?;
    let Some(format) = format(&head, &tail) else {
        let hint = "make one file of it: qemu-img convert -O qcow2 IMAGE NEW".to_owned();
        return wrong("parts of the image are in other files", Some(hint));
    };
    let is_cd = format == Format::Raw && has(&mut file, CD_MARK)?;
    let has_bios_code = match is_cd {
        true => starts_by_bios(&mut file)?,
        false => format == Format::Raw && is_boot_sector(&head),
    };
    Ok(Image { path, format, is_cd, has_bios_code })
}

/// The format of a disk by its first and last sector; None if it needs other files.
fn format(head: &[u8], tail: &[u8]) -> Option<Format> {
    let number = |at: usize, len: usize| {
        head.get(at..at + len).unwrap_or_default().iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    if head.starts_with(b"QFI\xfb") {
        // A file to begin with, or one for the data (an incompatible feature of version 3).
        let others = number(8, 8) != 0 || (number(4, 4) >= 3 && number(72, 8) & 4 != 0);
        return (!others).then_some(Format::Qcow2);
    }
    if head.starts_with(b"# Disk DescriptorFile") {
        return None;
    }
    Some(match head {
        _ if head.starts_with(b"KDMV") => Format::Vmdk,
        _ if head.starts_with(b"vhdxfile") => Format::Vhdx,
        _ if head.starts_with(b"conectix") || tail.starts_with(b"conectix") => Format::Vhd,
        _ if head.get(0x40..0x44) == Some(&0xbeda_107f_u32.to_le_bytes()) => Format::Vdi,
        _ => Format::Raw,
    })
}

/// Whether a BIOS would run what is in the first sector. Partitioned disks may have nothing but a table there.
fn is_boot_sector(sector: &[u8]) -> bool {
    sector.get(510..512) == Some(b"\x55\xaa") && sector.iter().take(440).any(|byte| *byte != 0)
}

/// Whether the boot catalogue of a CD has an entry for PCs with a BIOS.
fn starts_by_bios(file: &mut fs::File) -> Result<bool, CliError> {
    if !has(file, CD_BOOT_RECORD)? {
        return Ok(false);
    }
    let at = part(file, CD_CATALOGUE, 4)?.try_into().map_or(0, u32::from_le_bytes);
    let catalogue = part(file, u64::from(at) * CD_SECTOR, CD_SECTOR)?;
    // Sections begin with the platform of their entries. The first one says it in the entry that makes the catalogue valid.
    let platform = |entry: &[u8]| entry.get(1).copied();
    let mut entries = catalogue.chunks_exact(32);
    let first = entries.next().and_then(platform) == Some(0)
        && entries.next().is_some_and(|it| it.first() == Some(&0x88));
    let section = |entry: &[u8]| matches!(entry.first(), Some(0x90 | 0x91)) && platform(entry) == Some(0);
    Ok(first || entries.any(section))
}

fn has(file: &mut fs::File, (at, text): (u64, &[u8])) -> Result<bool, CliError> {
    Ok(part(file, at, text.len() as u64)? == text)
}

/// A piece of a file, as far as there is one.
fn part(file: &mut fs::File, at: u64, len: u64) -> Result<Vec<u8>, CliError> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_of(head: &[u8], tail: &[u8]) -> Option<Format> {
        let mut sectors = [[0; 512]; 2];
        sectors[0][..head.len()].copy_from_slice(head);
        sectors[1][..tail.len()].copy_from_slice(tail);
        format(&sectors[0], &sectors[1])
    }

    #[test]
    fn formats() {
        assert_eq!(format_of(b"", b""), Some(Format::Raw));
        assert_eq!(format_of(b"KDMV", b""), Some(Format::Vmdk));
        assert_eq!(format_of(b"", b"conectix"), Some(Format::Vhd));
        assert_eq!(format_of(b"conectix", b""), Some(Format::Vhd));
        assert_eq!(format_of(b"vhdxfile", b""), Some(Format::Vhdx));
        assert_eq!(format_of(&[&[b'<'; 64][..], &[0x7f, 0x10, 0xda, 0xbe]].concat(), b""), Some(Format::Vdi));
        assert_eq!(format_of(b"# Disk DescriptorFile\nversion=1\n", b""), None);
    }

    #[test]
    fn qcow2_of_one_file_only() {
        let mut head = [0; 104];
        head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        assert_eq!(format_of(&head, b""), Some(Format::Qcow2));
        head[79] = 4;
        assert_eq!(format_of(&head, b""), None, "data in another file");
        head[7] = 2;
        assert_eq!(format_of(&head, b""), Some(Format::Qcow2), "version 2 has no features there");
        head[15] = 1;
        assert_eq!(format_of(&head, b""), None, "another file below it");
    }

    #[test]
    fn drives() {
        assert_eq!("10M".parse(), Ok(DriveSource::Scratch(10 << 20)));
        assert!("10".parse::<DriveSource>().is_err());
        assert!("a,format=iso".parse::<DriveSource>().is_err());
        let file = DriveSource::File { path: "a,b".into(), format: Some(Format::Vhd) };
        assert_eq!("a,b,format=vpc".parse(), Ok(file));
    }
}
