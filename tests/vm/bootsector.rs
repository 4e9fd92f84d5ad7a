//! The smallest system there is: one sector that a BIOS starts.
//!
//! It writes itself to the second sector of its disk, says [`READY`] on the serial port, and then gives back each byte
//! that it gets there; at `q` it restarts the machine.

/// What it says.
pub const READY: &str = "the machine is ready";

const CODE: &[&[u8]] = &[
    b"\x31\xc0\x8e\xd8\x8e\xc0\x8e\xd0", // all segments are 0
    b"\xbc\x00\x7c\xfc",                 // the stack is below this code
    b"\xb8\x01\x03\xbb\x00\x7c",         // write one sector from 0x7c00
    b"\xb9\x02\x00\xb6\x00\xcd\x13",     // to the second one of the disk in dl
    b"\xbe\x4b\x7c",                     // si = the text
    b"\xac\x84\xc0\x74\x12\x88\xc4",     // next: al = *si++; if it is 0, go to `get`; ah = al
    b"\xba\xfd\x03\xec\xa8\x20\x74\xf8", // wait until the port takes a byte
    b"\x88\xe0\xba\xf8\x03\xee\xeb\xe9", // send it; go to `next`
    b"\xba\xfd\x03\xec\xa8\x01\x74\xf8", // get: wait for a byte
    b"\xba\xf8\x03\xec\xee",             // send it back
    b"\x3c\x71\x75\xef",                 // unless it is `q`, go to `get`
    b"\xb0\xfe\xe6\x64\xf4\xeb\xfd",     // have the keyboard controller restart the machine, and wait
];

/// A disk of this many sectors that starts.
pub fn disk(sectors: usize) -> Vec<u8> {
    let mut disk = CODE.concat();
    assert_eq!(disk.len(), 0x4b, "where the code expects the text");
    disk.extend(READY.as_bytes());
    disk.extend(b"\r\n");
    disk.resize(510, 0);
    disk.extend(b"\x55\xaa");
    disk.resize(sectors * 512, 0);
    disk
}

/// Whether it has run and could write to its disk.
pub fn has_written(disk: &[u8]) -> bool {
    disk[..512] == disk[512..1024]
}
