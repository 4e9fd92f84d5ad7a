//! The name server of a sandbox: every host is 127.0.0.1, where the proxy listens.

const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const HEADER: usize = 12;

/// The answer to a query; `None` if it is not one.
pub fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let header: &[u8; HEADER] = query.first_chunk()?;
    let [id_high, id_low, flags, _, n_high, n_low, ..] = *header;
    let is_response = flags & 0x80 != 0;
    let opcode = flags & 0x78;
    if is_response || opcode != 0 || [n_high, n_low] != [0, 1] {
        return None;
    }
    let name_length = name_length(query.get(HEADER..)?)?;
    let question = query.get(HEADER..HEADER + name_length + 4)?;
    let [type_high, type_low, class_high, class_low] = *question.last_chunk()?;
    let is_address = u16::from_be_bytes([type_high, type_low]) == TYPE_A
        && u16::from_be_bytes([class_high, class_low]) == CLASS_IN;

    // Authoritative, recursion as it was desired, recursion available, no error.
    let mut answer =
        vec![id_high, id_low, 0x84 | flags & 0x01, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0];
    answer.extend_from_slice(question);
    if is_address {
        // The name is that of the question; a minute to live.
        answer.extend_from_slice(&[0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

/// Length of an uncompressed name, with its end.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    loop {
        match usize::from(*bytes.get(length)?) {
            0 => return Some(length + 1),
            label @ 1..=63 => length += label + 1,
            _ => return None,
        }
        if length > 254 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(kind: u16, rest: &[u8]) -> Vec<u8> {
        let mut query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x06mirror\x07example\x00".to_vec();
        query.extend(kind.to_be_bytes());
        query.extend(CLASS_IN.to_be_bytes());
        query.extend(rest);
        query
    }

    #[test]
    fn every_host_is_here() {
        // An EDNS record behind the question changes nothing.
        for rest in [&b""[..], b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"] {
            let answer = answer(&query(TYPE_A, rest)).unwrap();
            assert_eq!(answer[..12], *b"\x12\x34\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00");
            assert_eq!(answer[12..32], query(TYPE_A, b"")[12..]);
            assert_eq!(answer[32..], *b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01");
        }
    }

    #[test]
    fn other_types_are_empty() {
        for kind in [28, 33, 65, 255] {
            let answer = answer(&query(kind, b"")).unwrap();
            assert_eq!(answer[2..12], *b"\x85\x80\x00\x01\x00\x00\x00\x00\x00\x00");
            assert_eq!(answer.len(), 32);
        }
    }

    #[test]
    fn malformed_queries_are_ignored() {
        let good = query(TYPE_A, b"");
        for length in 0..good.len() {
            assert_eq!(answer(&good[..length]), None);
        }
        let with = |at: usize, byte: u8| {
            let mut query = good.clone();
            query[at] = byte;
            answer(&query)
        };
        assert_eq!(with(2, 0x81), None, "a response");
        assert_eq!(with(2, 0x28), None, "an update");
        assert_eq!(with(5, 2), None, "two questions");
        assert_eq!(with(12, 0xc0), None, "a compressed name");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), sane: bool) {
            if sane && bytes.len() > HEADER {
                bytes[2] = 0;
                bytes[4..6].copy_from_slice(&[0, 1]);
            }
            if let Some(answer) = answer(&bytes) {
                prop_assert!(answer.len() >= HEADER + 5 && answer.len() < 512);
            }
        }
    }
}
