//! What the demo shows in the terminal: few lines, at a pace that can be read, with nothing left uncounted.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use processors_common::demo::Lasts;
use processors_common::say;
use shop::rule::Rule;
use shop::rules::SetRuleError;
use shop::topics::TopicNames;
use shop::{Find, Product, Recommendation};
use stream_core::group::table_topic;
use tokio::time::{Instant, sleep};

use super::live::Live;

pub(crate) const PROMPT: &str = "Filter product name contain: ";

/// Products are shown no faster than one in this time, and so are searches with what they found; the others are only
/// counted.
const BREATH: Duration = Duration::from_millis(700);

/// From one line of counts to the next.
const PRINT_EVERY: Duration = Duration::from_secs(4);

/// Shows and counts.
pub(crate) struct Screen {
    pub(crate) live: Live,
    shown_at: Mutex<Shown>,
    colours: bool,
}

/// When what was shown last.
#[derive(Default)]
struct Shown {
    product: Option<Instant>,
    recommendation: Option<Instant>,
}

impl Screen {
    pub(crate) fn new() -> Arc<Self> {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Arc::new(Self { live: Live::new(Rule::typed("").to_string()), shown_at: Mutex::default(), colours })
    }

    pub(crate) fn begin(&self, names: &TopicNames, page: SocketAddr, lasts: Lasts) {
        say(format_args!(
            "A shop writes 30 products a second to the topic {products}. A processor keeps those whose name passes\n\
             a filter in its table, {table}. Users search, in {searches};\n\
             another processor joins the two where a name is what was searched for, and writes what is recommended to whom to\n\
             {recom}. All of it runs in this process, on a log in memory: no Kafka is needed. {end}\n\
             \n\
             See it, and join in:  {page}\n\
             \n\
             Now everything passes. Type a word and Enter, while it runs, to change that:\n\
             \n    lamp           names that contain it\n    \
             /^S.*lamp$/    names that match a regular expression\n    \
             (nothing)      everything passes again\n    \
             ?Quiet oak desk    is a search of yours\n\
             \n\
             {plus} a product passed and is in the table    {minus} it was renamed, no longer passes, and left the table\n\
             {star} a user gets to know of a product that was searched for\n",
            products = names.product_topic,
            table = table_topic(&names.filter_group),
            searches = names.find_topic,
            recom = names.recom_topic,
            end = lasts.in_words(),
            page = self.coloured("1;4", &format!("http://{page}/")),
            plus = self.coloured("32", "+"),
            minus = self.coloured("31", "-"),
            star = self.coloured("33", "*"),
        ));
    }

    /// Whether it is time to show another of a kind.
    fn breathe(&self, of: impl FnOnce(&mut Shown) -> &mut Option<Instant>) -> bool {
        let mut shown = self.shown_at.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, now) = (of(&mut shown), Instant::now());
        let due = at.is_none_or(|at| now >= at + BREATH);
        if due {
            *at = Some(now);
        }
        due
    }

    /// The filter's table has changed.
    pub(crate) fn updated(&self, id: &str, product: Option<&Product>) {
        let was = self.live.updated(id, product);
        match product {
            None => say(format_args!("{} {id}  was {}", self.coloured("31", "-"), was.unwrap_or_default())),
            Some(product) if self.breathe(|s| &mut s.product) => say(format_args!(
                "{} {id}  {:<32} {:>6} {}",
                self.coloured("32", "+"),
                product.name,
                product.price.amount,
                product.price.currency
            )),
            Some(_) => {}
        }
    }

    /// Somebody searches.
    pub(crate) fn searched(&self, find: &Find) {
        self.live.searched(find);
    }

    /// A product was found for somebody.
    pub(crate) fn recommended(&self, recommendation: &Recommendation) {
        self.live.recommended(recommendation);
        if self.breathe(|s| &mut s.recommendation) {
            let user = recommendation.user_id.as_deref().unwrap_or_default();
            let Product { product_id, name, price, .. } = &recommendation.product;
            let star = self.coloured("33", "*");
            let (amount, currency) = (price.amount, &price.currency);
            say(format_args!(
                "{star} {product_id}  {name:<32} {amount:>6} {currency}  for {user}, who searched for it"
            ));
        }
    }

    /// A rule was set, or not.
    pub(crate) fn ruled(&self, outcome: &Result<Rule, SetRuleError>) {
        match outcome {
            Ok(rule) => {
                self.live.ruled(rule.to_string());
                say(self.coloured("1", &format!("  from now on: {rule}")));
            }
            Err(error) => say(self.coloured("31", &format!("  {error}; the old rule stays"))),
        }
    }

    /// Prints the counts now and then, for ever.
    pub(crate) async fn keep_printing(&self) {
        loop {
            sleep(PRINT_EVERY).await;
            let counts = self.live.counts();
            let line = format!(
                "  {} products, {} passed, {} in the table; {} searches, {} recommendations; rule: {}",
                counts.products,
                counts.passed,
                counts.table,
                counts.searches,
                counts.recommendations,
                self.live.rule()
            );
            say(self.coloured("2", &line));
        }
    }

    /// The summary. Its last line is for scripts.
    pub(crate) fn end(&self, products: u64) {
        let counts = self.live.counts();
        let (passed, searches, recommendations) = (counts.passed, counts.searches, counts.recommendations);
        say(format_args!(
            "\n{products} products were written and judged: {passed} passed, {left} left the table again, which holds {held} \
             now.\n{searches} searches found {recommendations} recommendations.\n\
             The same on a real Kafka: make kafka-up; make product-filter; make personal-recommendations; make shop; make \
             search-prompt\n\
             demo: products={products} passed={passed} searches={searches} recommendations={recommendations}",
            left = counts.left,
            held = counts.table,
        ));
    }

    fn coloured(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
