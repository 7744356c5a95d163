//! What the demo shows: few lines, at a pace that can be read, with nothing left uncounted.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use processors_common::say;
use shop::Product;
use shop::rule::Rule;
use shop::rules::SetRuleError;
use shop::topics::TopicNames;
use stream_core::group::table_topic;
use tokio::time::{Instant, sleep};

pub(crate) const PROMPT: &str = "Filter product name contain: ";

/// Products are shown no faster than one in this time; the others are only counted.
const BREATH: Duration = Duration::from_millis(350);

/// From one line of counts to the next.
const TELL_EVERY: Duration = Duration::from_secs(4);

/// Shows and counts.
pub(crate) struct Screen {
    counts: Mutex<Counts>,
    colours: bool,
}

#[derive(Default)]
struct Counts {
    products: u64,
    passed: u64,
    left: u64,
    /// Passed since the last line of counts, without being shown.
    unshown: u64,
    shown_at: Option<Instant>,
    /// The names of what is in the table, by id.
    table: BTreeMap<String, String>,
    rule: String,
}

impl Screen {
    pub(crate) fn new() -> Arc<Self> {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let counts = Counts { rule: Rule::typed("").to_string(), ..Counts::default() };
        Arc::new(Self { counts: Mutex::new(counts), colours })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, names: &TopicNames, for_: Option<Duration>) {
        let end =
            for_.map_or("Ctrl-C ends it.".into(), |t| format!("It ends after {}.", humantime::format_duration(t)));
        say(format_args!(
            "A shop writes 30 products a second to the topic {products}. A processor reads them, and keeps those\n\
             whose name passes a filter in its table, {table}. Both run in this\n\
             process, on a log in memory: no Kafka is needed. {end}\n\
             \n\
             Now everything passes. Type a word and Enter, while it runs, to change that:\n\
             \n    lamp           names that contain it\n    \
             /^S.*lamp$/    names that match a regular expression\n    \
             (nothing)      everything passes again\n\
             \n\
             {plus} a product passed and is in the table    {minus} it was renamed, no longer passes, and left the table\n",
            products = names.product_topic,
            table = table_topic(&names.filter_group),
            plus = self.coloured("32", "+"),
            minus = self.coloured("31", "-"),
        ));
    }

    /// So many products are written.
    pub(crate) fn written(&self, products: u64) {
        self.counts().products = products;
    }

    /// The table has changed.
    pub(crate) fn updated(&self, id: &str, product: Option<&Product>) {
        let mut counts = self.counts();
        let Some(product) = product else {
            counts.left += 1;
            let was = counts.table.remove(id).unwrap_or_default();
            drop(counts);
            return say(format_args!("{} {id}  was {was}", self.coloured("31", "-")));
        };
        counts.passed += 1;
        counts.table.insert(id.to_owned(), product.name.clone());
        let now = Instant::now();
        if counts.shown_at.is_some_and(|at| now < at + BREATH) {
            counts.unshown += 1;
            return;
        }
        counts.shown_at = Some(now);
        drop(counts);
        say(format_args!(
            "{} {id}  {:<32} {:>6} {}",
            self.coloured("32", "+"),
            product.name,
            product.price.amount,
            product.price.currency
        ));
    }

    /// A rule was set, or not.
    pub(crate) fn ruled(&self, outcome: Result<Rule, SetRuleError>) {
        match outcome {
            Ok(rule) => {
                self.counts().rule = rule.to_string();
                say(self.coloured("1", &format!("  from now on: {rule}")));
            }
            Err(error) => say(self.coloured("31", &format!("  {error}; the old rule stays"))),
        }
    }

    /// Tells the counts now and then, for ever.
    pub(crate) async fn keep_telling(&self) {
        loop {
            sleep(TELL_EVERY).await;
            let line = {
                let mut counts = self.counts();
                let unshown = std::mem::take(&mut counts.unshown);
                let more = if unshown > 0 { format!(" ({unshown} of the last not shown)") } else { String::new() };
                format!(
                    "  {} products, {} passed{more}, {} in the table; rule: {}",
                    counts.products,
                    counts.passed,
                    counts.table.len(),
                    counts.rule
                )
            };
            say(self.coloured("2", &line));
        }
    }

    /// The summary. Its last line is for scripts.
    pub(crate) fn end(&self, products: u64) {
        let counts = self.counts();
        say(format_args!(
            "\n{products} products were written and judged: {} passed, {} left the table again, which holds {} now.\n\
             The same on a real Kafka: make kafka-up; make product-filter; make shop\n\
             demo: products={products} passed={}",
            counts.passed,
            counts.left,
            counts.table.len(),
            counts.passed
        ));
    }

    fn coloured(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
