//! The beginning of a TLS connection: just enough to say which host was wanted.

/// What a client's first bytes say.
#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed.
    Partial,
    /// The server name, if there is one.
    Name(Option<String>),
}

/// Longest ClientHello that we wait for.
pub const MAX_HELLO: usize = 16 * 1024;

/// Reads the server name from a ClientHello. Anything that is not one has no name.
pub fn server_name(bytes: &[u8]) -> Hello {
    let Some((record, rest)) = bytes.split_first_chunk::<5>() else { return Hello::Partial };
    let [22, 3, _, high, low] = *record else { return Hello::Name(None) };
    match rest.get(..usize::from(u16::from_be_bytes([high, low]))) {
        Some(handshake) => Hello::Name(name(handshake)),
        None if bytes.len() < MAX_HELLO => Hello::Partial,
        None => Hello::Name(None),
    }
}

fn name(handshake: &[u8]) -> Option<String> {
    let mut hello = Cursor(handshake);
    if hello.take(1)? != [1] {
        return None;
    }
    // Length, version and random.
    hello.take(3 + 2 + 32)?;
    hello.sized(1)?;
    hello.sized(2)?;
    hello.sized(1)?;
    let mut extensions = Cursor(hello.sized(2)?);
    loop {
        let kind = extensions.take(2)?;
        let content = extensions.sized(2)?;
        if kind != [0, 0] {
            continue;
        }
        let mut names = Cursor(Cursor(content).sized(2)?);
        if names.take(1)? != [0] {
            return None;
        }
        let name = std::str::from_utf8(names.sized(2)?).ok()?;
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        return (!name.is_empty() && name.bytes().all(is_host)).then(|| name.to_ascii_lowercase());
    }
}

/// Bytes under reading.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    /// A field whose length comes before it, in so many bytes.
    fn sized(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.take(width)?.iter().fold(0, |length, b| length << 8 | usize::from(*b));
        self.take(length)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A ClientHello for a host.
    pub fn hello(host: &str) -> Vec<u8> {
        let sized = |content: Vec<u8>| [&(content.len() as u16).to_be_bytes()[..], &content].concat();
        let name = sized([&[0][..], &sized(host.into())].concat());
        let other = [&[0, 43][..], &sized(vec![2, 3, 4])].concat();
        let extensions = sized([other, vec![0, 0], sized(name)].concat());
        let rest = [&[3, 3][..], &[7; 32], &[0], &sized(vec![0x13, 1]), &[1, 0], &extensions].concat();
        let handshake = [&[1, 0][..], &sized(rest)].concat();
        [&[22, 3, 1][..], &sized(handshake)].concat()
    }

    #[test]
    fn finds_the_name() {
        let hello = hello("Origin.example");
        assert_eq!(server_name(&hello), Hello::Name(Some("origin.example".into())));
        for length in 0..hello.len() {
            assert_eq!(server_name(&hello[..length]), Hello::Partial);
        }
        assert_eq!(server_name(b"GET / HTTP/1.1\r\n\r\n"), Hello::Name(None));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(noise in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..120) {
            server_name(&noise);
            let mut hello = hello("origin.example");
            for (byte, noise) in hello.iter_mut().skip(at).zip(&noise) {
                *byte = *noise;
            }
            server_name(&hello);
        }
    }
}
