//! How a key is spelled in sled: so that no byte is `0xff`, in the same order.
//!
//! sled 0.34 looks for the page before `k` at "`k` with its last byte one less, then four times `0xff`". A key that
//! sorts above that, such as `04 ff ff ff ff ff` before a page that begins at `05`, makes a reverse scan run in circles
//! until it panics. Keys of big-endian numbers look like this. So `0xfe` and `0xff` are written as two bytes each: most
//! keys have neither and are stored as they are.

/// Begins the spelling of a high byte.
const ESCAPE: u8 = 0xfe;

/// A key as it is stored. `scratch` takes the bytes where they differ from the key's own.
pub(super) fn encode<'a>(key: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if key.iter().all(|byte| *byte < ESCAPE) {
        return key;
    }
    scratch.clear();
    for &byte in key {
        if byte < ESCAPE {
            scratch.push(byte);
        } else {
            scratch.extend_from_slice(&[ESCAPE, byte - ESCAPE]);
        }
    }
    scratch
}

/// The key that was stored so; `None` when no key is stored so.
pub(super) fn decode(stored: &[u8]) -> Option<Vec<u8>> {
    if stored.iter().all(|byte| *byte < ESCAPE) {
        return Some(stored.to_vec());
    }
    let mut key = Vec::with_capacity(stored.len());
    let mut bytes = stored.iter();
    while let Some(&byte) = bytes.next() {
        key.push(match byte {
            ..ESCAPE => byte,
            ESCAPE => ESCAPE + bytes.next().copied().filter(|rest| *rest <= 1)?,
            _ => return None,
        });
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(key: &[u8]) -> Vec<u8> {
        encode(key, &mut Vec::new()).to_vec()
    }

    #[test]
    fn keys_come_back_in_order_and_without_high_bytes() {
        // Every key of up to three bytes around the edges.
        let alphabet = [0, 1, 0xfd, 0xfe, 0xff];
        let mut keys = vec![vec![]];
        for _ in 0..3 {
            let longer: Vec<Vec<u8>> =
                keys.iter().flat_map(|key| alphabet.map(|byte| [key.as_slice(), &[byte]].concat())).collect();
            keys.extend(longer);
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 1 + 5 + 25 + 125);
        for pair in keys.windows(2) {
            assert!(stored(&pair[0]) < stored(&pair[1]), "{pair:?}");
        }
        for key in &keys {
            assert!(!stored(key).contains(&0xff), "{key:?}");
            assert_eq!(decode(&stored(key)).as_ref(), Some(key));
        }
    }

    #[test]
    fn what_no_key_is_stored_as_is_refused() {
        assert_eq!(decode(&[0xfe]), None);
        assert_eq!(decode(&[0xfe, 2]), None);
        assert_eq!(decode(&[1, 0xff]), None);
    }
}
