//! Made-up products.
//!
//! Invariant: what comes out depends on the seed, the settings and the times passed in, and on nothing else. Within a
//! seed, no two products share an id before a thousand million of them are made.

use std::time::{Duration, UNIX_EPOCH};

use crate::product::{Image, Price, Product, Specifications, Stock};
use crate::words::{ADJECTIVES, BRANDS, MATERIALS, TAGS, THINGS};

/// Of how many products the last are kept, to be sent again changed.
const REMEMBERED: usize = 200;

/// Digits of an id that differ: between the prefix `978` and the check digit.
const ID_SPACE: u64 = 1_000_000_000;

/// Makes products, one after the other.
#[derive(Clone, Debug)]
pub struct Generator {
    random: SplitMix64,
    updates_percent: u8,
    made: u64,
    id_start: u64,
    recent: Vec<Product>,
}

impl Generator {
    /// A generator by a seed. Of 100 records, about `updates_percent` are products that were sent before, under
    /// another name.
    pub fn new(seed: u64, updates_percent: u8) -> Self {
        let mut random = SplitMix64(seed);
        let id_start = random.below(ID_SPACE);
        Self { random, updates_percent, made: 0, id_start, recent: Vec::new() }
    }

    /// The next product, as of a time in milliseconds since the epoch.
    pub fn next(&mut self, at_ms: u64) -> Product {
        let update = self.random.below(100) < u64::from(self.updates_percent);
        if update && !self.recent.is_empty() { self.changed(at_ms) } else { self.fresh(at_ms) }
    }

    /// A product that was sent before, as something else: a label that was mended, say.
    fn changed(&mut self, at_ms: u64) -> Product {
        let which = self.random.index(self.recent.len());
        let (name, category) = self.name();
        let amount = self.amount();
        let Some(product) = self.recent.get_mut(which) else { return self.fresh(at_ms) };
        product.description = describe(&name, &product.brand);
        (product.name, product.category) = (name, category.to_owned());
        product.price.amount = amount;
        product.updated_at = rfc3339(at_ms);
        product.clone()
    }

    fn fresh(&mut self, at_ms: u64) -> Product {
        let (name, category) = self.name();
        let brand = self.random.pick(BRANDS);
        let product = Product {
            product_id: self.id(),
            description: describe(&name, brand),
            name,
            price: Price { amount: self.amount(), currency: "RUB".into() },
            category: category.into(),
            brand: brand.into(),
            stock: Stock { available: self.random.between(100, 10_000), reserved: self.random.between(1, 1_000) },
            sku: format!("{}-{:06}", category.to_ascii_uppercase(), self.random.below(1_000_000)),
            tags: self.tags(),
            images: (0..self.random.between(1, 10)).map(|_| self.image()).collect(),
            specifications: Specifications {
                weight: format!("{}.{} kg", self.random.below(10), self.random.between(1, 9)),
                dimensions: format!(
                    "{} x {} x {} cm",
                    self.random.between(5, 90),
                    self.random.between(5, 90),
                    self.random.between(5, 90)
                ),
                battery_life: format!("{} hours", self.random.between(1, 48)),
                water_resistance: format!("IP{}{}", self.random.between(0, 6), self.random.between(0, 8)),
            },
            created_at: rfc3339(at_ms),
            updated_at: rfc3339(at_ms),
            index: self.zip(),
            store_id: self.zip(),
        };
        let place = usize::try_from(self.made).unwrap_or_default() % REMEMBERED;
        match self.recent.get_mut(place) {
            Some(old) => old.clone_from(&product),
            None => self.recent.push(product.clone()),
        }
        self.made += 1;
        product
    }

    /// ISBN-13-like. A step that shares no divisor with the space visits all of it before it comes round.
    fn id(&self) -> String {
        let digits = (self.id_start + self.made % ID_SPACE * 618_033_989) % ID_SPACE;
        let body = format!("978{digits:09}");
        let check = check_digit(&body);
        format!("{body}{check}")
    }

    fn name(&mut self) -> (String, &'static str) {
        let (adjective, material) = (self.random.pick(ADJECTIVES), self.random.pick(MATERIALS));
        let (thing, category) = self.random.pick(THINGS);
        (format!("{adjective} {material} {thing}"), category)
    }

    fn amount(&mut self) -> i32 {
        self.random.between(1_000, 10_000)
    }

    /// Three different ones.
    fn tags(&mut self) -> Vec<String> {
        let first = self.random.index(TAGS.len());
        TAGS.iter().cycle().skip(first).step_by(3).take(3).map(|t| (*t).to_owned()).collect()
    }

    fn image(&mut self) -> Image {
        let alt = self.zip();
        Image { url: format!("http://localhost/{alt}"), alt }
    }

    fn zip(&mut self) -> String {
        format!("{:05}", self.random.between(10_000, 99_999))
    }
}

fn describe(name: &str, brand: &str) -> String {
    format!("{name} by {brand}")
}

fn rfc3339(at_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string()
}

/// The last digit of an ISBN-13 (EAN-13), by its first twelve.
pub fn check_digit(body: &str) -> u32 {
    let digits = body.chars().filter_map(|c| c.to_digit(10));
    let sum: u32 = digits.zip([1, 3].into_iter().cycle()).map(|(digit, weight)| digit * weight).sum();
    (10 - sum % 10) % 10
}

/// Steele, Lea and Flood's generator: small, fast, and the same everywhere. Not for secrets.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, `n`; 0 if `n` is 0. The remainder's bias is of no matter here.
    fn below(&mut self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or_default()
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    /// Both ends included.
    fn between(&mut self, low: i32, high: i32) -> i32 {
        let span = u64::from(high.abs_diff(low)) + 1;
        low + i32::try_from(self.below(span)).unwrap_or_default()
    }

    fn pick<T: Copy + Default>(&mut self, from: &[T]) -> T {
        from.get(self.index(from.len())).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn splitmix64_is_the_published_one() {
        // The first outputs for seed 1234567, as in the reference implementation's tests.
        let mut random = SplitMix64(1_234_567);
        let first = [random.next(), random.next(), random.next()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn check_digits_are_those_of_real_books() {
        for isbn in ["9780306406157", "9783161484100", "9781718503106", "9780000000002"] {
            let (body, check) = isbn.split_at(12);
            assert_eq!(check_digit(body).to_string(), check, "{isbn}");
        }
    }

    #[test]
    fn a_seed_always_makes_the_same() {
        let run = |seed| {
            let mut generator = Generator::new(seed, 20);
            (0..500).map(|n| generator.next(n * 33)).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn ids_are_valid_and_only_updates_repeat_them() {
        let mut generator = Generator::new(1, 10);
        let (mut ids, mut updates) = (BTreeSet::new(), 0);
        for n in 0..5_000 {
            let p = generator.next(n);
            assert_eq!((p.product_id.len(), &p.product_id[..3]), (13, "978"));
            assert_eq!(check_digit(&p.product_id[..12]).to_string(), p.product_id[12..]);
            let known = !ids.insert(p.product_id.clone());
            assert_eq!(known, p.created_at != p.updated_at, "{p:?}");
            updates += usize::from(known);
        }
        assert!((400..600).contains(&updates), "{updates}");
    }

    #[test]
    fn fields_are_within_their_bounds() {
        let mut generator = Generator::new(3, 2);
        let mut lamps = 0;
        for n in 0..2_000 {
            let p = generator.next(n);
            assert!((1_000..=10_000).contains(&p.price.amount) && p.price.currency == "RUB");
            assert!((100..=10_000).contains(&p.stock.available) && (1..=1_000).contains(&p.stock.reserved));
            assert_eq!(p.tags.iter().collect::<BTreeSet<_>>().len(), 3, "{:?}", p.tags);
            assert!((1..=10).contains(&p.images.len()));
            assert!(p.images.iter().all(|i| i.alt.len() == 5 && i.url == format!("http://localhost/{}", i.alt)));
            lamps += usize::from(p.name.contains("lamp"));
        }
        assert!((150..400).contains(&lamps), "{lamps}");
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(1_735_689_600_000), "2025-01-01T00:00:00.000Z");
    }
}
