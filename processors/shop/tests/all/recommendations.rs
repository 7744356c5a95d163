//! The recommendations' groups: what they come to equals a separate computation, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::expected::{Pair, latest_of, pairs_of};
use shop::recommend::{self, Kind, Matching};
use shop::topics::{FILTERED, FIND, RECOM, RECOM_GROUP, TopicNames};
use shop::{Find, Generator, Latest, Product, Recommendation, codec};
use stream_core::codec::Json;
use stream_core::group::table_topic;
use stream_core::processor::{Guarantee, Processor};
use stream_core::testing::{TestInput, Tester};

type Done = Result<(), Box<dyn std::error::Error>>;

/// So many that what was done again after a crash is among them.
const KEEP: usize = 24;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

struct Shop {
    tester: Tester,
    products: TestInput<Product>,
    searches: TestInput<Find>,
    start: i64,
    written: Vec<(i64, Product)>,
    searched: Vec<(i64, Find)>,
}

impl Shop {
    fn new(guarantee: Guarantee, kind: Kind) -> Result<Self, Box<dyn std::error::Error>> {
        let (names, tester) = (TopicNames::default(), Tester::with_partitions(2));
        let how = Matching { kind, ..Matching::default() };
        // Seldom, so that a crash finds much that is done and not committed.
        let set = move |p: Processor| p.guarantee(guarantee).commit_interval(Duration::from_millis(200));
        tester.add_with(recommend::join(&names, codec::json(), how)?, set)?;
        tester.add_with(recommend::users(&names, KEEP).build()?, set)?;
        let products = tester.input(&table_topic(FILTERED), Json::<Product>::new());
        let searches = tester.input(FIND, Json::<Find>::new());
        let start = tester.now_ms();
        Ok(Self { tester, products, searches, start, written: Vec::new(), searched: Vec::new() })
    }

    fn product(&mut self, at: i64, product: &Product) -> Done {
        self.products.push_at(product.product_id.as_str(), Some(product), Some(self.start + at), None)?;
        self.written.push((self.start + at, product.clone()));
        Ok(())
    }

    fn search(&mut self, at: i64, find: &Find) -> Done {
        self.searches.push_at(find.id.as_str(), Some(find), Some(self.start + at), None)?;
        self.searched.push((self.start + at, find.clone()));
        Ok(())
    }

    /// All pairs that were recommended, with their times.
    fn recommended(&self) -> Result<Vec<(i64, Recommendation)>, Box<dyn std::error::Error>> {
        let mut recommended = Vec::new();
        for record in self.tester.output(RECOM, Json::<Recommendation>::new()).read()? {
            let recommendation = record.value.expect("a value");
            assert_eq!(record.key.as_deref(), Some(recommendation.product.name.as_bytes()), "keyed by the name");
            recommended.push((record.timestamp, recommendation));
        }
        Ok(recommended)
    }

    fn latest(&self) -> Result<BTreeMap<String, Latest>, Box<dyn std::error::Error>> {
        let group = TopicNames::default().users_group();
        let all = self.tester.table(&group, Json::<Latest>::new()).all()?;
        Ok(all.into_iter().map(|(key, value)| (String::from_utf8(key).unwrap(), value)).collect())
    }
}

/// A product of a few names, so that searches hit.
fn product(generator: &mut Generator, n: usize) -> Product {
    let mut product = generator.next(0);
    product.name = format!("Plain oak chair {}", n % 4);
    product
}

fn find(id: &str, user: &str, text: &str) -> Find {
    Find { id: id.to_owned(), user_id: user.to_owned(), find: text.to_owned() }
}

fn with_both(test: impl Fn(Guarantee) -> Done) -> Done {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        test(guarantee).map_err(|e| format!("{guarantee:?}: {e}"))?;
    }
    Ok(())
}

#[test]
fn crashes_in_between_lose_nothing_and_double_nothing() -> Done {
    with_both(|guarantee| {
        let mut shop = Shop::new(guarantee, Kind::Inner)?;
        let mut generator = Generator::new(3, 0);
        let groups = [RECOM_GROUP.to_owned(), TopicNames::default().users_group()];
        let mut made: Vec<Product> = Vec::new();
        for n in 0..240_usize {
            let at = i64::try_from(n)? * MINUTE;
            // Now and then one that was there before, changed.
            let product = match made.get(n / 3).filter(|_| n % 7 == 6) {
                Some(old) => Product { updated_at: format!("later {n}"), ..old.clone() },
                None => product(&mut generator, n),
            };
            shop.product(at, &product)?;
            made.push(product);
            if n % 5 == 0 {
                let user = ["ann", "ben", "cleo"][n / 5 % 3];
                let text = format!("Plain oak chair {}", (n / 5) % 5);
                shop.search(at + 7, &find(&format!("f{n}"), user, &text))?;
            }
            shop.tester.run_for(Duration::from_millis(3));
            // In the middle of what is under way.
            if n % 40 == 17 {
                for group in &groups {
                    shop.tester.crash(group)?;
                }
                for group in &groups {
                    shop.tester.start_instance(group, 0)?;
                }
            } else if n % 40 == 33 {
                let group = &groups[n / 40 % 2];
                shop.tester.crash(group)?;
                shop.tester.start_instance(group, 0)?;
            }
        }
        shop.tester.drain()?;

        let expected = pairs_of(&shop.written, &shop.searched, HOUR);
        assert!(expected.len() > 300, "{} pairs", expected.len());
        let mut recommended: Vec<Pair> =
            shop.recommended()?.into_iter().map(|(at, r)| Pair::recommended(at, r)).collect();
        recommended.sort();
        if guarantee == Guarantee::AtLeastOnce {
            assert!(recommended.len() > expected.len(), "the crashes had nothing done again");
            recommended.dedup();
        }
        assert!(recommended == expected, "{} recommended, {} expected", recommended.len(), expected.len());
        assert_eq!(shop.latest()?, latest_of(&expected, KEEP));
        Ok(())
    })
}

#[test]
fn only_the_same_name_within_the_hour_matches_whichever_comes_first() -> Done {
    with_both(|guarantee| {
        let mut shop = Shop::new(guarantee, Kind::Inner)?;
        let mut generator = Generator::new(4, 0);
        let chair = product(&mut generator, 0);
        shop.search(0, &find("early", "ann", &chair.name))?;
        shop.search(10, &find("part", "ann", "Plain oak"))?;
        shop.search(20, &find("case", "ann", &chair.name.to_uppercase()))?;
        shop.search(30, &find("empty", "ann", ""))?;
        shop.tester.drain()?;
        shop.product(HOUR, &chair)?;
        shop.tester.drain()?;
        shop.search(2 * HOUR, &find("late", "ben", &chair.name))?;
        shop.search(2 * HOUR + 1, &find("too late", "ben", &chair.name))?;
        shop.search(2 * HOUR - 1, &find("nobody's", "", &chair.name))?;
        shop.tester.drain()?;
        let recommended = shop.recommended()?;
        let mut finds: Vec<_> =
            recommended.iter().map(|(at, r)| (at - shop.start, r.find_id.as_deref().unwrap())).collect();
        finds.sort_unstable();
        assert_eq!(finds, [(HOUR, "early"), (2 * HOUR - 1, "nobody's"), (2 * HOUR, "late")]);
        let latest = shop.latest()?;
        assert_eq!(latest.keys().map(String::as_str).collect::<Vec<_>>(), ["ann", "ben"], "nobody gets nothing");
        assert_eq!(latest["ben"].recommendations.len(), 1);
        Ok(())
    })
}

#[test]
fn a_product_that_leaves_the_table_is_dropped_and_counted() -> Done {
    with_both(|guarantee| {
        let mut shop = Shop::new(guarantee, Kind::Inner)?;
        let mut generator = Generator::new(5, 0);
        let chair = product(&mut generator, 0);
        shop.product(0, &chair)?;
        shop.products.push_at(chair.product_id.as_str(), None, Some(shop.start + 1), None)?;
        shop.search(2, &find("f", "ann", &chair.name))?;
        shop.tester.drain()?;
        assert_eq!(shop.recommended()?.len(), 1, "what was in the shop within the hour is found");
        assert_eq!(shop.tester.dropped(RECOM_GROUP)?, 1);
        Ok(())
    })
}

#[test]
fn a_left_join_recommends_every_product_at_once_and_matches_as_they_come() -> Done {
    with_both(|guarantee| {
        let mut shop = Shop::new(guarantee, Kind::Left)?;
        let mut generator = Generator::new(6, 0);
        let (chair, stool) = (product(&mut generator, 0), product(&mut generator, 1));
        shop.product(0, &chair)?;
        shop.product(1, &stool)?;
        shop.tester.drain()?;
        let alone =
            |recommended: &[(i64, Recommendation)]| recommended.iter().filter(|(_, r)| r.user_id.is_none()).count();
        assert_eq!((shop.recommended()?.len(), alone(&shop.recommended()?)), (2, 2), "at once");
        shop.search(MINUTE, &find("f", "ann", &chair.name))?;
        shop.tester.drain()?;
        shop.product(2 * MINUTE, &chair)?;
        shop.tester.drain()?;
        let recommended = shop.recommended()?;
        assert_eq!((recommended.len(), alone(&recommended)), (4, 2), "{recommended:?}");
        let json = serde_json::to_value(&recommended.iter().find(|(_, r)| r.user_id.is_none()).unwrap().1)?;
        assert!(json["find_id"].is_null() && json["find"].is_null() && json["product"]["name"].is_string(), "{json}");
        // One product, one search: once in the table, as it was last.
        let latest = shop.latest()?;
        let of_ann: Vec<_> = latest["ann"].recommendations.iter().map(|r| r.at_ms - shop.start).collect();
        assert_eq!((latest.len(), of_ann), (1, vec![2 * MINUTE]));
        Ok(())
    })
}
