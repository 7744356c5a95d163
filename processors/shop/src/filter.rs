//! The filter: products whose name passes the rule are the group's table.
//!
//! The rule is read from a compacted control topic, so that it survives a restart and all instances agree. A product is
//! judged by the rule that is known when it is processed; a change touches no product before it is sent again.

use std::sync::{Arc, Mutex, PoisonError};

use stream_core::codec::Json;
use stream_core::context::Ctx;
use stream_core::group::{CallbackError, CallbackResult, Failure, Group, GroupBuilder, Lookup, Output, Table};

use crate::codec::ProductCodec;
use crate::product::Product;
use crate::rule::{Matcher, Rule};
use crate::topics::TopicNames;

/// The key in the control topic under which the rule lies. No value: no rule, everything passes.
pub const RULE_KEY: &str = "filter";

/// The key under which the filter itself keeps the last rule that made sense, so that a bad one, written by some other
/// client, does no harm even across a restart.
pub const LAST_GOOD_KEY: &str = "filter.last-good";

/// Defines the group.
pub fn define(names: &TopicNames, codec: ProductCodec) -> GroupBuilder<Table<Product>> {
    let mut g = Group::define(names.filter_group.as_str()).table(Arc::clone(&codec));
    let judge = Judge {
        rules: g.lookup(names.rules_topic.as_str(), Json::<Rule>::new()),
        last_good: g.output(names.rules_topic.as_str(), Json::<Rule>::new()),
        known: Mutex::default(),
    };
    g.input(&names.product_topic, codec, move |ctx, product| {
        if judge.matcher(ctx)?.passes(&product.name) {
            ctx.set(product)
        } else if ctx.has_value()? {
            // It passed once and no longer does.
            ctx.delete()
        } else {
            Ok(())
        }
    });
    g
}

/// Knows the rule. It is asked for each product, and made ready (a pattern is compiled) once for each change.
struct Judge {
    rules: Lookup<Rule>,
    last_good: Output<Rule>,
    known: Mutex<Option<Known>>,
}

/// Invariant: `rule` is the last one that made sense, which is `asked` unless that is an error; `matcher` is made of it.
struct Known {
    /// What the topic says; an error if that is no rule.
    asked: Result<Option<Rule>, String>,
    rule: Option<Rule>,
    matcher: Arc<Matcher>,
    keeping: Keeping,
}

/// Whether the rule is kept as the last good one. An emit is discarded with its transaction, so that only the topic shows it.
#[derive(Clone, Copy)]
enum Keeping {
    /// It is seen in the topic, or there is nothing to keep.
    Seen,
    /// The product at this place had it written, at this time.
    Emitted { partition: i32, offset: i64, at_ms: i64 },
}

/// How long to wait for a rule that was emitted to be seen.
const SEEN_WITHIN_MS: i64 = 1000;

impl Judge {
    fn matcher(&self, ctx: &mut Ctx<'_, Table<Product>>) -> Result<Arc<Matcher>, CallbackError> {
        let asked = self.read(ctx, RULE_KEY)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_mut().filter(|k| k.asked == asked) {
            self.keep(ctx, known)?;
            return Ok(Arc::clone(&known.matcher));
        }
        let (rule, matcher, keeping) = match (ready(&asked), known.take()) {
            (Ok(matcher), _) => {
                tracing::info!(rule = %in_words(&asked), "the filter's rule");
                let keeping = Keeping::Emitted { partition: -1, offset: 0, at_ms: i64::MIN };
                (asked.clone().unwrap_or_default(), Arc::new(matcher), keeping)
            }
            (Err(reason), before) => {
                let kept = self.read(ctx, LAST_GOOD_KEY)?;
                tracing::warn!(reason, kept = %in_words(&kept), "the rule in the topic is bad: the last good one stays");
                if let Some(Known { rule, matcher, keeping, .. }) = before {
                    (rule, matcher, keeping)
                } else {
                    let matcher = ready(&kept).unwrap_or(Matcher::All);
                    (kept.unwrap_or_default(), Arc::new(matcher), Keeping::Seen)
                }
            }
        };
        let known = known.insert(Known { asked, rule, matcher, keeping });
        self.keep(ctx, known)?;
        Ok(Arc::clone(&known.matcher))
    }

    /// What the topic has under a key. A value that is no rule is not the record's fault, so not an error of it.
    fn read(
        &self,
        ctx: &mut Ctx<'_, Table<Product>>,
        key: &str,
    ) -> Result<Result<Option<Rule>, String>, CallbackError> {
        match ctx.lookup(self.rules, key) {
            Ok(rule) => Ok(Ok(rule)),
            Err(error) if matches!(error.failure(), Failure::DecodeTable { .. }) => Ok(Err(format!("{error:#}"))),
            Err(error) => Err(error),
        }
    }

    /// Sees to it that a good rule is kept as the last good one.
    fn keep(&self, ctx: &mut Ctx<'_, Table<Product>>, known: &mut Known) -> CallbackResult {
        let Keeping::Emitted { partition, offset, at_ms } = known.keeping else { return Ok(()) };
        if self.read(ctx, LAST_GOOD_KEY)?.as_ref() == Ok(&known.rule) {
            known.keeping = Keeping::Seen;
            return Ok(());
        }
        let now_ms = ctx.now_ms();
        // A product that is processed again: what it emitted was discarded.
        let again = ctx.partition() == partition && ctx.offset() <= offset;
        if !again && now_ms.saturating_sub(at_ms) < SEEN_WITHIN_MS {
            return Ok(());
        }
        match &known.rule {
            Some(rule) => ctx.emit(self.last_good, LAST_GOOD_KEY, rule)?,
            None => ctx.emit_tombstone(self.last_good, LAST_GOOD_KEY)?,
        }
        known.keeping = Keeping::Emitted { partition: ctx.partition(), offset: ctx.offset(), at_ms: now_ms };
        Ok(())
    }
}

fn ready(asked: &Result<Option<Rule>, String>) -> Result<Matcher, String> {
    match asked {
        Ok(None) => Ok(Matcher::All),
        Ok(Some(rule)) => Matcher::new(rule).map_err(|e| e.to_string()),
        Err(reason) => Err(reason.clone()),
    }
}

fn in_words(asked: &Result<Option<Rule>, String>) -> String {
    match asked {
        Ok(Some(rule)) => rule.to_string(),
        Ok(None) | Err(_) => "no rule, everything passes".into(),
    }
}
