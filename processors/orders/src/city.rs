//! Which name a city's topic may have.
//!
//! City names come from anybody: what is made of them here must be a valid topic name, and a topic of nobody else.

/// The name for a city that has none, or nothing in it that a topic's name could have.
pub const UNKNOWN: &str = "unknown";

/// What gets everything for which there is no topic of its own.
pub const OTHER: &str = "other";

/// The longest name that Kafka takes.
const TOPIC: usize = 249;

/// A city as part of a topic's name, `room` characters at most: small ASCII letters and digits, anything else between
/// them as one `-`. Never empty: [`UNKNOWN`] then.
pub fn slug(city: &str, room: usize) -> String {
    let mut slug = String::new();
    let mut gap = false;
    for c in city.chars() {
        if !c.is_ascii_alphanumeric() {
            gap = !slug.is_empty();
            continue;
        }
        if slug.len() + usize::from(gap) >= room {
            break;
        }
        if std::mem::take(&mut gap) {
            slug.push('-');
        }
        slug.push(c.to_ascii_lowercase());
    }
    if slug.is_empty() { UNKNOWN.into() } else { slug }
}

/// How long a slug may be behind a prefix.
pub fn room(prefix: &str) -> usize {
    TOPIC.saturating_sub(prefix.len()).max(UNKNOWN.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        let cases = [
            ("Illinois", "illinois"),
            ("New  York", "new-york"),
            (" -St. John's-/", "st-john-s"),
            ("../../etc/passwd", "etc-passwd"),
            ("product_orders", "product-orders"),
            ("São Paulo", "s-o-paulo"),
            ("東京", UNKNOWN),
            ("", UNKNOWN),
            (" \0\n", UNKNOWN),
            ("Other", OTHER),
        ];
        for (city, expected) in cases {
            assert_eq!(slug(city, 237), expected, "{city:?}");
        }
    }

    #[test]
    fn they_fit_whatever_comes() {
        let prefix = "orders_city_";
        for city in ["x".repeat(10_000), "x ".repeat(10_000), "é".repeat(10_000), format!("{} y", "x".repeat(236))] {
            let slug = slug(&city, room(prefix));
            assert!(prefix.len() + slug.len() <= 249, "{}", slug.len());
            assert!(slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{slug}");
            assert!(!slug.starts_with('-') && !slug.ends_with('-'), "{slug}");
        }
    }
}
