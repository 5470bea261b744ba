//! stub
use crate::llm::observed::Observed;
/// stub
pub fn of(_: &str, _: &Observed, _: Option<&str>) -> Option<u64> {
    None
}
/// stub
pub fn caps(_: &str, _: &str) -> impl Iterator<Item = &'static str> {
    [].into_iter()
}
/// stub
pub fn max_output(_: &str, _: &str) -> Option<u64> {
    None
}
