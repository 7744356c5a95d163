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

/// Invariant: `matcher` is made of the last rule that made sense, which is `asked` unless that is an error.
struct Known {
    /// What the topic says; an error if that is no rule.
    asked: Result<Option<Rule>, String>,
    matcher: Arc<Matcher>,
}

impl Judge {
    fn matcher(&self, ctx: &mut Ctx<'_, Table<Product>>) -> Result<Arc<Matcher>, CallbackError> {
        let asked = self.read(ctx, RULE_KEY)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|k| k.asked == asked) {
            return Ok(Arc::clone(&known.matcher));
        }
        let matcher = Arc::new(match ready(&asked) {
            Ok(matcher) => {
                tracing::info!(rule = %in_words(&asked), "the filter's rule");
                self.keep(ctx, asked.as_ref().ok().and_then(Option::as_ref))?;
                matcher
            }
            Err(reason) => {
                let kept = self.read(ctx, LAST_GOOD_KEY)?;
                tracing::warn!(reason, kept = %in_words(&kept), "the rule in the topic is bad: the last good one stays");
                match known.as_ref() {
                    Some(known) => Matcher::clone(&known.matcher),
                    None => ready(&kept).unwrap_or(Matcher::All),
                }
            }
        });
        *known = Some(Known { asked, matcher: Arc::clone(&matcher) });
        Ok(matcher)
    }

    /// What the topic has under a key. A value that is no rule is not the record's fault, so not an error of it.
    fn read(
        &self,
        ctx: &mut Ctx<'_, Table<Product>>,
        key: &str,
    ) -> Result<Result<Option<Rule>, String>, CallbackError> {
        match ctx.lookup(self.rules, key) {
            Ok(rule) => Ok(Ok(rule)),
            Err(error) if matches!(error.failure(), Failure::DecodeTable { .. }) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Keeps a rule as the last good one, unless it is that already.
    fn keep(&self, ctx: &mut Ctx<'_, Table<Product>>, rule: Option<&Rule>) -> CallbackResult {
        match (self.read(ctx, LAST_GOOD_KEY)?, rule) {
            (Ok(kept), rule) if kept.as_ref() == rule => Ok(()),
            (_, Some(rule)) => ctx.emit(self.last_good, LAST_GOOD_KEY, rule),
            (_, None) => ctx.emit_nil(self.last_good, LAST_GOOD_KEY),
        }
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
