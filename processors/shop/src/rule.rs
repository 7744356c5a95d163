//! What passes the filter: the rule as it lies in the control topic, and the matcher made of it.

use std::fmt;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// A rule, as the value of [`RULE_KEY`](crate::filter::RULE_KEY) in the topic `product_filter_rules`. Plain JSON, so
/// that any Kafka client can set one: `{"kind": "contains", "text": "lamp"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// How `text` is meant.
    pub kind: Kind,
    /// What a product's name must contain or match. Empty: everything passes.
    pub text: String,
    /// When it was set, RFC 3339.
    #[serde(default)]
    pub set_at: String,
    /// Who set it.
    #[serde(default)]
    pub set_by: String,
}

/// How a rule's text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The name contains it, letter by letter.
    Contains,
    /// The name has a match of this regular expression.
    Regex,
}

/// A pattern that is no regular expression.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{pattern:?} is not a regular expression: {reason}")]
pub struct BadPattern {
    pattern: String,
    reason: String,
}

impl Rule {
    /// A rule that nobody has signed yet.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), set_at: String::new(), set_by: String::new() }
    }

    /// As typed at the prompt: `lamp` is contained, `/la.p/` is a regular expression, nothing lets everything pass.
    pub fn typed(line: &str) -> Self {
        let line = line.trim();
        match line.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(pattern) => Self::new(Kind::Regex, pattern),
            None => Self::new(Kind::Contains, line),
        }
    }

    /// Says who set it, and when (milliseconds since the epoch), so that the topic is a record of all changes.
    #[must_use]
    pub fn signed(mut self, by: impl Into<String>, at_ms: i64) -> Self {
        let at = std::time::Duration::from_millis(u64::try_from(at_ms).unwrap_or_default());
        self.set_at = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + at).to_string();
        self.set_by = by.into();
        self
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            _ if self.text.is_empty() => f.write_str("everything passes"),
            Kind::Contains => write!(f, "the name contains {:?}", self.text),
            Kind::Regex => write!(f, "the name matches /{}/", self.text),
        }
    }
}

/// A rule made ready to be asked.
#[derive(Clone, Debug)]
pub enum Matcher {
    /// Everything passes.
    All,
    /// Names that contain it.
    Contains(String),
    /// Names that have a match.
    Regex(Regex),
}

impl Matcher {
    /// Makes a rule ready.
    ///
    /// # Errors
    /// When its text is no regular expression, though it should be.
    pub fn new(rule: &Rule) -> Result<Self, BadPattern> {
        match rule.kind {
            _ if rule.text.is_empty() => Ok(Self::All),
            Kind::Contains => Ok(Self::Contains(rule.text.clone())),
            Kind::Regex => Regex::new(&rule.text)
                .map(Self::Regex)
                .map_err(|e| BadPattern { pattern: rule.text.clone(), reason: last_line(&e.to_string()) }),
        }
    }

    /// Whether a product of this name passes.
    pub fn passes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Contains(text) => name.contains(text),
            Self::Regex(regex) => regex.is_match(name),
        }
    }
}

/// The regex crate draws the pattern over several lines and says what is wrong in the last.
fn last_line(message: &str) -> String {
    let last = message.lines().last().unwrap_or(message).trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(line: &str, name: &str) -> bool {
        Matcher::new(&Rule::typed(line)).unwrap().passes(name)
    }

    #[test]
    fn a_typed_line_is_a_substring_a_pattern_or_nothing() {
        let typed = |line: &str| (Rule::typed(line).kind, Rule::typed(line).text);
        assert_eq!(typed(" lamp \n"), (Kind::Contains, "lamp".into()));
        assert_eq!(typed("/^B.*lamp$/"), (Kind::Regex, "^B.*lamp$".into()));
        assert_eq!(typed("  "), (Kind::Contains, String::new()));
        assert_eq!(typed("/"), (Kind::Contains, "/".into()));
        assert_eq!(typed("//"), (Kind::Regex, String::new()));
        assert_eq!(typed("/lamp"), (Kind::Contains, "/lamp".into()));
    }

    #[test]
    fn a_substring_is_taken_letter_by_letter() {
        assert!(passes("lamp", "Bright brass lampshade"));
        assert!(!passes("Lamp", "Bright brass lampshade"));
        assert!(!passes("l.mp", "Bright brass lamp") && passes("l.mp", "a l.mp"));
    }

    #[test]
    fn a_pattern_matches_anywhere_unless_it_says_otherwise() {
        assert!(passes("/l.mp/", "Bright brass lampshade"));
        assert!(!passes("/lamp$/", "Bright brass lampshade"));
        assert!(passes(r"/(?i)LAMP\b/", "Brass desk lamp"));
    }

    #[test]
    fn nothing_lets_everything_pass() {
        assert!(passes("", "") && passes("", "x") && passes("//", "x"));
    }

    #[test]
    fn a_bad_pattern_says_what_is_wrong_in_a_line() {
        let error = Matcher::new(&Rule::typed("/lamp(/")).unwrap_err().to_string();
        assert_eq!(error, "\"lamp(\" is not a regular expression: unclosed group");
    }

    #[test]
    fn the_json_is_what_a_foreign_client_would_write() {
        let rule: Rule = serde_json::from_str(r#"{"kind":"regex","text":"a|b"}"#).unwrap();
        assert_eq!(rule, Rule::new(Kind::Regex, "a|b"));
        let signed = Rule::typed("lamp").signed("ann", 1_735_689_600_000);
        let json = r#"{"kind":"contains","text":"lamp","set_at":"2025-01-01T00:00:00Z","set_by":"ann"}"#;
        assert_eq!(serde_json::to_string(&signed).unwrap(), json);
    }
}
