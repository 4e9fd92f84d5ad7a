//! What a console shows, as text: without the sequences that move the cursor and change colours.

/// Takes bytes of a console, and gives text.
#[derive(Default)]
pub struct Text {
    state: State,
    /// The begin of a character that came in two pieces.
    rest: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Plain,
    /// After ESC
    Escape,
    /// After ESC and bytes that want more
    Selection,
    /// After ESC and `[`
    Control,
    /// After ESC and `]`, until BEL or the next ESC
    Command,
}

impl Text {
    /// The text in the next bytes.
    pub fn read(&mut self, bytes: &[u8]) -> String {
        let mut plain = std::mem::take(&mut self.rest);
        plain.extend(bytes.iter().filter_map(|byte| self.plain(*byte)));
        let whole = match std::str::from_utf8(&plain) {
            Err(err) if err.error_len().is_none() => err.valid_up_to(),
            _ => plain.len(),
        };
        self.rest = plain.split_off(whole);
        String::from_utf8_lossy(&plain).into_owned()
    }

    fn plain(&mut self, byte: u8) -> Option<u8> {
        let (state, shown) = match (self.state, byte) {
            (_, 0x1b) => (State::Escape, None),
            (State::Escape, b'[') => (State::Control, None),
            (State::Escape, b']') => (State::Command, None),
            (State::Escape | State::Selection, 0x20..=0x2f) => (State::Selection, None),
            // No sequence: the begin of a character.
            (State::Escape, 0x80..) => (State::Plain, Some(byte)),
            (State::Control, 0x20..=0x3f) => (State::Control, None),
            (State::Command, byte) if byte != 7 => (State::Command, None),
            (State::Plain, b'\n' | b'\t') => (State::Plain, Some(byte)),
            (State::Plain, byte) if byte >= 0x20 && byte != 0x7f => (State::Plain, Some(byte)),
            _ => (State::Plain, None),
        };
        self.state = state;
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_consoles() {
        let cases: [(&[&[u8]], &str); 7] = [
            (&[b"plain\r\n\ttext\0\x07"], "plain\n\ttext"),
            (&[b"[  \x1b[0;32mOK", b"\x1b[", b"0m  ] x"], "[  OK  ] x"),
            (&[b"\x1b(B\x1b)0\x1b7\x1b[?25la\x1b8"], "a"),
            (&[b"\x1b]0;title\x07a\x1b]0;title\x1b\\b"], "ab"),
            (&[b"caf\xc3", b"\xa9 \xff."], "caf\u{e9} \u{fffd}."),
            (&[b"a\x1b\xe2\x80\xa6b"], "a\u{2026}b"),
            (&[b"\x1b[2J\x1b[01;01H\x1b[=3hUEFI"], "UEFI"),
        ];
        for (pieces, expected) in cases {
            let mut text = Text::default();
            let found: String = pieces.iter().map(|it| text.read(it)).collect();
            assert_eq!(found, expected);
        }
    }
}
