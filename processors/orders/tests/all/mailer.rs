//! The mailer: one mail an order, tried again, put aside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, ready};
use orders::mailer::{self, Mailed, Pace, Post, PostError};
use orders::order::OrderJson;
use orders::topics::{EMAILS, MAILER, TopicNames};
use orders::{Generator, Order};
use stream_core::codec::Json;
use stream_core::testing::Tester;

type Done = Result<(), Box<dyn std::error::Error>>;

/// Counts attempts by order, and fails as the test says.
#[derive(Default)]
struct FakePost {
    attempts: Mutex<BTreeMap<i32, u32>>,
    sent: Mutex<Vec<i32>>,
    /// By order: how often the server takes it later first.
    trouble: BTreeMap<i32, u32>,
    /// The server is away.
    away: AtomicBool,
    /// Refused for good.
    refused: Vec<i32>,
}

impl Post for FakePost {
    fn send<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), PostError>> {
        let id = order.order_id;
        let attempt = {
            let mut attempts = self.attempts.lock().unwrap();
            let attempt = attempts.entry(id).or_default();
            *attempt += 1;
            *attempt
        };
        let result = if self.away.load(Ordering::Relaxed) {
            Err(PostError::Server("connection refused".into()))
        } else if self.refused.contains(&id) {
            Err(PostError::Refused("no such mailbox".into()))
        } else if attempt <= self.trouble.get(&id).copied().unwrap_or_default() {
            Err(PostError::NotYet("busy".into()))
        } else {
            self.sent.lock().unwrap().push(id);
            Ok(())
        };
        ready(result).boxed()
    }
}

fn started(post: &Arc<FakePost>) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::with_partitions(2);
    let pace = Pace { backoff: Duration::from_secs(1), at_once: 8 };
    tester.add(mailer::define(&TopicNames::default(), Arc::clone(post) as _, pace).build()?)?;
    Ok(tester)
}

fn orders(count: usize) -> Vec<Order> {
    let mut generator = Generator::new(1, 0);
    (0..count).map(|_| generator.next().0).collect()
}

fn push(tester: &Tester, orders: &[Order]) -> Done {
    let input = tester.input(EMAILS, OrderJson);
    orders.iter().try_for_each(|order| input.push(order.key(), order.clone()))?;
    Ok(())
}

fn sent(post: &FakePost) -> Vec<i32> {
    let mut sent = post.sent.lock().unwrap().clone();
    sent.sort_unstable();
    sent
}

fn dead(tester: &Tester) -> Vec<(String, String)> {
    let dead = tester.output("order_emails-dlq", OrderJson).read().unwrap();
    let mut dead: Vec<_> = dead.iter().map(|r| (r.key_text(), r.header("dead-letter-reason").unwrap())).collect();
    dead.sort();
    dead
}

#[test]
fn a_record_that_comes_twice_is_one_mail() -> Done {
    let post = Arc::new(FakePost::default());
    let tester = started(&post)?;
    let orders = orders(5);
    push(&tester, &orders)?;
    push(&tester, &orders[1..3])?;
    tester.drain()?;
    tester.crash(MAILER)?;
    push(&tester, &orders)?;
    tester.restart(MAILER)?;
    tester.drain()?;
    assert_eq!(sent(&post), [1, 2, 3, 4, 5]);
    assert_eq!(tester.table(MAILER, Json::<Mailed>::new()).all()?.len(), 5);
    Ok(())
}

#[test]
fn a_mail_that_is_taken_later_is_tried_again_with_longer_waits_and_holds_up_no_other() -> Done {
    let post = Arc::new(FakePost { trouble: [(1, 3), (2, 20)].into(), ..FakePost::default() });
    let tester = started(&post)?;
    push(&tester, &orders(3))?;
    // 1 s and 2 s have passed, 4 s have not.
    tester.run_for(Duration::from_secs(5));
    assert_eq!((sent(&post), post.attempts.lock().unwrap()[&1]), (vec![3], 3));
    tester.drain()?;
    assert_eq!(sent(&post), [1, 2, 3]);
    assert_eq!(*post.attempts.lock().unwrap(), [(1, 4), (2, 21), (3, 1)].into());
    assert_eq!(dead(&tester), []);
    Ok(())
}

#[test]
fn a_server_that_is_away_for_long_loses_no_mail_and_is_asked_by_one_mail_at_a_time() -> Done {
    let post = Arc::new(FakePost { away: true.into(), ..FakePost::default() });
    let tester = started(&post)?;
    push(&tester, &orders(40))?;
    tester.run_for(Duration::from_secs(600));
    // Eight mails of each of two partitions have been tried. Then one asks: after 1, 2, 4, 8 and 16 s, and every 30 s.
    let attempts = post.attempts.lock().unwrap().clone();
    assert_eq!((sent(&post), attempts.len()), (vec![], 16));
    assert_eq!(attempts.values().sum::<u32>(), 16 + 5 + (600 - 31) / 30);
    post.away.store(false, Ordering::Relaxed);
    tester.drain()?;
    assert_eq!(sent(&post), (1..=40).collect::<Vec<_>>());
    assert_eq!(dead(&tester), []);
    Ok(())
}

#[test]
fn what_is_refused_for_good_is_put_aside_at_once() -> Done {
    let post = Arc::new(FakePost { refused: vec![2], ..FakePost::default() });
    let tester = started(&post)?;
    push(&tester, &orders(3))?;
    tester.drain()?;
    assert_eq!((sent(&post), post.attempts.lock().unwrap()[&2]), (vec![1, 3], 1));
    assert_eq!(dead(&tester), [("2".to_owned(), "the mail is refused for good: no such mailbox".to_owned())]);
    Ok(())
}
