//! What happens in the demo, for pages that watch: each gets what there is when it comes, and then every event.
//!
//! Invariant: an event is sent under the lock that it changes the state by, so that a page misses none and gets none twice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use shop::{Find, Product, Recommendation};
use tokio::sync::broadcast;
use tokio::time::Instant;

/// How many of each a page gets when it comes.
const PRODUCTS: usize = 10;
const SEARCHES: usize = 5;
const PER_USER: usize = 4;

/// Users that are shown; whoever has not been heard of for longest goes.
const USERS: usize = 12;

/// Products come too fast to be read: one in this time is shown, and the others are counted.
const BREATH: Duration = Duration::from_millis(280);

/// An event: its name, and its data in JSON.
pub(crate) type Event = (&'static str, Arc<str>);

/// The state, and whoever watches it.
pub(crate) struct Live {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) products: u64,
    pub(crate) passed: u64,
    pub(crate) left: u64,
    pub(crate) searches: u64,
    pub(crate) recommendations: u64,
    pub(crate) table: usize,
}

#[derive(Default, Serialize)]
struct State {
    counts: Counts,
    rule: String,
    products: VecDeque<Item>,
    searches: VecDeque<Search>,
    /// By user, the one that was heard of last at the end.
    users: Vec<OfUser>,
    #[serde(skip)]
    shown_at: Option<Instant>,
    /// The names of what is in the filter's table, by id.
    #[serde(skip)]
    table: BTreeMap<String, String>,
}

#[derive(Clone, Serialize)]
struct Item {
    id: String,
    name: String,
    brand: String,
    category: String,
    price: String,
    passed: bool,
}

#[derive(Clone, Serialize)]
struct Search {
    user: String,
    find: String,
}

#[derive(Clone, Serialize)]
struct OfUser {
    user: String,
    /// How many there were in all.
    count: u64,
    recommendations: VecDeque<Hit>,
}

#[derive(Clone, Serialize)]
struct Hit {
    user: String,
    find: String,
    product: Item,
}

impl Item {
    /// One that is no longer what it was called.
    fn gone(id: &str, name: &str) -> Self {
        let (id, name, none) = (id.to_owned(), name.to_owned(), String::new);
        Self { id, name, brand: none(), category: none(), price: none(), passed: false }
    }

    fn of(product: &Product) -> Self {
        Self {
            id: product.product_id.clone(),
            name: product.name.clone(),
            brand: product.brand.clone(),
            category: product.category.clone(),
            price: format!("{} {}", product.price.amount, product.price.currency),
            passed: true,
        }
    }
}

impl Live {
    pub(crate) fn new(rule: String) -> Self {
        Self { state: Mutex::new(State { rule, ..State::default() }), events: broadcast::Sender::new(1024) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, name: &'static str, data: &impl Serialize) {
        // Without a page nobody listens.
        if self.events.receiver_count() > 0
            && let Some(event) = event(name, data)
        {
            _ = self.events.send(event);
        }
    }

    /// What there is now, and all that comes from now on.
    pub(crate) fn watch(&self) -> (Option<Event>, broadcast::Receiver<Event>) {
        let state = self.state();
        (event("all", &*state), self.events.subscribe())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }

    pub(crate) fn rule(&self) -> String {
        self.state().rule.clone()
    }

    /// So many products are written.
    pub(crate) fn written(&self, products: u64) {
        let mut state = self.state();
        state.counts.products = products;
        self.send("counts", &state.counts);
    }

    /// The filter's table has changed. The name of what left it.
    pub(crate) fn updated(&self, id: &str, product: Option<&Product>) -> Option<String> {
        let mut state = self.state();
        let (item, was) = if let Some(product) = product {
            state.counts.passed += 1;
            state.table.insert(id.to_owned(), product.name.clone());
            (Item::of(product), None)
        } else {
            state.counts.left += 1;
            let name = state.table.remove(id).unwrap_or_default();
            (Item::gone(id, &name), Some(name))
        };
        state.counts.table = state.table.len();
        let now = Instant::now();
        if product.is_none() || state.shown_at.is_none_or(|at| now >= at + BREATH) {
            state.shown_at = Some(now);
            self.send("product", &item);
            push(&mut state.products, item, PRODUCTS);
        }
        was
    }

    /// A rule holds.
    pub(crate) fn ruled(&self, rule: String) {
        let mut state = self.state();
        state.rule = rule;
        self.send("rule", &state.rule);
    }

    /// Somebody searches.
    pub(crate) fn searched(&self, find: &Find) {
        let mut state = self.state();
        state.counts.searches += 1;
        let search = Search { user: find.user_id.clone(), find: find.find.clone() };
        self.send("search", &search);
        push(&mut state.searches, search, SEARCHES);
    }

    /// A product was found for somebody.
    pub(crate) fn recommended(&self, recommendation: &Recommendation) {
        let Recommendation { user_id: Some(user), find: Some(find), product, .. } = recommendation else { return };
        let mut state = self.state();
        state.counts.recommendations += 1;
        let hit = Hit { user: user.clone(), find: find.clone(), product: Item::of(product) };
        self.send("recommendation", &hit);
        let known = state.users.iter().position(|u| u.user == *user).map(|at| state.users.remove(at));
        let mut of = known.unwrap_or_else(|| OfUser { user: user.clone(), count: 0, recommendations: VecDeque::new() });
        of.count += 1;
        // Who searches again for the same is not shown it twice.
        of.recommendations.retain(|other| other.product.id != hit.product.id);
        push(&mut of.recommendations, hit, PER_USER);
        state.users.push(of);
        if state.users.len() > USERS {
            state.users.remove(0);
        }
    }

    /// A name that is in the filter's table, chosen by a number.
    pub(crate) fn some_name(&self, number: u64) -> Option<String> {
        let state = self.state();
        let at = number.checked_rem(state.table.len() as u64)?;
        state.table.values().nth(usize::try_from(at).ok()?).cloned()
    }

    /// Names in the filter's table that contain a text, whatever the case, some of them.
    pub(crate) fn names(&self, part: &str, most: usize) -> Vec<String> {
        let part = part.trim().to_lowercase();
        let state = self.state();
        let mut names: Vec<_> = state.table.values().filter(|n| n.to_lowercase().contains(&part)).cloned().collect();
        drop(state);
        names.sort_unstable();
        names.dedup();
        names.truncate(most);
        names
    }
}

fn push<T>(to: &mut VecDeque<T>, item: T, most: usize) {
    to.push_front(item);
    to.truncate(most);
}

fn event(name: &'static str, data: &impl Serialize) -> Option<Event> {
    match serde_json::to_string(data) {
        Ok(json) => Some((name, json.into())),
        Err(error) => {
            tracing::error!(%error, name, "an event has no JSON");
            None
        }
    }
}
