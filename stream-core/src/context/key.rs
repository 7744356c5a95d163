//! What a callback can take for a key.

/// A type that can be a key: bytes or text, or an optional one of either.
pub trait Key {
    /// Its bytes; `None` for no key.
    fn bytes(&self) -> Option<&[u8]>;
}

impl Key for &[u8] {
    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}
impl<const N: usize> Key for &[u8; N] {
    fn bytes(&self) -> Option<&[u8]> {
        Some(*self)
    }
}
impl Key for &Vec<u8> {
    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}
impl Key for &str {
    fn bytes(&self) -> Option<&[u8]> {
        Some(self.as_bytes())
    }
}
impl Key for &String {
    fn bytes(&self) -> Option<&[u8]> {
        Some(self.as_bytes())
    }
}
impl<K: Key> Key for Option<K> {
    fn bytes(&self) -> Option<&[u8]> {
        self.as_ref().and_then(Key::bytes)
    }
}
