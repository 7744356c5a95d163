//! Parameters of a request, read from its URL. Keys are bytes: a percent-encoded key need not be UTF-8.

use super::answer::Refusal;
use crate::processor::TableRange;

/// Percent-decodes. `None` if it is no percent-encoding.
pub(super) fn decoded(text: &str, plus_is_space: bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                high << 4 | low
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    Some(bytes)
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The name that a key has in `next` and `after`: safe in a URL as it is, whatever the key.
pub(super) fn cursor(key: &[u8]) -> String {
    let half = |four: u8| char::from_digit(four.into(), 16).unwrap_or_default();
    key.iter().flat_map(|byte| [half(byte >> 4), half(byte & 0xf)]).collect()
}

fn of_cursor(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// The range that a query asks for.
pub(super) fn range(query: &str) -> Result<TableRange, Refusal> {
    let mut range = TableRange::all();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, text) = part.split_once('=').unwrap_or((part, ""));
        let Some(value) = decoded(text, true) else {
            return Err(Refusal::parameter(name, "is not percent-encoded: write % as %25"));
        };
        range = match name {
            "from" => range.from(value),
            "to" => range.to(value),
            "prefix" => range.prefix(value),
            "after" => match of_cursor(&value) {
                Some(key) => range.after(key),
                None => return Err(Refusal::parameter(name, "is not the \"next\" of another page")),
            },
            "limit" => {
                let limit = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                match limit {
                    Some(limit) if (1..=TableRange::MAX_LIMIT).contains(&limit) => range.limit(limit),
                    _ => {
                        let wanted = format!("must be a number from 1 to {}", TableRange::MAX_LIMIT);
                        return Err(Refusal::parameter(name, wanted));
                    }
                }
            }
            _ => return Err(Refusal::parameter(name, "is unknown: there are from, to, prefix, limit and after")),
        };
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_through() {
        assert_eq!(decoded("a%20b+c%2F%ff%00", true).unwrap(), b"a b c/\xff\0");
        assert_eq!(decoded("a+b", false).unwrap(), b"a+b");
        for bad in ["%", "%4", "%zz", "a%+1"] {
            assert_eq!(decoded(bad, true), None, "{bad}");
        }
        let key: Vec<u8> = (0..=255).collect();
        assert_eq!(of_cursor(cursor(&key).as_bytes()).unwrap(), key);
        assert_eq!(of_cursor(b"").unwrap(), b"");
        for bad in [&b"0"[..], b"0g", b"000"] {
            assert_eq!(of_cursor(bad), None);
        }
    }

    #[test]
    fn a_bad_parameter_is_named() {
        for bad in ["limit=0", "limit=1001", "limit=x", "limit", "from=%", "after=xyz", "order=up"] {
            assert!(range(bad).is_err(), "{bad}");
        }
        for good in ["", "&", "limit=1000", "from=a&to=b&prefix=&after=00ff&limit=1"] {
            assert!(range(good).is_ok(), "{good}");
        }
    }
}
