//! What a call cost, from the price list that is part of the build.
//!
//! Money is integers: rates are whole numbers of 1e-18 US dollars, the sum is exact, and it is rounded once, to the 1e-12
//! that a span stores. Whatever is not known makes the cost unknown, never zero: a model that is not listed, tokens that
//! were not reported, a kind of token without a rate. A rate that the list lacks but a rule supplies (half price in a batch)
//! counts, and marks the cost as estimated.
//!
//! The rules are those of prices.md. Where a bill is more than tokens it is added: a fee a request, web searches, search
//! units of a rerank; classes of service do not change these. Not billed, because nothing measures them yet: images,
//! seconds, characters, caches of twelve hours, storage.

mod format;
mod lookup;
mod table;

pub use format::Rate;
pub use table::{Price, Rates};

use crate::llm::observed::Observed;
use crate::llm::usage::Usage;
use crate::memo::Memo;
use crate::time::UnixMillis;
use std::cell::RefCell;
use std::rc::Rc;
use table::Schedule;

/// The price of a model; `None` when the list has neither it nor a rule for it.
pub fn price(provider: &str, model: &str) -> Option<Price> {
    lookup::find(provider, &[model]).map(table::Entry::price)
}

/// What the list says that a model can do: `tools`, `vision`, …, and what it refuses: `no_sampling`, …. A missing word
/// means unknown, not no.
pub fn caps(provider: &str, model: &str) -> impl Iterator<Item = &'static str> + use<> {
    lookup::find(provider, &[model]).into_iter().flat_map(table::Entry::caps)
}

/// The most tokens that a model will answer with, where the list knows.
pub fn max_output(provider: &str, model: &str) -> Option<u32> {
    lookup::find(provider, &[model]).and_then(table::Entry::max_output)
}

/// The cost of one answer in 1e-12 US dollars: the model that it names is billed, else the one asked for.
pub fn of(provider: &str, observed: &Observed, requested: Option<&str>, at: UnixMillis) -> Option<u64> {
    let models: Vec<&str> = observed.model.as_deref().into_iter().chain(requested).collect();
    let service_tier = observed.service_tier.as_deref();
    let bill = Bill { provider, models: &models, usage: observed.usage, service_tier, at: Some(at), ..Bill::default() };
    cost(&bill).map(|cost| cost.total_pico_usd)
}

/// What is billed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bill<'a> {
    /// The provider that answered.
    pub provider: &'a str,
    /// The names of the model, best first: as the answer had it, then as it was asked for.
    pub models: &'a [&'a str],
    /// The tokens.
    pub usage: Usage,
    /// The class of service that the **answer** names; `batch` for whatever went through a batch API.
    pub service_tier: Option<&'a str>,
    /// When the call was made: some providers are cheaper at night. `None` is the ordinary price.
    pub at: Option<UnixMillis>,
    /// Where it was sent, if that changes the price.
    pub region: Option<Region>,
    /// Web searches of the provider's own.
    pub web_searches: u64,
    /// Search units of a rerank; `None` when the call was none.
    pub search_units: Option<u64>,
}

/// Places where a call costs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// A host for European data residency.
    Eu,
    /// A location other than the global one (Vertex).
    Regional,
    /// A host for American data residency.
    Us,
}

/// An amount in 1e-12 US dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// All of it, rounded once.
    pub total_pico_usd: u64,
    /// The prompt's part, rounded by itself.
    pub input_pico_usd: u64,
    /// The answer's part, rounded by itself. What is neither (fees, searches) is in the total only.
    pub output_pico_usd: u64,
    /// Whether a rate was supplied by rule instead of the list.
    pub estimated: bool,
}

/// The cost of a call; `None` when it is unknown.
pub fn cost(bill: &Bill) -> Option<Cost> {
    if !bill.usage.is_known() && bill.search_units.is_none() {
        return None;
    }
    let price = recall(bill.provider, bill.models)?;
    let base = price.base();
    let is_priced = [Rate::Input, Rate::Output, Rate::PerQuery].into_iter().any(|rate| base.get(rate).is_some());
    if !is_priced || (!bill.usage.is_known() && base.get(Rate::PerQuery).is_none()) {
        return None;
    }
    let mut quote = Quote::new(&price, bill);
    let (input, output) = (quote.input(&bill.usage)?, quote.output(&bill.usage)?);
    let (input, output) = (quote.uplifted(input, bill.region), quote.uplifted(output, bill.region));
    let total = input.saturating_add(output).saturating_add(fees(base, bill)?);
    Some(Cost {
        total_pico_usd: pico(total)?,
        input_pico_usd: pico(input)?,
        output_pico_usd: pico(output)?,
        estimated: quote.estimated,
    })
}

/// The price of the first of `models` that has one. An isolate meets few models, and finding one in the packed table costs
/// a hundred times a walk over those that it has met.
fn recall(provider: &str, models: &[&str]) -> Option<Rc<Price>> {
    thread_local! {
        static KNOWN: RefCell<Memo<Asked, Option<Rc<Price>>>> = const { RefCell::new(Memo::new(MAX_KNOWN)) };
    }
    if let Some(price) = KNOWN.with_borrow(|known| known.find(|(have, names)| have == provider && names == models).cloned()) {
        return price;
    }
    let price = lookup::find(provider, models).map(|entry| Rc::new(entry.price()));
    if models.iter().all(|model| model.len() <= MAX_NAME) {
        let names = models.iter().map(|model| (*model).to_owned()).collect();
        KNOWN.with_borrow_mut(|known| known.put((provider.to_owned(), names), price.clone()));
    }
    price
}

/// A provider, and the names of the model.
type Asked = (String, Vec<String>);

/// Models that an isolate remembers, and the bytes of a name that is worth it.
const MAX_KNOWN: usize = 64;
const MAX_NAME: usize = 128;

/// What is not tokens.
fn fees(base: &Rates, bill: &Bill) -> Option<u128> {
    let fee = |count: u64, rate| match base.get(rate) {
        Some(rate) => Some(u128::from(count) * u128::from(rate)),
        None => (count == 0).then_some(0),
    };
    let searches = fee(bill.web_searches, Rate::PerWebSearch)?;
    // A provider may bill reranking by tokens: then its units have no rate, and need none.
    let units = fee(bill.search_units.unwrap_or(0), Rate::PerQuery).unwrap_or(0);
    let request = base.get(Rate::PerRequest).unwrap_or(0);
    Some(searches.saturating_add(units).saturating_add(request.into()))
}

/// The rates that hold for one call.
struct Quote<'a> {
    price: &'a Price,
    class: Option<Class>,
    prompt: u64,
    estimated: bool,
}

impl Quote<'_> {
    fn new<'a>(price: &'a Price, bill: &Bill) -> Quote<'a> {
        let off_peak = || bill.at.is_some_and(|at| price.is_off_peak(at)).then_some(Class::OffPeak);
        let class = bill.service_tier.and_then(Class::named).or_else(off_peak);
        Quote { price, class, prompt: bill.usage.input.unwrap_or(0), estimated: false }
    }

    /// Cached tokens first, at their own rates; audio has what is left, and text what is left of that (prices.md, "Token
    /// classes").
    fn input(&mut self, usage: &Usage) -> Option<u128> {
        use Rate::*;
        let Some(all) = usage.input else { return self.unknown(Input) };
        let (read, written) = (usage.cache_read.unwrap_or(0), usage.cache_write.unwrap_or(0));
        let written_1h = usage.cache_write_1h.unwrap_or(0).min(written);
        let fresh = all.saturating_sub(read).saturating_sub(written);
        let audio = usage.audio_input.unwrap_or(0).min(fresh);
        self.sum([
            (fresh - audio, &[Input]),
            (audio, &[InputAudio, Input]),
            (read, &[CacheRead, Input]),
            (written - written_1h, &[CacheWrite, Input]),
            (written_1h, &[CacheWrite1h, CacheWrite, Input]),
        ])
    }

    fn output(&mut self, usage: &Usage) -> Option<u128> {
        use Rate::*;
        let Some(all) = usage.output else { return self.unknown(Output) };
        let (reasoning, audio) = (usage.reasoning.unwrap_or(0), usage.audio_output.unwrap_or(0));
        let text = all.saturating_sub(reasoning).saturating_sub(audio);
        self.sum([(text, &[Output]), (reasoning, &[Reasoning, Output]), (audio, &[OutputAudio, Output])])
    }

    /// A count that was not reported costs nothing only where nothing costs: embeddings have no output.
    fn unknown(&self, rate: Rate) -> Option<u128> {
        (self.price.base().get(rate).unwrap_or(0) == 0).then_some(0)
    }

    /// Each count times the first of its rates that is known; `None` if something counted has no rate.
    fn sum<const N: usize>(&mut self, parts: [(u64, &[Rate]); N]) -> Option<u128> {
        parts.into_iter().filter(|(count, _)| *count > 0).try_fold(0u128, |sum, (count, rates)| {
            let rate = rates.iter().find_map(|rate| self.rate(*rate))?;
            Some(sum.saturating_add(u128::from(count) * u128::from(rate)))
        })
    }

    /// The class replaces the base rate by rate. Without tiers of its own it follows the base's in proportion.
    fn rate(&mut self, rate: Rate) -> Option<u64> {
        let base = self.price.base.at(self.prompt, rate);
        let Some(class) = self.class else { return base };
        let schedule = self.price.classes.get(class as usize)?.as_ref();
        match schedule.and_then(|schedule| Some((schedule, schedule.at(self.prompt, rate)?))) {
            Some((schedule, own)) if schedule.tiers.is_empty() => Some(scaled(own, base, self.price.base().get(rate))),
            Some((_, own)) => Some(own),
            None => {
                let supplied = if class == Class::Batch { base? / 2 } else { base? };
                self.estimated |= class == Class::Batch || schedule.is_none();
                Some(supplied)
            }
        }
    }

    fn uplifted(&self, atto: u128, region: Option<Region>) -> u128 {
        let rate = match region {
            Some(Region::Eu) => Rate::EuUplift,
            Some(Region::Regional) => Rate::RegionalUplift,
            Some(Region::Us) => Rate::UsUplift,
            None => return atto,
        };
        let millionths = self.price.base().get(rate).map_or(1_000_000, |factor| factor / 1_000_000_000_000);
        atto.saturating_mul(millionths.into()) / 1_000_000
    }
}

impl Schedule {
    /// The rate for a prompt of that size: of the last tier that it reaches, if that has it.
    fn at(&self, prompt: u64, rate: Rate) -> Option<u64> {
        let tier = self.tiers.iter().rev().find(|(from, _)| prompt >= *from);
        tier.and_then(|(_, rates)| rates.get(rate)).or_else(|| self.rates.get(rate))
    }
}

impl Price {
    fn is_off_peak(&self, at: UnixMillis) -> bool {
        let (days, hour) = (at.0 / 86_400_000, at.0 / 3_600_000 % 24);
        let weekday = (days + 3) % 7; // 1970-01-01 was a Thursday
        self.off_peak.get(weekday as usize).is_some_and(|hours| hours >> hour & 1 == 1)
    }
}

/// A class of service with rates of its own; its place is that in [`format::CLASSES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Batch,
    Flex,
    Priority,
    OffPeak,
}

impl Class {
    /// The class that an answer names; anything else is the ordinary one.
    fn named(word: &str) -> Option<Class> {
        match word {
            "batch" => Some(Class::Batch),
            "flex" => Some(Class::Flex),
            "fast" | "priority" => Some(Class::Priority),
            _ => None,
        }
    }
}

/// `own × tier / base`, where the base has a tier for this prompt.
fn scaled(own: u64, tier: Option<u64>, base: Option<u64>) -> u64 {
    match (tier, base) {
        (Some(tier), Some(base)) if base > 0 && tier != base => {
            u64::try_from(u128::from(own) * u128::from(tier) / u128::from(base)).unwrap_or(u64::MAX)
        }
        _ => own,
    }
}

/// Rounds 1e-18 to 1e-12, half up; `None` for more money than the store can hold.
fn pico(atto: u128) -> Option<u64> {
    u64::try_from(atto.saturating_add(500_000) / 1_000_000).ok().filter(|pico| *pico <= i64::MAX as u64)
}
