//! Credentials. A [`Secret`] cannot be printed by accident, and is compared without telling where it differs.

use std::fmt;

/// A key that must not appear in a log, a record or an error.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key; blank text is no key.
    pub fn new(text: impl Into<String>) -> Option<Secret> {
        let text = text.into();
        (!text.trim().is_empty()).then_some(Secret(text))
    }

    /// The key itself, for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Equality whose duration depends on the length of `candidate` alone.
    pub fn matches(&self, candidate: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), candidate.as_bytes());
        let mut difference = u8::from(ours.len() != theirs.len());
        for (at, byte) in theirs.iter().enumerate() {
            difference |= byte ^ ours.get(at % ours.len().max(1)).copied().unwrap_or(0);
        }
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_matches() {
        let key = Secret::new("sk-abc").unwrap();
        assert!(key.matches("sk-abc"));
        for wrong in ["", "sk-ab", "sk-abd", "sk-abcsk-abc", "sk-abc "] {
            assert!(!key.matches(wrong), "{wrong}");
        }
    }

    #[test]
    fn debug_tells_nothing_and_blank_is_no_key() {
        assert_eq!(format!("{:?}", Secret::new("sk-abc")), "Some(Secret(…))");
        assert_eq!(Secret::new("  "), None);
    }
}
