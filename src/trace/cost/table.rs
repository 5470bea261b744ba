//! Reads the price table that the build packed into the Worker; [`format`](super::format) has its layout.
//!
//! Nothing is unpacked but what is asked for: a key is found by bisecting the blocks and walking one, a price is decoded
//! where it lies. The build is the only author of the table, so a short read is no error here: it reads as zeros.

use super::format::{BLOCK, CLASSES, RATES, Rate};

/// The number of a model in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(usize);

/// What a model costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    pub(super) base: Schedule,
    pub(super) classes: [Option<Schedule>; CLASSES.len()],
    /// A mask of hours a weekday, Monday first, UTC.
    pub(super) off_peak: [u64; 7],
}

impl Price {
    /// The rates of an ordinary call with a short prompt.
    pub fn base(&self) -> &Rates {
        &self.base.rates
    }
}

/// Rates, and how they change with the size of the prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    pub rates: Rates,
    /// Prompt tokens from which the rates beside them hold; ascending.
    pub tiers: Vec<(u64, Rates)>,
}

/// One rate of each kind, where the price list has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates([Option<u64>; RATES.len()]);

impl Rates {
    /// In 1e-18 US dollars a unit; an explicit zero is a price.
    pub fn get(&self, rate: Rate) -> Option<u64> {
        self.0.get(rate as usize).copied().flatten()
    }
}

impl Entry {
    /// The model of exactly that name.
    pub fn find(provider: &str, model: &str) -> Option<Entry> {
        let key = [provider.as_bytes(), b"/", model.as_bytes()].concat();
        let (blocks, _) = TABLE.blocks.as_chunks::<4>();
        let block_at = |at: &[u8; 4]| Reader(TABLE.keys.get(u32::from_le_bytes(*at) as usize..).unwrap_or_default());
        let after = blocks.partition_point(|at| {
            let mut first = Vec::new();
            block_at(at).key(&mut first);
            first <= key
        });
        let block = after.checked_sub(1)?;
        let (mut reader, mut have) = (block_at(blocks.get(block)?), Vec::new());
        for place in 0..BLOCK {
            reader.key(&mut have);
            if have == key {
                return Some(Entry(block * BLOCK + place));
            }
            if reader.0.is_empty() {
                break;
            }
        }
        None
    }

    /// The model of `provider` whose longest rule fits the name; a rule is `=whole`, `^start`, `*part` or `$end`.
    pub fn matching(provider: &str, model: &str) -> Option<Entry> {
        let mut groups = Reader(TABLE.rules);
        let mut best = (0, None);
        while !groups.0.is_empty() {
            let (name, length) = (groups.text(), groups.u16());
            let mut rules = Reader(groups.take(length));
            while name == provider && !rules.0.is_empty() {
                let (rule, place) = (rules.text(), rules.u16());
                if rule.len() > best.0 && fits(rule, model) {
                    best = (rule.len(), Some(Entry(place)));
                }
            }
        }
        best.1
    }

    pub fn price(self) -> Price {
        let (places, _) = TABLE.prices.as_chunks::<2>();
        let at = places.get(self.0).map_or(0, |at| u16::from_le_bytes(*at));
        let mut reader = Reader(TABLE.pool.get(usize::from(at)..).unwrap_or_default());
        let present = reader.byte();
        let base = reader.schedule();
        let mut classes = [const { None }; CLASSES.len()];
        for (_, class) in classes.iter_mut().enumerate().filter(|(bit, _)| present >> bit & 1 == 1) {
            *class = Some(reader.schedule());
        }
        let has_hours = classes.last().is_some_and(Option::is_some);
        Price { base, classes, off_peak: [(); 7].map(|()| if has_hours { reader.varint() } else { 0 }) }
    }

    pub fn caps(self) -> impl Iterator<Item = &'static str> {
        let mask = TABLE.flags.get(self.0).map_or(0, |place| u32_at(TABLE.masks, *place));
        let words = str::from_utf8(TABLE.words).unwrap_or_default().split(',');
        words.enumerate().filter(move |(bit, _)| mask >> bit & 1 == 1).map(|(_, word)| word)
    }

    pub fn max_output(self) -> Option<u32> {
        TABLE.outputs.get(self.0).map(|place| u32_at(TABLE.limits, *place)).filter(|limit| *limit > 0)
    }
}

fn fits(rule: &str, model: &str) -> bool {
    match rule.split_at_checked(1) {
        Some(("=", text)) => model == text,
        Some(("^", text)) => model.starts_with(text),
        Some(("$", text)) => model.ends_with(text),
        Some((_, text)) => model.contains(text),
        None => false,
    }
}

fn u32_at(section: &[u8], place: u8) -> u32 {
    section.as_chunks::<4>().0.get(usize::from(place)).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Walks bytes; at their end it reads zeros.
struct Reader(&'static [u8]);

impl Reader {
    /// The next key, given the one before it (empty at the start of a block).
    fn key(&mut self, before: &mut Vec<u8>) {
        before.truncate(self.byte().into());
        let length = self.byte();
        before.extend(self.take(length.into()));
    }

    fn schedule(&mut self) -> Schedule {
        let rates = self.rates();
        let tiers = (0..self.varint()).map(|_| (self.varint(), self.rates())).collect();
        Schedule { rates, tiers }
    }

    fn rates(&mut self) -> Rates {
        let mask = self.varint();
        let (values, _) = TABLE.values.as_chunks::<8>();
        let mut rates = Rates::default();
        for (_, rate) in rates.0.iter_mut().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1) {
            *rate = values.get(self.varint() as usize).map(|value| u64::from_le_bytes(*value));
        }
        rates
    }

    fn text(&mut self) -> &'static str {
        let length = self.byte();
        str::from_utf8(self.take(length.into())).unwrap_or_default()
    }

    fn varint(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }

    fn u16(&mut self) -> usize {
        usize::from(self.byte()) | usize::from(self.byte()) << 8
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn take(&mut self, length: usize) -> &'static [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The sections of the table. Cut at compile time, so a table that is too short does not compile.
struct Table {
    keys: &'static [u8],
    blocks: &'static [u8],
    prices: &'static [u8],
    flags: &'static [u8],
    outputs: &'static [u8],
    pool: &'static [u8],
    values: &'static [u8],
    masks: &'static [u8],
    limits: &'static [u8],
    rules: &'static [u8],
    words: &'static [u8],
}

static TABLE: Table = {
    let (keys, rest) = section(include_bytes!(concat!(env!("OUT_DIR"), "/prices.bin")));
    let (blocks, rest) = section(rest);
    let (prices, rest) = section(rest);
    let (flags, rest) = section(rest);
    let (outputs, rest) = section(rest);
    let (pool, rest) = section(rest);
    let (values, rest) = section(rest);
    let (masks, rest) = section(rest);
    let (limits, rest) = section(rest);
    let (rules, rest) = section(rest);
    let (words, _) = section(rest);
    Table { keys, blocks, prices, flags, outputs, pool, values, masks, limits, rules, words }
};

const fn section(bytes: &'static [u8]) -> (&'static [u8], &'static [u8]) {
    let (length, rest) = bytes.split_first_chunk().expect("a section begins with its length");
    rest.split_at(u32::from_le_bytes(*length) as usize)
}
