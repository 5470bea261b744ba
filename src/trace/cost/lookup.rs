//! Which entry of the price list a model name means (prices.md, "Lookup").
//!
//! Providers answer with names that the list does not have: dated, revised, prefixed with a region. A name is first taken
//! as it is, then without such parts, then where else its provider's models are listed, and only when no name of the call
//! is found that way do the list's own rules decide. A wrong price is worse than none, so nothing is guessed beyond that.

use super::table::Entry;

/// The entry of the first of `models` that is listed (the name that was billed first, then the one asked for), else of the
/// first that a rule fits.
pub(super) fn find(provider: &str, models: &[&str]) -> Option<Entry> {
    let listed = models.iter().find_map(|model| listed(provider, model));
    listed.or_else(|| models.iter().find_map(|model| Entry::matching(provider, model)))
}

fn listed(provider: &str, model: &str) -> Option<Entry> {
    let spelled = |provider, model| spellings(model).into_iter().find_map(|model| Entry::find(provider, model));
    let Some(family) = FAMILIES.iter().find(|family| family.provider == provider) else {
        return spelled(provider, model);
    };
    let anywhere = family.regions.iter().find_map(|region| model.strip_prefix(region)).unwrap_or(model);
    let elsewhere = || match family.elsewhere {
        Some((provider, prefix)) if anywhere.starts_with(prefix) => spelled(provider, anywhere),
        _ => None,
    };
    spelled(provider, model).or_else(|| spelled(provider, anywhere)).or_else(elsewhere)
}

/// The name, then without its revision (`:0`), its version and revision (`-v1:0`), and its date.
fn spellings(model: &str) -> [&str; 4] {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unrevised = model.rsplit_once(':').filter(|(_, tail)| is_number(tail)).map(|(head, _)| head);
    let unversioned = unrevised.and_then(|name| name.rsplit_once("-v")).filter(|(_, tail)| is_number(tail)).map(|(head, _)| head);
    let unrevised = unrevised.unwrap_or(model);
    let unversioned = unversioned.unwrap_or(unrevised);
    [model, unrevised, unversioned, undated(unversioned)]
}

fn undated(model: &str) -> &str {
    let same = |(have, want): (u8, u8)| if want == b'#' { have.is_ascii_digit() } else { have == want };
    let ends = |shape: &&&str| model.len() > shape.len() && model.bytes().rev().zip(shape.bytes().rev()).all(same);
    DATES.iter().find(ends).and_then(|shape| model.get(..model.len() - shape.len())).unwrap_or(model)
}

/// How dates end a name; `#` is a digit.
const DATES: &[&str] = &["-####-##-##", "-########", "@########", "-latest"];

/// Providers that sell the same models under several names.
struct Family {
    provider: &'static str,
    /// What may precede a model's name. Left away only when the whole name is not listed: a region can cost more.
    regions: &'static [&'static str],
    /// The provider whose list has the rest, for names that begin so.
    elsewhere: Option<(&'static str, &'static str)>,
}

const FAMILIES: &[Family] = &[
    Family { provider: "azure-openai", regions: &["eu/", "us/", "apac/", "global/"], elsewhere: Some(("openai", "")) },
    Family {
        provider: "bedrock",
        regions: &["us.", "eu.", "apac.", "global.", "au.", "jp.", "in.", "us-gov.", "regional."],
        elsewhere: None,
    },
    Family { provider: "vertex-ai", regions: &[], elsewhere: Some(("google", "gemini")) },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dates_and_revisions_are_left_away() {
        let cases = [
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("gpt-4o-2024-11-20", "gpt-4o"),
            ("claude-opus-4@20250514", "claude-opus-4"),
            ("mistral-large-latest", "mistral-large"),
            ("amazon.nova-pro-v1:0", "amazon.nova-pro"),
            ("anthropic.claude-3-5-sonnet-20241022-v2:0", "anthropic.claude-3-5-sonnet"),
            ("gpt-4-0613", "gpt-4-0613"),
            ("deepseek-v3", "deepseek-v3"),
            ("qwen3:free", "qwen3:free"),
            ("llama3:", "llama3:"),
            ("-20250929", "-20250929"),
            ("x-2024-1-20", "x-2024-1-20"),
            ("模型-20250929", "模型"),
            ("", ""),
        ];
        for (model, shortest) in cases {
            assert_eq!(spellings(model).last(), Some(&shortest), "{model}");
        }
    }
}
