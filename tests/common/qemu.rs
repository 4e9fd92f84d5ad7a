//! A virtual machine in QEMU, driven over its serial console.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::scratch;

/// How the ISO is put into the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    CdBios,
    CdUefi,
    UsbStick,
}

/// A running machine; it ends when dropped.
pub struct Machine {
    qemu: Child,
    keyboard: ChildStdin,
    console: Arc<(Mutex<Vec<u8>>, Condvar)>,
    _slot: fs::File,
}

impl Machine {
    /// Starts a machine with an ISO. Two run at a time; the others wait for their turn.
    pub fn start(iso: &Path, boot: Boot) -> Machine {
        let slot = slot();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
        command.args([
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
            "-nic",
            "none",
            "-no-reboot",
        ]);
        let iso = iso.display();
        match boot {
            Boot::CdBios | Boot::CdUefi => command.args(["-cdrom", &iso.to_string(), "-boot", "d"]),
            Boot::UsbStick => command.args([
                "-drive",
                &format!("if=none,id=stick,format=raw,readonly=on,file={iso}"),
                "-device",
                "qemu-xhci",
                "-device",
                "usb-storage,drive=stick,bootindex=0",
            ]),
        };
        if boot == Boot::CdUefi {
            let code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
            command.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={code}")]);
            // The variables are written to; `snapshot` keeps the firmware's own file as it is.
            command.args(["-drive", "if=pflash,format=raw,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd"]);
        }
        let mut qemu =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let keyboard = qemu.stdin.take().unwrap();
        let mut screen = qemu.stdout.take().unwrap();
        let console = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = console.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut buffer) {
                shared.0.lock().unwrap().extend_from_slice(&buffer[..n]);
                shared.1.notify_all();
            }
        });
        Machine { qemu, keyboard, console, _slot: slot }
    }

    /// Waits until the console shows `text`, and gives everything up to and with it; what was waited for before
    /// does not count again.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> String {
        let begin = Instant::now();
        let (shown, changed) = &*self.console;
        let mut shown = shown.lock().unwrap();
        loop {
            let at = shown.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = at {
                let seen: Vec<u8> = shown.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&seen).into_owned();
            }
            let Some(left) = limit.checked_sub(begin.elapsed()) else {
                let tail = shown.len().saturating_sub(4000);
                panic!(
                    "no `{text}` within {limit:?}; the console ends:\n{}",
                    String::from_utf8_lossy(&shown[tail..])
                );
            };
            shown = changed.wait_timeout(shown, left).unwrap().0;
        }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The right to run one of two machines.
fn slot() -> fs::File {
    loop {
        for n in 0..2 {
            let file = fs::File::create(scratch().join(format!("boot-slot-{n}"))).unwrap();
            if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
                return file;
            }
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
